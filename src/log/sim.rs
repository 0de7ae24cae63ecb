//! A disk in memory that keeps apart what was written and what is durable, and fails where a test wants it to.

use super::disk::{Disk, DiskFile, LockError};
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

const SECTOR: usize = 512;

/// A disk; clones are the same disk.
#[derive(Clone, Default)]
pub(crate) struct Sim(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<(String, Option<usize>)>,
    faults: Faults,
    syncs: u64,
    waiting_syncs: u64,
    off: bool,
    locked: bool,
}

/// What goes wrong.
#[derive(Clone, Default)]
pub(crate) struct Faults {
    /// Size of the disk. Unit: bytes.
    pub(crate) space: Option<usize>,
    /// The space ends by a quota, and not with the disk.
    pub(crate) quota: bool,
    /// The next write is cut short and fails.
    pub(crate) write: bool,
    /// The next sync of a file fails; as on Linux, what it should have written is taken for written afterwards.
    pub(crate) sync: bool,
    /// Syncs of files wait.
    pub(crate) hold_syncs: bool,
    /// The power goes in the middle of this operation, counted from 0.
    pub(crate) power: Option<u32>,
}

#[derive(Clone, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Change>,
}

#[derive(Clone)]
enum Change {
    Write(usize, Vec<u8>),
    SetLen(usize),
}

struct SimFile {
    disk: Sim,
    inode: usize,
}

struct SimLock(Sim);

impl Drop for SimLock {
    fn drop(&mut self) {
        self.0.state().locked = false;
    }
}

impl Sim {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap()
    }

    /// Changes what goes wrong from now on.
    pub(crate) fn faults(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.state().faults);
        self.0.changed.notify_all();
    }

    /// Waits until this many syncs are held.
    pub(crate) fn wait_for_held_syncs(&self, count: u64) {
        let state = self.state();
        drop(self.0.changed.wait_while(state, |state| state.waiting_syncs < count).unwrap());
    }

    /// Whether the power went.
    pub(crate) fn is_off(&self) -> bool {
        self.state().off
    }

    /// Gives what files take. Unit: bytes.
    pub(crate) fn used(&self) -> usize {
        self.state().used()
    }

    /// Counts the syncs of files.
    pub(crate) fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Gives the disk as a killed process leaves it: all that was written is there, and what was not synced can
    /// still be lost with the power.
    pub(crate) fn killed(&self) -> Self {
        let state = self.state();
        let after = State {
            inodes: state.inodes.clone(),
            names: state.names.clone(),
            durable_names: state.durable_names.clone(),
            name_changes: state.name_changes.clone(),
            ..State::default()
        };
        Self(Arc::new(Shared { state: Mutex::new(after), changed: Condvar::new() }))
    }

    /// Gives the disk as a loss of power leaves it: of what was not synced, any sectors, and of the names the
    /// first few changes. `random(n)` gives a number below n.
    pub(crate) fn powered_off(&self, mut random: impl FnMut(u32) -> u32) -> Self {
        let kept = random(self.state().name_changes.len() as u32 + 1);
        // Sometimes all or none, for those are the likely cases.
        let odds = [Some(false), Some(true), None, None][random(4) as usize];
        let mut coin = move || odds.unwrap_or_else(|| random(2) == 1);
        let state = self.state();
        let contents = state.inodes.iter().map(|inode| {
            let mut content = inode.durable.clone();
            for change in &inode.pending {
                match change {
                    Change::SetLen(bytes) if coin() => content.resize(*bytes, 0),
                    Change::SetLen(_) => {}
                    Change::Write(pos, bytes) => {
                        let mut from = 0;
                        while from < bytes.len() {
                            let to = bytes.len().min((pos + from) / SECTOR * SECTOR + SECTOR - pos);
                            if coin() {
                                overwrite(&mut content, pos + from, &bytes[from..to]);
                            }
                            from = to;
                        }
                    }
                }
            }
            content
        });
        let inodes = contents.map(|now| Inode { durable: now.clone(), now, pending: vec![] }).collect();
        let mut names = state.durable_names.clone();
        for (name, inode) in state.name_changes.iter().take(kept as usize) {
            set(&mut names, name, *inode);
        }
        let after = State { inodes, durable_names: names.clone(), names, ..State::default() };
        Self(Arc::new(Shared { state: Mutex::new(after), changed: Condvar::new() }))
    }

    /// Changes a file behind the log's back, durably.
    pub(crate) fn tamper(&self, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.state();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        change(&mut inode.now);
        inode.durable = inode.now.clone();
        inode.pending.clear();
    }

    /// Tells two files of the same name apart.
    pub(crate) fn inode_of(&self, name: &str) -> usize {
        self.state().names[name]
    }

    /// Gives all files with their content.
    pub(crate) fn files(&self) -> Vec<(String, Vec<u8>)> {
        let state = self.state();
        state.names.iter().map(|(name, inode)| (name.clone(), state.inodes[*inode].now.clone())).collect()
    }

    fn name(&self, state: &mut State, name: &str, inode: Option<usize>) {
        set(&mut state.names, name, inode);
        state.name_changes.push((name.into(), inode));
    }
}

