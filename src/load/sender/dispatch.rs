//! Owns the schedule's pace: each uplink goes, when it is due, to the connection with the least to do.

use super::lane::Lane;
use super::ledger::{Note, Notes};
use super::{Job, Pace, SendOptions};
use crate::load::{Due, Shape};
use std::iter::Peekable;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

pub(super) struct Dispatcher {
    options: SendOptions,
    started: Instant,
    lanes: Vec<Lane>,
    /// Where the search for a lane begins, so that all get their share.
    next: usize,
    notes: Notes,
    stop: watch::Receiver<bool>,
}

impl Dispatcher {
    pub(super) fn new(
        options: SendOptions,
        started: Instant,
        lanes: Vec<Lane>,
        notes: Notes,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self { options, started, lanes, next: 0, notes, stop }
    }

    /// Queues each uplink when it is due. Ends with the schedule or when it is stopped.
    pub(super) async fn run(&mut self, schedule: impl Iterator<Item = Due>) {
        let mut schedule = schedule.peekable();
        while let Some(next) = schedule.peek() {
            let wait_until = self.started + Duration::from_micros(next.due_us) + self.options.batch_wait;
            let wait = async {
                if self.options.pace == Pace::Schedule {
                    sleep_until(wait_until).await;
                }
            };
            let is_stopped = tokio::select! {
                biased;
                // An error says that nobody can stop this any more: then it ends.
                _ = self.stop.wait_for(|stop| *stop) => true,
                () = wait => false,
            };
            if is_stopped {
                return self.leave(schedule).await;
            }
            let elapsed_us = micros(self.started.elapsed());
            let dues = match self.options.pace {
                Pace::Schedule => {
                    std::iter::from_fn(|| schedule.next_if(|due| due.due_us <= elapsed_us)).take(self.due_max()).collect()
                }
                Pace::Fast => schedule.by_ref().take(self.due_max()).map(|due| Due { due_us: elapsed_us, ..due }).collect(),
            };
            for job in self.jobs(dues) {
                self.queue(job).await;
            }
        }
    }

    /// How many uplinks that are due at one moment are looked at together.
    fn due_max(&self) -> usize {
        self.options.batch_max.max(1) * Shape::ALL.len()
    }

    /// Puts uplinks into requests, in their order for each shape.
    fn jobs(&self, dues: Vec<Due>) -> Vec<Job> {
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

    /// Gives a request to the lane with the least to do. Where all queues are full the schedule has to wait.
    async fn queue(&mut self, job: Job) {
        let lanes = self.lanes.len();
        let in_turn = (0..lanes).map(|nth| (self.next + nth) % lanes);
        let lane = in_turn.min_by_key(|lane| self.lanes[*lane].load()).expect("there is a lane");
        self.next = lane + 1;
        if let Some(job) = self.lanes[lane].push(job, &mut self.stop).await {
            self.unsent(job.dues).await;
        }
    }

    /// Notes what was due before the stop. What only batches had to wait for counts too.
    async fn leave(&mut self, mut schedule: Peekable<impl Iterator<Item = Due>>) {
        if self.options.pace == Pace::Schedule {
            let elapsed_us = micros(self.started.elapsed());
            let dues = std::iter::from_fn(|| schedule.next_if(|due| due.due_us <= elapsed_us)).collect();
            self.unsent(dues).await;
        }
    }

    async fn unsent(&mut self, dues: Vec<Due>) {
        if !dues.is_empty() {
            // The ledger ends after the last who can write to it.
            let _ = self.notes.send(Note::Unsent { dues, at: Instant::now() }).await;
        }
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
