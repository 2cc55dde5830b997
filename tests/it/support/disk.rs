//! What a program did to its disk, written down by `tests/disk/disk.c`, and what a loss of power at any
//! moment could have left of it.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The library to be loaded before a program; compiled once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/disk/disk.c");
        let directory = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Under a name of its own first: another process may be using it.
        let (library, fresh) = (
            directory.join("disk.so"),
            directory.join(format!("disk.{}.so", std::process::id())),
        );
        let compiled = Command::new(env::var("CC").unwrap_or_else(|_| "cc".to_owned()))
            .args(["-shared", "-fPIC", "-O1", "-o"])
            .args([&fresh, &source])
            .args(["-ldl", "-lpthread"])
            .status()
            .unwrap();
        assert!(compiled.success());
        fs::rename(fresh, &library).unwrap();
        library
    })
}

/// Lets a program's disk fail below `root`, whenever a file in `faults` says so.
pub(crate) fn put_between(command: &mut Command, root: &Path, faults: &Path) {
    preload(command, root).env("DISK_FAULTS", faults);
}

/// Has what a program does below `root` written down in `trace`.
fn write_down(command: &mut Command, root: &Path, trace: &Path) {
    preload(command, root).env("DISK_TRACE", trace);
}

fn preload<'a>(command: &'a mut Command, root: &Path) -> &'a mut Command {
    command.env("LD_PRELOAD", library()).env("DISK_ROOT", root)
}

/// A directory in memory where there is one: for what is not about the real disk, and writes a lot.
pub(crate) fn in_memory() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

/// One thing that was done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Done {
    MadeFile,
    MadeDirectory,
    Written { at: u64, data: Vec<u8> },
    Cut { length: u64 },
    Renamed { to: PathBuf },
    RemovedFile,
    RemovedDirectory,
    SyncedFile,
    SyncedDirectory,
}

/// Something that was done to a path below the root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) path: PathBuf,
    pub(crate) done: Done,
}

/// What a test of this program did to its disk, run in a process of its own with these variables and
/// the directory that it is to work in.
pub(crate) fn trace_of(test: &str, directory: &str, more: &[(&str, String)]) -> Vec<Record> {
    let place = tempfile::tempdir().unwrap();
    let (root, trace) = (place.path().join("root"), place.path().join("trace"));
    fs::create_dir(&root).unwrap();
    let mut child = Command::new(env::current_exe().unwrap());
    child
        .args(["--exact", test, "--nocapture"])
        .env(directory, &root)
        .envs(more.iter().cloned())
        .stdout(Stdio::null());
    write_down(&mut child, &root, &trace);
    assert!(child.status().unwrap().success());
    read_trace(&trace)
}

/// Reads a trace.
fn read_trace(path: &Path) -> Vec<Record> {
    let bytes = fs::read(path).unwrap();
    let mut left = bytes.as_slice();
    let mut records = Vec::new();
    while !left.is_empty() {
        records.push(Record::read(&mut left).unwrap());
    }
    records
}

impl Record {
    fn read(from: &mut &[u8]) -> io::Result<Self> {
        let what = array::<1>(from)?[0];
        let path = path(bytes(from)?);
        let number = u64::from_ne_bytes(array(from)?);
        let data = bytes(from)?;
        let done = match what {
            b'C' => Done::MadeFile,
            b'M' => Done::MadeDirectory,
            b'W' => Done::Written { at: number, data },
            b'T' => Done::Cut { length: number },
            b'R' => Done::Renamed {
                to: self::path(data),
            },
            b'U' => Done::RemovedFile,
            b'D' => Done::RemovedDirectory,
            b'S' => Done::SyncedFile,
            b'Y' => Done::SyncedDirectory,
            other => panic!("a record of {other:?}"),
        };
        Ok(Self { path, done })
    }
}

fn array<const N: usize>(from: &mut &[u8]) -> io::Result<[u8; N]> {
    let mut array = [0; N];
    from.read_exact(&mut array)?;
    Ok(array)
}

fn bytes(from: &mut &[u8]) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; u32::from_ne_bytes(array(from)?) as usize];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn path(bytes: Vec<u8>) -> PathBuf {
    String::from_utf8(bytes).unwrap().into()
}

/// What of the things that were not synced a loss of power leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// All: the process was killed, the power stayed.
    All,
    /// Nothing.
    Nothing,
    /// Every name, and no data.
    Names,
    /// Every name, and of each file the last write alone, as if they had changed their order.
    LastWrites,
    /// Everything but the second half of the last write.
    TornWrite,
}

pub(crate) const LEFT: [Left; 5] = [
    Left::All,
    Left::Nothing,
    Left::Names,
    Left::LastWrites,
    Left::TornWrite,
];

#[derive(Debug, Clone)]
enum Change {
    Write(u64, Vec<u8>),
    Cut(u64),
}

impl Change {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Write(at, data) => {
                let at = usize::try_from(*at).unwrap();
                let end = at + data.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[at..end].copy_from_slice(data);
            }
            Self::Cut(length) => bytes.resize(usize::try_from(*length).unwrap(), 0),
        }
    }

    fn torn(&self) -> Self {
        match self {
            Self::Write(at, data) => Self::Write(*at, data[..data.len() / 2].to_vec()),
            Self::Cut(length) => Self::Cut(*length),
        }
    }
}

