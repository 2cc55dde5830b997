//! A gateway in a process of its own, that can be killed and started again.

use std::{
    collections::BTreeSet,
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;

/// A port of this machine that is free.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A served data directory.
pub(crate) struct Process {
    directory: PathBuf,
    command: String,
    pub(crate) port: u16,
    pub(crate) token: String,
    child: Child,
}

impl Process {
    /// Starts a gateway in this directory, by a line of a shell.
    pub(crate) fn start(directory: &Path, command: &str) -> Self {
        let port = free_port();
        let (child, token) = spawn(directory, command, port);
        Self {
            directory: directory.to_owned(),
            command: command.to_owned(),
            port,
            token: token.expect("a first start shows a token"),
            child,
        }
    }

    /// Starts a gateway that may call this machine.
    pub(crate) fn start_local(directory: &Path) -> Self {
        Self::start_local_with(directory, "")
    }

    /// Starts a gateway that may call this machine, with more configuration.
    pub(crate) fn start_local_with(directory: &Path, more: &str) -> Self {
        let config = "[egress]\nallow_http = true\nallow_private_cidrs = [\"127.0.0.1/32\"]\n";
        fs::write(directory.join("hooklog.toml"), format!("{config}{more}")).unwrap();
        Self::start(directory, "hooklog serve --config hooklog.toml")
    }

    /// Kills it with SIGKILL, and starts it again.
    pub(crate) fn kill_and_restart(&mut self) {
        self.stop();
        let (child, token) = spawn(&self.directory, &self.command, self.port);
        assert_eq!(token, None, "a token is shown at the first start alone");
        self.child = child;
    }

    /// Kills it with SIGKILL.
    pub(crate) fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn terminate(&mut self) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }

    /// A command against it.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = client(&self.directory);
        command
            .args(args)
            .env("HOOKLOG_SERVER", format!("http://127.0.0.1:{}", self.port))
            .env("HOOKLOG_TOKEN", &self.token);
        command
    }

    /// What a command against it does.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// The values that a command answers, which must succeed.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let output = self.run(&[args, &["--output", "json"]].concat());
        assert!(output.status.success(), "{args:?}: {output:?}");
        let text = String::from_utf8(output.stdout).unwrap();
        let values = text.lines().map(|line| serde_json::from_str(line).unwrap());
        values.collect()
    }

    /// Asks until the answer is as it should be.
    pub(crate) fn wait_for(&self, args: &[&str], is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        for _ in 0..600 {
            let values = self.json(args);
            if is_so(&values) {
                return values;
            }
            wait();
        }
        panic!("{args:?} never gave it: {:?}", self.json(args));
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may be killed already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Looks again and again until something is as it should be.
pub(crate) fn until<T>(look: impl Fn() -> Option<T>) -> T {
    for _ in 0..600 {
        if let Some(found) = look() {
            return found;
        }
        wait();
    }
    panic!("it never was as it should be");
}

/// Between two looks at another process, which tells nobody when it is done.
fn wait() {
    let (_sender, receiver) = std::sync::mpsc::channel::<()>();
    let _ = receiver.recv_timeout(Duration::from_millis(50));
}

/// The command, with nothing of this process's environment that it looks at.
pub(crate) fn client(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hooklog"));
    clean(&mut command, directory);
    command
}

/// Checks that a data directory that nobody holds is sound: the log, and every view against it.
pub(crate) fn assert_sound(data: &Path) {
    let verified = client(data).args(["verify", "--data"]).arg(data).output();
    let verified = verified.unwrap();
    assert!(verified.status.success(), "{verified:?}");
}

/// The first lines that a command says which never ends; then it is ended.
pub(crate) fn first_lines(command: &mut Command, count: usize) -> String {
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let lines: Vec<_> = lines.take(count).map(Result::unwrap).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(lines.len(), count, "{lines:?}");
    lines.join("\n")
}

/// Every command there is, by what each says of itself, as `logs show`. Those that have commands of
/// their own are not among them.
fn commands() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut asked: Vec<Vec<String>> = vec![Vec::new()];
    while let Some(command) = asked.pop() {
        let mut help = client(Path::new(env!("CARGO_MANIFEST_DIR")));
        let help = help.args(&command).arg("-h").output().unwrap();
        assert!(help.status.success(), "{command:?}: {help:?}");
        let help = String::from_utf8(help.stdout).unwrap();
        let own = help.split_once("\nCommands:\n").map_or("", |(_, own)| own);
        let own = own
            .lines()
            .take_while(|line| line.is_empty() || line.starts_with(' '));
        let names = own.filter_map(|line| {
            let name = line.strip_prefix("  ")?.split(' ').next()?;
            (!name.is_empty() && name != "help").then(|| name.to_owned())
        });
        let names: Vec<String> = names.collect();
        if names.is_empty() {
            found.insert(command.join(" "));
        }
        asked.extend(names.into_iter().map(|name| {
            let mut one = command.clone();
            one.push(name);
            one
        }));
    }
    assert!(found.len() > 25, "{found:?}");
    found
}

/// Checks that each command there is stands at the beginning of one of these lines, or among the
/// others, and that there are no others.
pub(crate) fn is_every_command<'a>(lines: impl IntoIterator<Item = &'a str>, others: &[&str]) {
    let commands = commands();
    let command_of = |line: &str| {
        let is_its = |command: &&String| {
            let rest = line.strip_prefix(command.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
        };
        let found = commands.iter().find(is_its);
        found.unwrap_or_else(|| panic!("there is no command {line:?}"))
    };
    let tried: BTreeSet<_> = lines.into_iter().map(command_of).collect();
    let others: BTreeSet<_> = others.iter().map(|name| command_of(name)).collect();
    for command in &commands {
        let is_once = tried.contains(command) != others.contains(command);
        assert!(
            is_once,
            "{command:?} is to be tried, or named among the others"
        );
    }
}

/// A shell that finds the command by its name.
pub(crate) fn shell(directory: &Path) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_hooklog"));
    let mut path = binary.parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    clean(&mut command, directory);
    command.env("PATH", path);
    command
}

fn clean(command: &mut Command, directory: &Path) {
    let own = std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("HOOKLOG"));
    for (name, _) in own {
        command.env_remove(name);
    }
    command.current_dir(directory);
}

/// Starts it, and waits until it serves. Gives the token that it showed, if it showed one.
fn spawn(directory: &Path, command: &str, port: u16) -> (Child, Option<String>) {
    let mut child = shell(directory)
        .args(["-c", &format!("exec {command}")])
        .env("HOOKLOG_LISTEN", format!("127.0.0.1:{port}"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut token = None;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        if let Some(shown) = line.strip_prefix("token ") {
            token = shown.split_whitespace().next().map(ToOwned::to_owned);
        }
        if line.starts_with("serving ") {
            return (child, token);
        }
    }
    panic!("it did not start: {:?}", child.wait());
}
