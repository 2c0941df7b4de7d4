//! The memory that survives a restart: the highest epoch and base id that this node has seen, in a
//! file. With it, a process that starts after a restore notices that the database went backwards.
//!
//! The file is a help and never an obstacle: one that is missing, torn or of another node is a
//! warning. It is written by a thread of its own, by rename, so that the event loop never waits for
//! a disk. A path that leads to a device or a pipe is refused: reading one may never end, and to
//! write by rename would replace it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::counter::{Epoch, Memory};
use crate::moment::Moment;
use crate::ticket::Numbering;
use crate::{file, limits};

/// How often the file is written at most.
const INTERVAL: Duration = Duration::from_secs(1);
/// A memory that waits to be written; a newer one takes the next turn.
const WAITING_MAX: usize = 1;

/// Writes the file.
#[derive(Debug)]
pub struct StateFile {
    memories: SyncSender<Memory>,
    last: Memory,
    due: Moment,
    /// The last one could not be written.
    failed: Arc<AtomicBool>,
    /// Its other end is dropped with the thread.
    written: Receiver<()>,
}

impl StateFile {
    /// Starts the thread that writes to `path`.
    pub fn start(path: PathBuf, numbering: Numbering, known: Memory) -> io::Result<StateFile> {
        let (memories, receiver) = mpsc::sync_channel::<Memory>(WAITING_MAX);
        let (running, written) = mpsc::channel::<()>();
        let failed = Arc::new(AtomicBool::new(false));
        let has_failed = Arc::clone(&failed);
        let work = move || {
            let _running = running;
            for memory in receiver {
                let written = write(&path, &numbering, memory);
                let failed_before = has_failed.swap(written.is_err(), Ordering::Relaxed);
                match written {
                    Err(error) if !failed_before => log::warn!(
                        "cannot write TICKR_STATE_FILE ({}: {error}); a restart will not remember \
                         the counter. Make the folder writable, or choose another path",
                        path.display()
                    ),
                    Ok(()) if failed_before => log::info!("TICKR_STATE_FILE is written again"),
                    _ => {}
                }
            }
        };
        thread::Builder::new()
            .name("tickr-state".to_owned())
            .spawn(work)?;
        Ok(StateFile {
            memories,
            last: known,
            due: Moment::default(),
            failed,
            written,
        })
    }

    /// Hands a memory over, if the file has another one and the last one was a while ago.
    pub fn remember(&mut self, memory: Memory, now: Moment) {
        // A disk that hangs costs memories, and nothing else.
        if self.lacks(memory) && self.due <= now && self.memories.try_send(memory).is_ok() {
            self.last = memory;
            self.due = now + INTERVAL;
        }
    }

    /// Hands the last memory of the process over, and waits for the disk, but not for ever.
    pub fn finish(self, memory: Memory) {
        if self.lacks(memory) {
            let _ = self.memories.try_send(memory);
        }
        drop(self.memories);
        // The thread ends when it has written everything.
        let _ = self.written.recv_timeout(limits::STATE_FILE_STOP_GRACE);
    }

    fn lacks(&self, memory: Memory) -> bool {
        memory != self.last || self.failed.load(Ordering::Relaxed)
    }
}

/// What the file remembers; nothing, with a warning, when it can't be used.
pub fn read(path: &Path, numbering: &Numbering) -> Memory {
    let text = match text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Memory::default(),
        Err(error) => {
            ignored(path, &error.to_string());
            return Memory::default();
        }
    };
    match parse(&text, numbering) {
        Ok(memory) => memory,
        Err(reason) => {
            ignored(path, reason);
            Memory::default()
        }
    }
}

fn text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let file = file::open(&place(path)?)?;
    file.take(limits::STATE_FILE_BYTES_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

/// Where the file is, or will be: the end of a symbolic link, and a regular file.
fn place(path: &Path) -> io::Result<PathBuf> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path.to_owned()),
        found => found?,
    };
    let path = fs::canonicalize(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::other("it is a symbolic link that leads nowhere"),
        _ => error,
    })?;
    match fs::metadata(&path)?.is_file() {
        true => Ok(path),
        false => Err(io::Error::other("it is not a regular file")),
    }
}

