//! A daemon as a child process: started, listened to, killed, stopped.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::watch;
use tokio::time::timeout;

/// Partitions of the logs of these tests: few, so that each gets many records.
pub(crate) const PARTITIONS: u16 = 8;
/// No step of a daemon takes longer, also on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon. Dropping it kills it.
pub(crate) struct Daemon {
    child: Child,
    log: Arc<Mutex<Vec<String>>>,
    address: watch::Receiver<Option<SocketAddr>>,
}

/// A daemon that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None when a signal ended it.
    code: Option<i32>,
    /// The signal that ended it.
    signal: Option<i32>,
    log: Vec<String>,
}

impl Daemon {
    /// Starts a daemon on a database and a data directory.
    pub(crate) fn start(url: &str, dir: &Path, workers: usize) -> Self {
        Self::start_with(url, dir, workers, &[])
    }

    /// Does the same with further settings.
    pub(crate) fn start_with(url: &str, dir: &Path, workers: usize, more: &[(&str, &str)]) -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)), &[], url, dir, workers, more)
    }

    /// Starts one that takes over from the one that runs, at its address.
    pub(crate) fn take_over(address: SocketAddr, url: &str, dir: &Path, workers: usize) -> Self {
        Self::start_at(address, &["--take-over"], url, dir, workers, &[])
    }

    fn start_at(listen: SocketAddr, arguments: &[&str], url: &str, dir: &Path, workers: usize, more: &[(&str, &str)]) -> Self {
        let settings = [
            ("WEIR_DATABASE_URL", url.to_owned()),
            ("WEIR_LOG_DIR", dir.display().to_string()),
            ("WEIR_LOG_PARTITIONS", PARTITIONS.to_string()),
            ("WEIR_HTTP_LISTEN", listen.to_string()),
            ("WEIR_RUNTIME_WORKERS", workers.to_string()),
            // Small, so that restarts begin at checkpoints and replay behind them.
            ("WEIR_RUNTIME_CHECKPOINT_RECORDS", "25".to_owned()),
            // A busy machine must not look like a decoder that does not end.
            ("WEIR_DECODERS_WATCHDOG", "60 s".to_owned()),
            ("RUST_LOG", "info".to_owned()),
        ];
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .arg("serve")
            .args(arguments)
            .env_remove("DATABASE_URL")
            .env_remove("WEIR_CONFIG")
            .envs(settings)
            .envs(more.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (tell, address) = watch::channel(None);
        let kept = Arc::clone(&log);
        tokio::spawn(async move {
            // `tell` is dropped with the last line: whoever waits for the address learns that there is none.
            while let Ok(Some(line)) = lines.next_line().await {
                if let Some(address) = listening(&line) {
                    tell.send_replace(Some(address));
                }
                kept.lock().unwrap_or_else(PoisonError::into_inner).push(line);
            }
        });
        Self { child, log, address }
    }

    /// Gives the process's number.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it was not waited for yet")
    }

    /// Waits until uplinks are taken; none when it ends before.
    pub(crate) fn listening(&self) -> impl Future<Output = Option<SocketAddr>> + use<> {
        let mut address = self.address.clone();
        async move { address.wait_for(Option::is_some).await.ok().and_then(|address| *address) }
    }

    /// Waits until uplinks are taken.
    ///
    /// Panics: when it ends before.
    pub(crate) async fn address(&self) -> SocketAddr {
        let address = timeout(PATIENCE, self.listening()).await.expect("a daemon listens within a minute");
        address.unwrap_or_else(|| panic!("the daemon ended:\n{}", self.log().join("\n")))
    }

    /// Gives what it has logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts the lines that it has logged so far and that hold `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        count(&self.log(), text)
    }

    /// `kill -9`.
    pub(crate) async fn kill(mut self) -> Ended {
        self.child.start_kill().unwrap();
        self.ended().await
    }

    /// `kill -TERM`, and waits for the end.
    pub(crate) async fn terminate(self) -> Ended {
        kill_process(Pid::from_raw(self.pid().cast_signed()).unwrap(), Signal::TERM).unwrap();
        self.ended().await
    }

    /// Waits for the end.
    pub(crate) async fn ended(mut self) -> Ended {
        let waited = timeout(PATIENCE, self.child.wait()).await;
        let status = waited.unwrap_or_else(|_| panic!("the daemon does not end:\n{}", self.log().join("\n"))).unwrap();
        // The pipe's end follows the process's.
        while self.address.changed().await.is_ok() {}
        Ended { code: status.code(), signal: status.signal(), log: self.log() }
    }
}

impl Ended {
    /// Panics: unless it ended well.
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.log.join("\n"));
        self
    }

    /// Panics: unless `kill -9` ended it. A daemon that aborts by itself has found something wrong.
    pub(crate) fn killed(self) -> Self {
        assert_eq!(self.signal, Some(Signal::KILL.as_raw()), "{}", self.log.join("\n"));
        self
    }

    /// Panics: unless it ended by itself with an error that says all of `words`.
    pub(crate) fn refused(self, words: &[&str]) -> Self {
        assert_eq!(self.code, Some(1), "{}", self.log.join("\n"));
        let last = self.log.last().map_or("", String::as_str);
        words.iter().for_each(|word| assert!(last.contains(word), "{word:?} in: {last}"));
        self
    }

    /// Counts the lines that hold `text`.
    pub(crate) fn count(&self, text: &str) -> usize {
        count(&self.log, text)
    }

    /// Counts the partitions that were taken at a checkpoint with committed records behind it, of which a
    /// replay must write no row.
    pub(crate) fn replays(&self) -> usize {
        let taken = self.log.iter().filter(|line| line.contains("took the partition"));
        let places = taken.map(|line| {
            let line: Value = serde_json::from_str(line).expect("the daemon logs JSON");
            let place = |name: &str| line[name].as_str().and_then(|text| text.parse::<u64>().ok()).expect("an offset");
            (place("replay_from"), place("committed"))
        });
        places.filter(|(checkpoint, committed)| 0 < *checkpoint && checkpoint < committed).count()
    }
}

fn count(log: &[String], text: &str) -> usize {
    log.iter().filter(|line| line.contains(text)).count()
}

/// Reads the address where a line tells it.
fn listening(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    if line["message"] != "uplinks are taken" {
        return None;
    }
    line["address"].as_str()?.parse().ok()
}
