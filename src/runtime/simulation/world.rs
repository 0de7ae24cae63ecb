//! All that happens: senders, time, the daemon's parts in any order, and faults at any moment.

use super::daemon::{Answered, Daemon, Setting, Truncation};
use super::fleet::{BEGIN_US, Fleet, PARTITIONS};
use super::random::Fate;
use super::reference::Reference;
use super::server::Server;
use super::tables::Committed;
use crate::log::sim::Sim;
use crate::runtime::commit_loop::CommitLoopError;
use dataflows::model::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use uuid::Uuid;

/// Rounds after which what does not move any more never will.
const ROUNDS_MAX: u64 = 4_000;

/// What usually happens, with its weight.
const USUAL: [(Usual, u64); 10] = [
    (Usual::Send, 5),
    (Usual::Write, 12),
    (Usual::Answer, 8),
    (Usual::Work, 40),
    (Usual::Commit, 70),
    (Usual::Serve, 25),
    (Usual::Flush, 4),
    (Usual::Pass, 5),
    (Usual::Truncate, 10),
    (Usual::Mend, 12),
];

#[derive(Clone, Copy)]
enum Usual {
    Send,
    Write,
    Answer,
    Work,
    Commit,
    Serve,
    Flush,
    Pass,
    Truncate,
    Mend,
}

/// What goes wrong; each run has some of them, more often or less.
const FAULTS: [Fault; 13] = [
    Fault::Kill,
    Fault::PowerOff,
    Fault::PowerGoes,
    Fault::Stop,
    Fault::FailSync,
    Fault::FailWrite,
    Fault::FillDisk,
    Fault::CrashServer,
    Fault::FailOver,
    Fault::Cut,
    Fault::ReadOnly,
    Fault::Intrude,
    Fault::Burst,
];

#[derive(Clone, Copy)]
enum Fault {
    Kill,
    PowerOff,
    PowerGoes,
    Stop,
    FailSync,
    FailWrite,
    FillDisk,
    CrashServer,
    FailOver,
    Cut,
    ReadOnly,
    Intrude,
    Burst,
}

/// The world of one run.
pub(super) struct World {
    setting: Setting,
    fate: Fate,
    server: Server,
    disk: Sim,
    reference: Reference,
    fleet: Fleet,
    daemon: Option<Daemon>,
    /// Where the log began when it was last looked at.
    starts: Vec<Offset>,
    /// How much of the server's history was looked at.
    seen: usize,
    /// Another weir took a partition in this life of the daemon.
    intruded: bool,
    /// The last life of the daemon ended in order.
    in_order: bool,
    /// The weight of each fault, and how many steps there are to one.
    faults: [u64; FAULTS.len()],
    fault_every: u64,
}

impl World {
    pub(super) fn new(fate: &Fate) -> Self {
        let (server, reference) = (Server::new(fate), Reference::new());
        let setting = Setting {
            fate: fate.clone(),
            server: server.clone(),
            reached: Arc::clone(&reference.reached),
            clock_us: Arc::new(AtomicI64::new(0)),
            log: Uuid::from_u128(u128::from(fate.seed()) + 1),
            log_bytes_max: fate.one_of(&[12 << 10, 32 << 10, 1 << 20]),
        };
        Self {
            setting,
            fate: fate.clone(),
            server,
            disk: Sim::default(),
            reference,
            fleet: Fleet::new(fate),
            daemon: None,
            starts: vec![Offset(0); PARTITIONS.into()],
            seen: 0,
            intruded: false,
            in_order: false,
            faults: std::array::from_fn(|_| fate.one_of(&[0, 0, 1, 1, 2])),
            fault_every: fate.one_of(&[15, 40, 100, 300]),
        }
    }

    /// Lives through a run: the fleet is registered, then anything happens, then all is well again and everything
    /// has to come to its end.
    pub(super) fn run(&mut self) {
        self.begin();
        for _ in 0..self.fate.within(1_000..=4_000) {
            self.step();
        }
        self.end();
    }

    fn begin(&mut self) {
        self.start();
        for records in self.fleet.registry() {
            self.daemon().append(records, false);
            self.daemon().write();
        }
        self.answers();
    }

    fn step(&mut self) {
        if self.daemon.is_none() && self.fate.once_in(4) {
            self.start();
        }
        if self.fate.once_in(self.fault_every) && self.faults.iter().any(|weight| *weight > 0) {
            let fault = FAULTS[self.fate.pick(&self.faults)];
            self.fail(fault);
        } else {
            let usual = USUAL[self.fate.pick(&USUAL.map(|(_, weight)| weight))].0;
            self.act(usual);
        }
        self.look();
    }

    fn daemon(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("the daemon runs")
    }

    fn now_us(&self) -> i64 {
        BEGIN_US + self.setting.clock_us.load(Ordering::Relaxed)
    }