#[derive(Debug, Default)]
struct File {
    synced: Vec<u8>,
    changes: Vec<Change>,
}

type Names = BTreeMap<String, usize>;

#[derive(Debug)]
enum Node {
    File(File),
    Directory { now: Names, synced: Names },
}

/// A directory and all below it, as the program sees it and as the disk has it.
#[derive(Debug)]
pub(crate) struct Disk(Vec<Node>);

impl Disk {
    /// Nothing but the root.
    pub(crate) fn new() -> Self {
        Self(vec![directory()])
    }

    /// Goes on by what was done.
    pub(crate) fn follow(&mut self, record: &Record) {
        let path = &record.path;
        let is_of_file = matches!(
            record.done,
            Done::Written { .. } | Done::Cut { .. } | Done::SyncedFile
        );
        // Whoever has it open may go on with a file that was removed.
        if is_of_file && self.look(path).is_none() {
            return;
        }
        match &record.done {
            Done::MadeFile => self.add(path, Node::File(File::default())),
            Done::MadeDirectory => self.add(path, directory()),
            Done::Written { at, data } => self.change(path, Change::Write(*at, data.clone())),
            Done::Cut { length } => self.change(path, Change::Cut(*length)),
            Done::Renamed { to } => {
                let moved = self.names(path).remove(&name(path)).unwrap();
                self.names(to).insert(name(to), moved);
            }
            Done::RemovedFile | Done::RemovedDirectory => {
                self.names(path).remove(&name(path)).unwrap();
            }
            Done::SyncedFile => {
                let file = self.file(path);
                for change in std::mem::take(&mut file.changes) {
                    change.apply(&mut file.synced);
                }
            }
            Done::SyncedDirectory => {
                let at = self.find(path);
                if let Node::Directory { now, synced } = &mut self.0[at] {
                    synced.clone_from(now);
                }
            }
        }
    }

    /// The bytes of a file as the program sees them; empty where there is none.
    pub(crate) fn read(&self, path: &Path) -> Vec<u8> {
        match self.look(path) {
            Some(at) => match &self.0[at] {
                Node::File(file) => file.content(Left::All, false),
                Node::Directory { .. } => Vec::new(),
            },
            None => Vec::new(),
        }
    }

    /// Makes what a loss of power leaves now. `last` is what was done last.
    pub(crate) fn leave(&self, left: Left, last: &Record, target: &Path) {
        let torn = self.look(&last.path);
        self.leave_directory(0, left, torn, target);
    }

    fn leave_directory(&self, at: usize, left: Left, torn: Option<usize>, target: &Path) {
        fs::create_dir_all(target).unwrap();
        let Node::Directory { now, synced } = &self.0[at] else {
            panic!("not a directory");
        };
        let names = if left == Left::Nothing { synced } else { now };
        for (name, child) in names {
            let path = target.join(name);
            match &self.0[*child] {
                Node::Directory { .. } => self.leave_directory(*child, left, torn, &path),
                Node::File(file) => {
                    fs::write(path, file.content(left, torn == Some(*child))).unwrap();
                }
            }
        }
    }

    fn add(&mut self, path: &Path, node: Node) {
        self.0.push(node);
        let added = self.0.len() - 1;
        self.names(path).insert(name(path), added);
    }

    fn change(&mut self, path: &Path, change: Change) {
        self.file(path).changes.push(change);
    }

    fn file(&mut self, path: &Path) -> &mut File {
        let at = self.find(path);
        match &mut self.0[at] {
            Node::File(file) => file,
            Node::Directory { .. } => panic!("{} is a directory", path.display()),
        }
    }

    /// The names beside the last of a path.
    fn names(&mut self, path: &Path) -> &mut Names {
        let at = self.find(path.parent().unwrap());
        match &mut self.0[at] {
            Node::Directory { now, .. } => now,
            Node::File(_) => panic!("{} is in a file", path.display()),
        }
    }

    fn find(&self, path: &Path) -> usize {
        let found = self.look(path);
        found.unwrap_or_else(|| panic!("{} is not there", path.display()))
    }

    fn look(&self, path: &Path) -> Option<usize> {
        path.iter().try_fold(0, |at, name| match &self.0[at] {
            Node::Directory { now, .. } => now.get(name.to_str()?).copied(),
            Node::File(_) => None,
        })
    }
}

impl File {
    fn content(&self, left: Left, is_last: bool) -> Vec<u8> {
        let last = self.changes.last();
        let applied: Vec<Change> = match (left, last) {
            (Left::Nothing | Left::Names, _) | (_, None) => Vec::new(),
            (Left::LastWrites, Some(last)) => vec![last.clone()],
            (Left::TornWrite, Some(last)) if is_last => {
                let before = &self.changes[..self.changes.len() - 1];
                [before, &[last.torn()]].concat()
            }
            (Left::All | Left::TornWrite, Some(_)) => self.changes.clone(),
        };
        let mut bytes = self.synced.clone();
        for change in applied {
            change.apply(&mut bytes);
        }
        bytes
    }
}

fn directory() -> Node {
    Node::Directory {
        now: Names::new(),
        synced: Names::new(),
    }
}

fn name(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}
