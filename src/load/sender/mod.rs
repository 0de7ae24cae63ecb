//! Owns the sending: open-loop, each uplink posted when it is due, whether or not earlier ones are answered.
//!
//! Latency counts from when an uplink was due, so a daemon that stalls is not spared by a sender that
//! waits for it; what was due and could not be sent is counted too. As real networks do, nothing is sent a
//! second time.
//!
//! | module | does |
//! |---|---|
//! | `dispatch` | hands each uplink, when it is due, to a connection that is free |
//! | `lane` | one connection at work |
//! | `connection` | posts one request, and tells what became of its uplinks |
//! | `ledger` | keeps the outcomes: the figures, and what the tables must hold |

mod connection;
mod dispatch;
mod lane;
mod ledger;
mod live;
mod target;

pub use connection::Outcome;
pub use live::{Figures, Live, Tally};
pub use target::{Target, TargetError};

use super::{Due, Expectation, Fleet, Shape};
use dataflows::model::LogTime;
use dispatch::Dispatcher;
use lane::Lane;
use ledger::Ledger;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// When uplinks are sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Pace {
    /// When they are due.
    #[default]
    Schedule,
    /// As soon as a connection is free. Then each is due when its turn comes.
    Fast,
}

/// What is remembered of what was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Keep {
    /// All that the tables must hold: it grows with every uplink.
    #[default]
    Expectation,
    /// Figures alone.
    Figures,
}

/// How to send.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SendOptions {
    /// How many connections; each carries one request at a time.
    pub connections: usize,
    /// How many uplinks of one shape go in one NDJSON body at most. 1: each goes alone.
    pub batch_max: usize,
    /// How long an uplink waits, from when it is due, for others to share its body.
    pub batch_wait: Duration,
    /// How many requests may wait for a connection before the schedule has to wait.
    pub queue_max: usize,
    /// An answer that takes longer counts as none.
    pub timeout: Duration,
    /// When uplinks are sent.
    pub pace: Pace,
    /// What is remembered.
    pub keep: Keep,
}

impl Default for SendOptions {
    /// Single uplinks over 16 connections, when they are due.
    fn default() -> Self {
        Self {
            connections: 16,
            batch_max: 1,
            batch_wait: Duration::ZERO,
            queue_max: 10_000,
            timeout: Duration::from_secs(10),
            pace: Pace::Schedule,
            keep: Keep::Expectation,
        }
    }
}

/// Sends a fleet's uplinks to a daemon.
pub struct Sender {
    /// Who sends.
    pub fleet: Arc<Fleet>,
    /// Where to.
    pub target: Target,
    /// How.
    pub options: SendOptions,
    /// Where the figures can be watched meanwhile.
    pub live: Arc<Live>,
    /// The clock of the machine: what it says behind an answer bounds the uplink's log time.
    pub clock: Arc<dyn Fn() -> LogTime + Send + Sync>,
}

/// What became of a schedule.
#[derive(Debug)]
pub struct SendReport {
    /// How many uplinks ended how, after what time, and how well the sender kept its schedule.
    pub tally: Tally,
    /// From the first due to the last answer.
    pub elapsed: Duration,
    /// What was said about the uplinks that were not acknowledged, and how often; a few texts only.
    pub failures: BTreeMap<String, u64>,
    /// What the daemon's tables must hold now; nothing where only figures were kept.
    pub expectation: Expectation,
}

/// Uplinks of one shape that travel in one request.
struct Job {
    shape: Shape,
    dues: Vec<Due>,
}

impl Sender {
    /// Sends `schedule` until its end, or until `stop` is true or dropped; what is due but not yet on its
    /// way then is left, and counted as unsent.
    pub async fn send(self, schedule: impl Iterator<Item = Due>, stop: watch::Receiver<bool>) -> SendReport {
        let started = Instant::now();
        self.send_from(started, schedule, stop).await
    }

    /// Does as [`Self::send`], with a schedule that started at `started`.
    pub async fn send_from(
        self,
        started: Instant,
        schedule: impl Iterator<Item = Due>,
        stop: watch::Receiver<bool>,
    ) -> SendReport {
        let sender = Arc::new(self);
        let (ledger, notes) = Ledger::new(&sender, started);
        let ledger = tokio::spawn(ledger.keep());
        let count = sender.options.connections.max(1);
        let (free, freed) = mpsc::channel(count);
        let mut working = JoinSet::new();
        let lanes = (0..count).map(|number| {
            // Given to a lane that is free, so one is all that it ever holds.
            let (give, jobs) = mpsc::channel(1);
            let lane = Lane { number, sender: Arc::clone(&sender), jobs, free: free.clone(), notes: notes.clone() };
            working.spawn(lane.run());
            give
        });
        let (options, lanes) = (sender.options, lanes.collect());
        // The lanes end when it has, and the ledger with the last of them.
        Dispatcher { options, started, lanes, freed, notes, stop }.run(schedule).await;
        while let Some(ended) = working.join_next().await {
            ended.expect("a lane neither panics nor is aborted");
        }
        let (expectation, failures) = ledger.await.expect("the ledger neither panics nor is aborted");
        SendReport { tally: sender.live.tally(), elapsed: started.elapsed(), failures, expectation }
    }
}