    fn act(&mut self, usual: Usual) {
        match usual {
            Usual::Serve => self.server.work(),
            Usual::Flush => self.server.flush_some(),
            Usual::Pass => {
                let span_us = [SECOND_US, 10 * MINUTE_US, 3 * HOUR_US][self.fate.pick(&[30, 30, 2])];
                let us = self.fate.below(span_us as u64) as i64;
                self.setting.clock_us.fetch_add(us, Ordering::Relaxed);
            }
            Usual::Mend => self.mend(),
            _ if self.daemon.is_none() => {}
            Usual::Send => {
                let records = self.fleet.next(self.now_us());
                let own = self.fate.once_in(6);
                self.daemon().append(records, own);
            }
            Usual::Write => self.daemon().write(),
            Usual::Answer => self.answers(),
            Usual::Work => {
                let workers = self.daemon().workers() as u64;
                let index = self.fate.below(workers) as usize;
                self.daemon().work(index);
            }
            Usual::Commit => self.commit(),
            Usual::Truncate => self.truncate(),
        }
    }

    fn answers(&mut self) {
        self.observe();
        for Answered { records, answer } in self.daemon().answers() {
            match answer {
                Ok(offsets) => {
                    for (record, offset) in records.iter().zip(offsets) {
                        self.reference.check_acknowledged(record.partition, offset, &record.body);
                    }
                }
                Err(error) => self.fate.note(format_args!("refused: {error}")),
            }
        }
    }

    fn commit(&mut self) {
        match self.daemon().commit() {
            Ok(()) => {}
            Err(error @ CommitLoopError::TakenOver { .. }) if self.intruded => {
                self.fate.note(error);
                self.kill();
            }
            Err(error) => panic!("the daemon ended: {error}"),
        }
    }

    fn truncate(&mut self) {
        let Some(truncation) = self.daemon().truncate() else { return };
        let log = self.daemon().log.clone();
        self.starts = (0..PARTITIONS).map(|p| log.start(Partition(p))).collect();
        self.fate.count("truncations");
        self.fate.note(format_args!("the log begins at {:?}", self.starts));
        let starts = self.starts.clone();
        let durable = self.server.state().durable();
        let start = |p: Partition| starts[usize::from(p.0)];
        let reaches = durable.go_on_with(start) && (truncation == Truncation::Utmost || durable.are_reached_by(start));
        assert!(reaches, "truncated beyond a checkpoint: {starts:?}, {:?}", durable.kept());
    }

    fn fail(&mut self, fault: Fault) {
        match fault {
            Fault::CrashServer if self.server.state().up => {
                self.fate.fault("the server crashes");
                self.server.crash();
                self.seen = self.server.state().history.len();
            }
            Fault::FailOver => {
                self.fate.fault("a failover");
                let starts = self.starts.clone();
                self.server.fail_over(|p| starts[usize::from(p.0)]);
                self.seen = self.server.state().history.len();
            }
            Fault::Cut => {
                self.fate.fault("a connection breaks");
                self.server.cut_one();
            }
            Fault::ReadOnly => {
                self.fate.fault("the server is read-only");
                self.server.state().read_only = true;
            }
            Fault::Intrude => {
                self.fate.fault("another weir takes a partition");
                self.server.intrude(Partition(self.fate.below(PARTITIONS.into()) as u16));
                self.intruded = true;
                self.look();
            }
            _ if self.daemon.is_none() => {}
            Fault::Kill => {
                self.fate.fault("kill -9");
                self.kill();
            }
            Fault::PowerOff => self.power_off(),
            Fault::PowerGoes => {
                let operations = self.fate.below(12) as u32;
                self.disk.faults(|faults| faults.power = Some(operations));
            }
            Fault::Stop => {
                self.fate.note("the daemon is told to stop");
                self.daemon().stop();
            }
            Fault::FailSync => self.disk.faults(|faults| faults.sync = true),
            Fault::FailWrite => {
                self.fate.fault("a write fails");
                self.disk.faults(|faults| faults.write = true);
            }
            Fault::FillDisk => {
                self.fate.fault("the disk is full");
                let space = self.disk.used() + self.fate.below(3_000) as usize;
                self.disk.faults(|faults| faults.space = Some(space));
            }
            Fault::Burst => {
                for _ in 0..self.fate.within(5..=20) {
                    self.act(Usual::Send);
                }
            }
            Fault::CrashServer => {}
        }
    }

    /// Something that went wrong is mended.
    fn mend(&mut self) {
        match self.fate.below(3) {
            0 => self.server.start(),
            1 => self.server.state().read_only = false,
            _ => self.disk.faults(|faults| faults.space = None),
        }
    }

