//! The real binary on a file system that is small, and gets full in earnest.
//!
//! Who has the right to mount (`CAP_SYS_ADMIN`) must be able to, and `HOOKLOG_SMALL_DISK=off` leaves these
//! tests out. Others mount in a namespace of their own; where they may not make one, as in most
//! containers, the tests are left out and say so.

use std::{
    fs::{self, File},
    io::{self, BufRead as _, BufReader, Lines, Write as _},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
};

use hooklog::{
    clock::{Clock, SystemClock},
    testing::callback::{Answer, CallbackServer},
};
use serde_json::{Value, json};

use crate::{
    serve::{Client, Process, delivered, subscribed},
    support::{files::contents, process::assert_sound},
};

const DISK_BYTES: usize = 64 << 20;
/// What is removed when there is to be room again.
const BALLAST_BYTES: usize = 24 << 20;
const MESSAGE_BYTES: usize = 16 << 10;
const BATCH: usize = 20;

/// A file system in memory of its own, there as long as a shell that sees it.
struct SmallDisk {
    shell: Child,
    says: Lines<BufReader<ChildStdout>>,
    place: tempfile::TempDir,
}

impl SmallDisk {
    /// `None` where this process may mount nothing, not even for itself, which is said.
    fn mounted() -> Option<Self> {
        if std::env::var("HOOKLOG_SMALL_DISK").is_ok_and(|asked| asked == "off") {
            left_out("HOOKLOG_SMALL_DISK is off");
            return None;
        }
        let by_itself = Self::mounted_in(&["--user", "--map-root-user", "--mount"]);
        if !may_mount() {
            if by_itself.is_none() {
                left_out("this user may mount nothing, not even for itself");
            }
            return by_itself;
        }
        let disk = by_itself.or_else(|| Self::mounted_in(&["--mount"]));
        assert!(
            disk.is_some(),
            "this process may mount (CAP_SYS_ADMIN) and could not; HOOKLOG_SMALL_DISK=off leaves \
             this out"
        );
        disk
    }

