//! Owns one connection at work: it takes a request when it is free, and says when it is free again.

use super::connection::Connection;
use super::ledger::{Note, Notes};
use super::{Job, Sender};
use crate::load::envelope;
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Who works a connection.
pub(super) struct Lane {
    /// Its number, by which it says that it is free.
    pub(super) number: usize,
    pub(super) sender: Arc<Sender>,
    /// At most one request, given when it was free.
    pub(super) jobs: mpsc::Receiver<Job>,
    pub(super) free: mpsc::Sender<usize>,
    pub(super) notes: Notes,
}

impl Lane {
    /// Posts what it is given until nobody is left who could give it something.
    pub(super) async fn run(mut self) {
        let mut connection = Connection::new(self.sender.target.clone(), self.sender.options.timeout);
        // Where nobody wants to know that it is free, there is nothing left to do.
        while self.free.send(self.number).await.is_ok() {
            let Some(job) = self.jobs.recv().await else { return };
            let note = self.post(&mut connection, job).await;
            // The ledger ends after the last who can write to it.
            let _ = self.notes.send(note).await;
        }
    }

    async fn post(&self, connection: &mut Connection, job: Job) -> Note {
        let Job { shape, dues } = job;
        let mut body = String::with_capacity(1_024 * dues.len());
        for (nth, due) in dues.iter().enumerate() {
            if nth > 0 {
                body.push('\n');
            }
            envelope::write(&self.sender.fleet, due, &mut body);
        }
        let posted = Instant::now();
        let outcomes = connection.post(shape.path(), Bytes::from(body), dues.len()).await;
        Note::Done { dues, outcomes, posted, answered: Instant::now(), by: (self.sender.clock)() }
    }
}