    /// Looks what the last step has led to.
    fn look(&mut self) {
        let new: Vec<Committed> = self.server.state().history[self.seen..].to_vec();
        self.seen += new.len();
        for committed in new {
            if let Committed::Rows(commits) = committed {
                self.fate.count("commits");
                if commits.len() > 1 {
                    self.fate.count("commits of several workers");
                }
                for commit in &*commits {
                    if let Some(checkpoint) = &commit.checkpoint {
                        self.fate.count("checkpoints");
                        let mut advances = commit.advances.iter();
                        if advances.any(|a| a.partition == checkpoint.partition && a.to > checkpoint.offset) {
                            self.fate.count("checkpoints of before their commit's end");
                        }
                    }
                    self.reference.check_commit(commit);
                }
            }
        }
        if self.disk.is_off() {
            return self.power_off();
        }
        let Some(daemon) = &mut self.daemon else { return };
        if daemon.is_dying() {
            self.fate.fault("a sync fails");
            return self.kill();
        }
        if daemon.has_ended() {
            self.fate.note("the daemon has ended in order");
            self.close();
        } else {
            self.observe();
        }
    }

    /// Remembers what has become readable.
    fn observe(&mut self) {
        let log = self.daemon().log.clone();
        for record in self.reference.observe(&log) {
            self.fate.count("records");
            self.fleet.taken(record.offset, record.log_time, &record.body);
        }
    }

    fn kill(&mut self) {
        let disk = self.disk.killed();
        self.daemon = None;
        self.disk = disk;
        self.check();
    }

    fn power_off(&mut self) {
        self.fate.fault("the power goes");
        let fate = self.fate.clone();
        let disk = self.disk.powered_off(|n| fate.below(n.into()) as u32);
        self.daemon = None;
        self.disk = disk;
        self.check();
    }

    fn close(&mut self) {
        self.daemon.take().expect("it has just ended").close();
        if self.disk.is_off() {
            return self.power_off();
        }
        self.disk = self.disk.killed();
        self.in_order = true;
        self.check();
    }

    fn check(&mut self) {
        let tables = self.server.state().tables.clone();
        self.reference.check_tables(&tables);
    }

    /// Starts the daemon, as often as the power goes meanwhile.
    fn start(&mut self) {
        (self.intruded, self.in_order) = (false, false);
        match Daemon::start(&self.setting, &self.disk) {
            Ok(daemon) => {
                self.fate.count("starts");
                self.reference.check_log(&daemon.log);
                self.starts = (0..PARTITIONS).map(|p| daemon.log.start(Partition(p))).collect();
                self.daemon = Some(daemon);
                self.observe();
            }
            Err(_) if self.disk.is_off() => self.power_off(),
            Err(error) => panic!("the log does not open: {error}"),
        }
    }

    /// All is well again, and everything comes to its end.
    fn end(&mut self) {
        self.fate.note("all is well again");
        self.in_order = false;
        self.server.start();
        self.server.state().read_only = false;
        self.disk.faults(|faults| *faults = Default::default());
        // It may find only now that another weir was here, and end by that.
        while !self.in_order {
            self.work_off();
            // What is taken back of silent partitions has to come again without a record.
            if self.fate.once_in(2) {
                self.fail([Fault::CrashServer, Fault::FailOver][self.fate.below(2) as usize]);
                self.server.start();
                self.server.state().read_only = false;
                self.work_off();
            }
            self.daemon().stop();
            self.until_ended();
            self.check();
        }
        self.start();
    }

    fn work_off(&mut self) {
        self.until("the log is worked off", |world| {
            let state = world.server.state();
            let log = &world.daemon.as_ref().expect("it runs").log;
            let committed = |p| state.tables.progress.get(&p).is_some_and(|progress| progress.offset == log.end(p));
            world.daemon.as_ref().is_some_and(Daemon::is_settled) && (0..PARTITIONS).map(Partition).all(committed)
        });
        self.check();
    }

    fn until(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) {
        for _ in 0..ROUNDS_MAX {
            self.round();
            if self.daemon.is_some() && is_so(self) {
                return;
            }
        }
        panic!("no progress: {what} in vain, {} records, {:?}", self.reference.records(), self.server.state().tables.progress);
    }

    fn until_ended(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.daemon.is_none() {
                return;
            }
            self.round();
        }
        panic!("no progress: the daemon does not end");
    }

    /// Everybody has a turn.
    fn round(&mut self) {
        if self.daemon.is_none() {
            self.start();
        }
        let workers = self.daemon().workers();
        let mut turns = vec![Usual::Write, Usual::Answer, Usual::Serve, Usual::Serve, Usual::Flush];
        if self.fate.once_in(5) {
            turns.push(Usual::Truncate);
        }
        for turn in turns {
            self.act(turn);
            self.look();
        }
        for index in 0..workers {
            for _ in 0..2 {
                if let Some(daemon) = &mut self.daemon {
                    daemon.work(index);
                }
                self.look();
                if self.daemon.is_some() {
                    self.commit();
                }
            }
        }
    }
}
