//! Owns every touch of the file system: the log sees a flat directory of named files through two small
//! traits, so that tests can put a disk behind them that fails, fills up and loses power.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A directory. Names are relative to it.
pub(super) trait Disk: Send + Sync {
    /// Makes a new file, in place of one with this name.
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>>;
    /// Lists the names of the files, in no order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Gives a file another name, in place of one that has it.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Gives a file a second name in a directory below, which is made if need be.
    fn keep(&self, name: &str, below: &str) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes the names durable.
    fn sync_names(&self) -> io::Result<()>;
    /// Takes the directory's exclusive lock until the value is dropped.
    fn lock(&self, name: &str) -> Result<Box<dyn Send + Sync>, LockError>;
}

/// A file. Reading and writing go by position; what was written is durable after a sync.
pub(super) trait DiskFile: Send + Sync {
    /// Fills `buf` from `pos`; the end of the file within is an error.
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<()>;
    /// Writes all of `bytes` at `pos`. After an error any part may be written.
    fn write_at(&self, bytes: &[u8], pos: u64) -> io::Result<()>;
    /// Gives the size. Unit: bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts the file, or lengthens it with zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Sets space aside up to `bytes`, read as zeros, so that writing there needs no new space.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Makes the content durable.
    fn sync(&self) -> io::Result<()>;
}

/// Why a lock was not given.
#[derive(Debug)]
pub(super) enum LockError {
    /// Another process has it.
    Held(Option<u32>),
    /// The operating system refused.
    Io(io::Error),
}

impl dyn Disk + '_ {
    /// Reads a whole file.
    pub(super) fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        let file = self.open(name)?;
        let bytes = usize::try_from(file.len()?).map_err(|_| io::ErrorKind::FileTooLarge)?;
        let mut content = vec![0; bytes];
        file.read_at(&mut content, 0)?;
        Ok(content)
    }
}

/// A directory of the operating system.
pub(super) struct OsDisk {
    dir: PathBuf,
}

impl OsDisk {
    /// Takes a directory that need not exist yet.
    pub(super) fn new(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes the directory and those above it, durably.
    pub(super) fn make(&self) -> io::Result<()> {
        let new: Vec<&Path> = self.dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        std::fs::create_dir_all(&self.dir)?;
        // A directory can be lost with the power until the one that names it is synced.
        new.into_iter().try_for_each(|dir| match dir.parent() {
            Some(above) if !above.as_os_str().is_empty() => File::open(above)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        })
    }
}

impl Disk for OsDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        Ok(Box::new(options.read(true).write(true).create(true).truncate(true).open(self.dir.join(name))?))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(OpenOptions::new().read(true).write(true).open(self.dir.join(name))?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let names = std::fs::read_dir(&self.dir)?.map(|entry| Ok(entry?.file_name().into_string().ok()));
        names.filter_map(io::Result::transpose).collect()
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        std::fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn keep(&self, name: &str, below: &str) -> io::Result<()> {
        let below = self.dir.join(below);
        std::fs::create_dir_all(&below)?;
        self.sync_names()?;
        let kept = (0u32..).map(|n| below.join(if n == 0 { name.into() } else { format!("{name}.{n}") }));
        let kept = kept.into_iter().find(|path| !path.exists()).expect("some name is free");
        std::fs::hard_link(self.dir.join(name), kept)?;
        File::open(below)?.sync_all()
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        std::fs::remove_file(self.dir.join(name))
    }

    fn sync_names(&self) -> io::Result<()> {
        File::open(&self.dir)?.sync_all()
    }

    fn lock(&self, name: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        use rustix::fs::{FlockOperation, flock};
        let mut options = OpenOptions::new();
        let options = options.read(true).write(true).create(true).truncate(false);
        let mut file = options.open(self.dir.join(name)).map_err(LockError::Io)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut holder = String::new();
                // The holder's name is a courtesy: the lock is held whether it can be read or not.
                let _ = file.read_to_string(&mut holder);
                return Err(LockError::Held(holder.trim().parse().ok()));
            }
            Err(error) => return Err(LockError::Io(error.into())),
        }
        let sign = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        sign(&mut file).map_err(LockError::Io)?;
        Ok(Box::new(file))
    }
}

impl DiskFile for File {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<()> {
        self.read_exact_at(buf, pos)
    }

    fn write_at(&self, bytes: &[u8], pos: u64) -> io::Result<()> {
        self.write_all_at(bytes, pos)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        File::set_len(self, bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(self, FallocateFlags::empty(), 0, bytes) {
            // A file system that cannot set space aside still holds a log; it only fills up later.
            Err(rustix::io::Errno::OPNOTSUPP) => File::set_len(self, bytes),
            other => Ok(other?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_data()
    }
}