fn ignored(path: &Path, reason: &str) {
    log::warn!(
        "ignoring TICKR_STATE_FILE ({}: {reason}); a restore of the database before this start \
         would not be noticed by this process",
        path.display()
    );
}

fn parse(text: &str, numbering: &Numbering) -> Result<Memory, &'static str> {
    let state: Value = serde_json::from_str(text).map_err(|_| "it is not JSON")?;
    let number = |key: &str| {
        state
            .get(key)
            .and_then(Value::as_u64)
            .ok_or("a number is missing")
    };
    let node = Numbering::new(
        number("max_nodes")?,
        number("starting_offset")?,
        number("node_number")?,
    );
    if node != Ok(*numbering) {
        return Err("it belongs to another node");
    }
    Ok(Memory {
        epoch: Epoch {
            number: number("epoch")?,
            tag: number("epoch_tag")?,
        },
        id: number("base_id")?,
    })
}

fn write(path: &Path, numbering: &Numbering, memory: Memory) -> io::Result<()> {
    let state = json!({
        "max_nodes": numbering.max_nodes(),
        "starting_offset": numbering.starting_offset(),
        "node_number": numbering.node_number(),
        "epoch": memory.epoch.number,
        "epoch_tag": memory.epoch.tag,
        "base_id": memory.id,
    });
    let path = place(path)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut file = File::create(&new)?;
    writeln!(file, "{state}")?;
    file.sync_all()?;
    fs::rename(&new, path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_was_written_is_read_and_nothing_else_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let numbering = Numbering::new(4, 1, 0).unwrap();
        assert_eq!(read(&path, &numbering), Memory::default());
        let memory = Memory {
            epoch: Epoch {
                number: 3,
                tag: u64::MAX,
            },
            id: u64::MAX - 1,
        };
        write(&path, &numbering, memory).unwrap();
        assert_eq!(read(&path, &numbering), memory);
        let other = Numbering::new(4, 1, 1).unwrap();
        assert_eq!(read(&path, &other), Memory::default());
        let whole = fs::read_to_string(&path).unwrap();
        for end in 0..whole.trim_end().len() {
            fs::write(&path, &whole[..end]).unwrap();
            assert_eq!(read(&path, &numbering), Memory::default(), "{end}");
        }
    }

    #[test]
    fn what_could_not_be_written_is_written_later() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("later").join("state");
        let numbering = Numbering::new(4, 1, 0).unwrap();
        let memory = Memory {
            id: 7,
            ..Memory::default()
        };
        let mut file = StateFile::start(path.clone(), numbering, Memory::default()).unwrap();
        file.remember(memory, Moment::default() + INTERVAL);
        while !file.failed.load(Ordering::Relaxed) {
            thread::yield_now();
        }
        fs::create_dir(folder.path().join("later")).unwrap();
        file.finish(memory);
        assert_eq!(read(&path, &numbering), memory);
    }

    #[test]
    fn what_is_no_regular_file_is_neither_read_nor_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [device, lost, link, file] =
            ["device", "lost", "link", "file"].map(|name| folder.path().join(name));
        let numbering = Numbering::new(4, 1, 0).unwrap();
        let memory = Memory {
            id: 7,
            ..Memory::default()
        };
        symlink("/dev/zero", &device).unwrap();
        symlink("nowhere", &lost).unwrap();
        for path in [&device, &lost, &folder.path().to_owned()] {
            assert_eq!(read(path, &numbering), Memory::default());
            assert!(write(path, &numbering, memory).is_err(), "{path:?}");
        }
        for link in [&device, &lost] {
            assert!(fs::symlink_metadata(link).unwrap().is_symlink());
        }
        // A link to a file stays one: what it leads to is on the disk that was chosen for it.
        symlink("file", &link).unwrap();
        write(&file, &numbering, Memory::default()).unwrap();
        write(&link, &numbering, memory).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(read(&file, &numbering), memory);
    }

    #[test]
    fn a_file_is_read_up_to_its_bound() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state");
        let huge = File::create(&path).unwrap();
        huge.set_len(1 << 40).unwrap();
        assert_eq!(
            text(&path).unwrap().len() as u64,
            limits::STATE_FILE_BYTES_MAX
        );
    }
}
