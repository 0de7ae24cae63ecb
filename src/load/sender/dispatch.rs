//! Owns the schedule's pace and what waits: each uplink goes, when it is due, to a connection that is free.
//!
//! Requests wait here and not at a connection, so that a slow answer holds up nothing but itself.

use super::ledger::{Note, Notes};
use super::{Job, Pace, SendOptions};
use crate::load::{Due, Shape};
use std::collections::VecDeque;
use std::iter::Peekable;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};

pub(super) struct Dispatcher {
    pub(super) options: SendOptions,
    pub(super) started: Instant,
    /// Where each lane takes its requests, one at a time.
    pub(super) lanes: Vec<mpsc::Sender<Job>>,
    /// The numbers of lanes that have become free.
    pub(super) freed: mpsc::Receiver<usize>,
    pub(super) notes: Notes,
    pub(super) stop: watch::Receiver<bool>,
}

/// What the dispatcher goes on for.
enum Event {
    Stopped,
    Freed(usize),
    Due,
}

impl Dispatcher {
    /// Hands each uplink out when it is due. Ends when the schedule has ended and nothing waits, or when it is
    /// stopped.
    pub(super) async fn run(mut self, schedule: impl Iterator<Item = Due>) {
        let mut schedule = schedule.peekable();
        let (mut waiting, mut free) = (VecDeque::new(), Vec::new());
        loop {
            while let Some(job) = waiting.pop_front_if(|_: &mut Job| !free.is_empty()) {
                let lane: usize = free.pop().expect("it was looked at just now");
                self.lanes[lane].try_send(job).expect("a lane that is free has room for one request");
            }
            if schedule.peek().is_none() && waiting.is_empty() {
                return;
            }
            match self.next(&mut schedule, waiting.len(), free.len()).await {
                Event::Stopped => return self.leave(waiting, schedule).await,
                Event::Freed(lane) => free.push(lane),
                Event::Due => waiting.extend(self.take_due(&mut schedule)),
            }
        }
    }

    /// Waits for what comes first. Where too much waits, the schedule has to wait too.
    async fn next(&mut self, schedule: &mut Peekable<impl Iterator<Item = Due>>, waiting: usize, free: usize) -> Event {
        let due_at = schedule.peek().map(|due| self.started + Duration::from_micros(due.due_us) + self.options.batch_wait);
        let takes = match self.options.pace {
            Pace::Schedule => waiting < self.options.queue_max.max(1),
            Pace::Fast => free > 0,
        };
        let due = async {
            match due_at.filter(|_| takes) {
                None => std::future::pending().await,
                Some(due_at) if self.options.pace == Pace::Schedule => sleep_until(due_at).await,
                Some(_) => {}
            }
        };
        tokio::select! {
            biased;
            // An error says that nobody can stop this any more: then it ends.
            _ = self.stop.wait_for(|stop| *stop) => Event::Stopped,
            freed = self.freed.recv() => Event::Freed(freed.expect("lanes last as long as somebody gives them requests")),
            () = due => Event::Due,
        }
    }

    /// Takes what is due now, some of it where it is much, and puts it into requests.
    fn take_due(&self, schedule: &mut Peekable<impl Iterator<Item = Due>>) -> Vec<Job> {
        let elapsed_us = micros(self.started.elapsed());
        let due_max = self.options.batch_max.max(1) * Shape::ALL.len();
        match self.options.pace {
            Pace::Schedule => self.jobs(std::iter::from_fn(|| schedule.next_if(|due| due.due_us <= elapsed_us)).take(due_max)),
            Pace::Fast => self.jobs(schedule.take(due_max).map(|due| Due { due_us: elapsed_us, ..due })),
        }
    }

    /// Puts uplinks into requests, in their order for each shape.
    fn jobs(&self, dues: impl Iterator<Item = Due>) -> Vec<Job> {
        let mut jobs: Vec<Job> = Vec::new();
        for due in dues {
            let fits = |job: &&mut Job| job.shape == due.shape && job.dues.len() < self.options.batch_max;
            match jobs.iter_mut().rev().find(fits) {
                Some(job) => job.dues.push(due),
                None => jobs.push(Job { shape: due.shape, dues: vec![due] }),
            }
        }
        jobs
    }

    /// Notes what was due before the stop and is not on its way.
    async fn leave(self, waiting: VecDeque<Job>, mut schedule: Peekable<impl Iterator<Item = Due>>) {
        let (at, elapsed_us) = (Instant::now(), micros(self.started.elapsed()));
        let mut dues: Vec<Due> = waiting.into_iter().flat_map(|job| job.dues).collect();
        if self.options.pace == Pace::Schedule {
            dues.extend(std::iter::from_fn(|| schedule.next_if(|due| due.due_us <= elapsed_us)));
        }
        // The ledger ends after the last who can write to it.
        let _ = self.notes.send(Note::Unsent { dues, at }).await;
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