    /// One in the namespaces that `unshare` makes for these arguments.
    fn mounted_in(namespaces: &[&str]) -> Option<Self> {
        let mut shell = Command::new("unshare")
            .args(namespaces)
            .arg("sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .ok()?;
        let says = BufReader::new(shell.stdout.take().unwrap()).lines();
        let place = tempfile::tempdir().unwrap();
        let mut disk = Self { shell, says, place };
        let options = format!("-t tmpfs -o size={DISK_BYTES} none");
        disk.mount(&options).then_some(disk)
    }

    /// Whether the shell could mount something at its place.
    fn mount(&mut self, options: &str) -> bool {
        let command = format!(
            "mount {options} {} && echo mounted || echo not\n",
            self.place.path().display()
        );
        let asked = self
            .shell
            .stdin
            .as_mut()
            .unwrap()
            .write_all(command.as_bytes());
        asked.is_ok()
            && self
                .says
                .next()
                .is_some_and(|said| said.unwrap() == "mounted")
    }

    /// Its directory, as it is seen from elsewhere.
    fn path(&self) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.shell.id()));
        root.join(self.place.path().strip_prefix("/").unwrap())
    }

    fn bytes_free(&self) -> u64 {
        let found = rustix::fs::statvfs(self.path()).unwrap();
        found.f_bavail * found.f_frsize
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Takes what is left to the last byte.
    fn fill_up(&self) {
        let mut rest = File::create(self.path().join("rest")).unwrap();
        while rest.write_all(&[7; 4_096]).is_ok() {}
    }

    fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
        // It is there where the disk was filled up.
        let _ = fs::remove_file(self.path().join("rest"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.shell.kill();
        let _ = self.shell.wait();
    }
}

/// Whether this process has the right to mount.
fn may_mount() -> bool {
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let held = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .unwrap();
    u64::from_str_radix(held.trim(), 16).unwrap() & CAP_SYS_ADMIN != 0
}

/// Says that a test was left out where it is seen of one that passes too: what is printed is not.
fn left_out(why: &str) {
    let test = std::thread::current();
    let test = test.name().unwrap_or("a test");
    let mut told = io::stderr();
    writeln!(told, "left out: {test}: {why}").unwrap();
}

/// A batch that does not get smaller when it is compressed.
fn batch(clock: &SystemClock) -> Value {
    let content = || {
        let numbers = (0..MESSAGE_BYTES / 32).map(|_| format!("{:032x}", clock.entropy()));
        json!({"content": numbers.collect::<String>()})
    };
    (0..BATCH).map(|_| content()).collect()
}

async fn becomes(gateway: &Process, status: u16) -> String {
    loop {
        let answer = reqwest::get(format!("{}/readyz", gateway.url)).await;
        let answer = answer.unwrap();
        if answer.status() == status {
            return answer.text().await.unwrap();
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

/// Publishes until the disk is full, has room made and publishes once more: all that was taken arrives,
/// and the data directory holds together. `is_killed`: it is killed while its disk is full.
async fn full_and_with_room_again(free_bytes_min: u64, is_killed: bool) {
    let all = fill_and_make_room(free_bytes_min, is_killed);
    let all = tokio::time::timeout(std::time::Duration::from_secs(180), all).await;
    all.expect("it goes on");
}

async fn fill_and_make_room(free_bytes_min: u64, is_killed: bool) {
    let Some(disk) = SmallDisk::mounted() else {
        return;
    };
    fs::write(disk.ballast(), vec![7; BALLAST_BYTES]).unwrap();
    let data = disk.path().join("data");
    let config = format!("[log]\nsegment_bytes_max = 2000000\nfree_bytes_min = {free_bytes_min}\n");
    let callback = CallbackServer::start(SystemClock::shared(), |_| Answer::ok());
    let callback = callback.await.unwrap();
    let mut gateway = Process::try_start(Process::command(&data, &config)).unwrap();
    let client = Client::new(gateway.token.as_ref().unwrap());
    let api = subscribed(&gateway, &client, &callback).await;
    let clock = SystemClock::new();
    let mut accepted = Vec::new();
    let publish = async |gateway: &Process| {
        let path = format!("{}/v1/apis/{api}/messages", gateway.url);
        let answer = client.post(path, &batch(&clock)).await?;
        let messages = answer["messages"].as_array().unwrap().iter();
        let ids = messages.map(|message| message["id"].as_str().unwrap().to_owned());
        Some(ids.collect::<Vec<_>>())
    };
    while let Some(ids) = publish(&gateway).await {
        accepted.extend(ids);
    }
    assert!(accepted.len() > 20 * BATCH, "{}", accepted.len());
    let said = becomes(&gateway, 503).await;
    assert!(said.contains("no room"), "{said}");
    let wanted = || accepted.iter().cloned().collect();
    if free_bytes_min > 0 {
        // There is room for what comes of messages, though not for more of them.
        assert!(disk.bytes_free() > free_bytes_min / 4);
        arrive(&callback, &wanted()).await;
    } else {
        disk.fill_up();
        // The gateway may remove something meanwhile.
        assert!(disk.bytes_free() < 1 << 20);
    }
    if is_killed {
        gateway.kill();
        disk.make_room();
        gateway = Process::try_start(Process::command(&data, &config)).unwrap();
    } else {
        disk.make_room();
    }
    becomes(&gateway, 200).await;
    let more = publish(&gateway).await;
    let mut wanted = wanted();
    wanted.extend(more.expect("there is room"));
    arrive(&callback, &wanted).await;
    let ended = tokio::task::spawn_blocking(|| gateway.terminate());
    assert!(ended.await.unwrap().0.success());
    assert_sound(&data);
}

/// Waits until each of these messages has come.
async fn arrive(callback: &CallbackServer, wanted: &std::collections::BTreeSet<String>) {
    let mut seen = 0;
    while !wanted.is_subset(&delivered(callback)) {
        seen = callback.wait_for(seen + 1).await.len();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_refused_before_a_disk_is_full_and_those_taken_are_delivered_on_the_rest() {
    full_and_with_room_again(8 << 20, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_whose_disk_is_full_to_the_last_byte_goes_on_when_there_is_room() {
    full_and_with_room_again(0, false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_killed_on_a_full_disk_starts_again_when_there_is_room() {
    full_and_with_room_again(0, true).await;
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused_by_its_path_and_left_as_it_is() {
    let Some(mut disk) = SmallDisk::mounted() else {
        return;
    };
    let data = disk.path().join("data");
    let started = |data: &std::path::Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hooklog"));
        command
            .args([
                "serve",
                "--listen",
                "127.0.0.1:0",
                "--output",
                "json",
                "--data",
            ])
            .arg(data)
            .stdout(Stdio::piped());
        command
    };
    let (status, _) = Process::try_start(started(&data)).unwrap().terminate();
    assert!(status.success(), "{status}");
    let before = contents(&data);
    assert!(disk.mount("-o remount,ro"));
    for data in [data.clone(), disk.path().join("new")] {
        let refused = started(&data).output().unwrap();
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(matches!(refused.status.code(), Some(1 | 78)), "{refused:?}");
        assert!(said.contains(&*data.to_string_lossy()), "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
    }
    assert!(contents(&data) == before);
    assert!(disk.mount("-o remount,rw"));
    let (status, _) = Process::try_start(started(&data)).unwrap().terminate();
    assert!(status.success(), "{status}");
}