fn set(names: &mut BTreeMap<String, usize>, name: &str, inode: Option<usize>) {
    match inode {
        Some(inode) => names.insert(name.into(), inode),
        None => names.remove(name),
    };
}

fn overwrite(content: &mut Vec<u8>, pos: usize, bytes: &[u8]) {
    content.resize(content.len().max(pos + bytes.len()), 0);
    content[pos..pos + bytes.len()].copy_from_slice(bytes);
}

impl State {
    /// Counts an operation. Gives whether it is cut short by the power going.
    fn begin(&mut self) -> io::Result<bool> {
        if self.off {
            return Err(io::Error::other("the power is off"));
        }
        self.off = self.faults.power == Some(0);
        self.faults.power = self.faults.power.map(|left| left.saturating_sub(1));
        Ok(self.off)
    }

    /// Does what has no middle.
    fn whole(&mut self) -> io::Result<()> {
        if self.begin()? { Err(io::Error::other("the power went")) } else { Ok(()) }
    }

    fn inode(&self, name: &str) -> io::Result<usize> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> usize {
        self.names.values().map(|inode| self.inodes[*inode].now.len()).sum()
    }

    fn free(&self) -> usize {
        self.faults.space.map_or(usize::MAX, |space| space.saturating_sub(self.used()))
    }
}

impl Disk for Sim {
    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.state();
        state.whole()?;
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        self.name(&mut state, name, Some(inode));
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        let inode = self.state().inode(name)?;
        Ok(Box::new(SimFile { disk: self.clone(), inode }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.state().names.keys().filter(|name| !name.contains('/')).cloned().collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.whole()?;
        let inode = state.inode(from)?;
        // One change: a rename is atomic. The old name is dropped with the next.
        self.name(&mut state, to, Some(inode));
        self.name(&mut state, from, None);
        Ok(())
    }

    fn keep(&self, name: &str, below: &str) -> io::Result<()> {
        let mut state = self.state();
        state.whole()?;
        let inode = state.inode(name)?;
        self.name(&mut state, &format!("{below}/{name}"), Some(inode));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.whole()?;
        state.inode(name)?;
        self.name(&mut state, name, None);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        let mut state = self.state();
        state.whole()?;
        state.durable_names = state.names.clone();
        state.name_changes.clear();
        Ok(())
    }

    fn lock(&self, _name: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        let mut state = self.state();
        if std::mem::replace(&mut state.locked, true) {
            return Err(LockError::Held(None));
        }
        Ok(Box::new(SimLock(self.clone())))
    }
}

/// What Linux says where there is no space.
fn no_space(quota: bool) -> io::Error {
    io::Error::from_raw_os_error(if quota { libc::EDQUOT } else { libc::ENOSPC })
}

impl DiskFile for SimFile {
    fn read_at(&self, buf: &mut [u8], pos: u64) -> io::Result<()> {
        let state = self.disk.state();
        let pos = pos as usize;
        let content = state.inodes[self.inode].now.get(pos..pos + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(content);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], pos: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let pos = pos as usize;
        let power = state.begin()?;
        let grows = (pos + bytes.len()).saturating_sub(state.inodes[self.inode].now.len());
        let short = state.free() < grows;
        let fails = std::mem::take(&mut state.faults.write);
        let written = if power || short || fails { &bytes[..bytes.len() / 2] } else { bytes };
        let inode = &mut state.inodes[self.inode];
        overwrite(&mut inode.now, pos, written);
        inode.pending.push(Change::Write(pos, written.to_vec()));
        match (power, short, fails) {
            (true, ..) => Err(io::Error::other("the power went")),
            (_, true, _) => Err(no_space(state.faults.quota)),
            (_, _, true) => Err(io::Error::other("a fault")),
            _ => Ok(()),
        }
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.state().inodes[self.inode].now.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole()?;
        let inode = &mut state.inodes[self.inode];
        inode.now.resize(bytes as usize, 0);
        inode.pending.push(Change::SetLen(bytes as usize));
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let len = self.len()?;
        let (free, quota) = {
            let state = self.disk.state();
            (state.free(), state.faults.quota)
        };
        if free < bytes.saturating_sub(len) as usize {
            return Err(no_space(quota));
        }
        if bytes > len { self.set_len(bytes) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        state.whole()?;
        state.syncs += 1;
        state.waiting_syncs += 1;
        self.disk.0.changed.notify_all();
        state = self.disk.0.changed.wait_while(state, |state| state.faults.hold_syncs).unwrap();
        state.waiting_syncs -= 1;
        let fails = std::mem::take(&mut state.faults.sync);
        let inode = &mut state.inodes[self.inode];
        let pending = std::mem::take(&mut inode.pending);
        if fails {
            return Err(io::Error::other("a fault"));
        }
        for change in pending {
            match change {
                Change::Write(pos, bytes) => overwrite(&mut inode.durable, pos, &bytes),
                Change::SetLen(bytes) => inode.durable.resize(bytes, 0),
            }
        }
        Ok(())
    }
}
