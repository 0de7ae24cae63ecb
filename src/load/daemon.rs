//! Owns a daemon as a child process: this program's own `weir serve`, so that its processor time and memory
//! are its own. Dropping it kills it, and it does not outlive the process that started it.

use rustix::process::{Pid, Signal, kill_process, set_parent_process_death_signal};
use serde_json::Value;
use std::collections::VecDeque;
use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{ChildStderr, Command};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Lines of its log that are kept.
const LINES_MAX: usize = 10;
/// What it logs when uplinks are taken, with the address beside it.
const LISTENING: &str = "uplinks are taken";

/// What a daemon is started with.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The settings file, if there is one.
    pub config: Option<PathBuf>,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Settings over those of file and environment, by the names that they have in the environment.
    pub settings: Vec<(&'static str, String)>,
}

/// Why there is no daemon.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It could not be started.
    #[error("weir serve could not be started: {0}")]
    Start(#[from] std::io::Error),
    /// It ended by itself; these are its last words.
    #[error("the daemon ended ({status}):\n{log}")]
    Ended {
        /// How.
        status: ExitStatus,
        /// What it logged last.
        log: String,
    },
    /// It does not end when it is told to.
    #[error("the daemon does not end within {} s; it was killed. Its last words:\n{log}", after.as_secs())]
    Stuck {
        /// How long that was waited for.
        after: Duration,
        /// What it logged last.
        log: String,
    },
}

/// A running daemon.
pub struct Daemon {
    pid: Pid,
    address: SocketAddr,
    lines: Arc<Mutex<VecDeque<String>>>,
    kill: watch::Sender<bool>,
    ended: watch::Receiver<Option<ExitStatus>>,
    _waiter: JoinHandle<()>,
}

impl Daemon {
    /// Starts a daemon and waits until it takes uplinks.
    ///
    /// Errors: it cannot be started, or ends before.
    pub async fn start(options: &DaemonOptions) -> Result<Self, DaemonError> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("serve").args(options.config.iter().flat_map(|path| [OsStr::new("--config"), path.as_os_str()]));
        command.env("WEIR_HTTP_LISTEN", options.listen.to_string()).env("RUST_LOG", "info,refinery_core=warn");
        command.envs(options.settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A group of its own: Ctrl-C is for who measures, who then stops the daemon in good order.
        command.process_group(0).kill_on_drop(true);
        // SAFETY: between fork and exec the closure makes one system call and allocates nothing.
        unsafe {
            command.pre_exec(|| Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
        }
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())).expect("it was not waited for yet");
        let stderr = child.stderr.take().expect("it is piped");
        let lines = Arc::<Mutex<VecDeque<String>>>::default();
        let (tell_address, mut address) = watch::channel(None);
        let (kill, mut killed) = watch::channel(false);
        let (tell_ended, mut ended) = watch::channel(None);
        let kept = Arc::clone(&lines);
        let waiter = tokio::spawn(async move {
            let read = keep_lines(stderr, kept, tell_address);
            let unwanted = async {
                // When nobody can ask for it any more, nobody wants the daemon any more.
                drop(killed.wait_for(|kill| *kill).await);
            };
            let wait = async {
                tokio::select! {
                    status = child.wait() => status,
                    () = unwanted => {
                        // It may have ended in this moment.
                        let _ = child.start_kill();
                        child.wait().await
                    }
                }
            };
            let ((), status) = tokio::join!(read, wait);
            tell_ended.send_replace(Some(status.unwrap_or_default()));
        });
        let listening = tokio::select! {
            biased;
            listening = address.wait_for(Option::is_some) => listening.ok().and_then(|address| *address),
            _ = ended.wait_for(Option::is_some) => None,
        };
        let daemon = |address| Self { pid, address, lines, kill, ended, _waiter: waiter };
        match listening {
            Some(address) => Ok(daemon(address)),
            None => Err(daemon(options.listen).ended().await),
        }
    }

    /// Gives its address, as in `http://127.0.0.1:8080`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Gives its process number.
    pub fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Waits until it has ended, and gives that as an error with its last words.
    pub async fn ended(&self) -> DaemonError {
        let status = self.status().await;
        DaemonError::Ended { status, log: self.log() }
    }

    /// Does something with it; where it ends meanwhile, that is the error, whatever else failed for it.
    ///
    /// Errors: it ended, or those of `work`.
    pub async fn with<T, E: From<DaemonError>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            biased;
            error = self.ended() => Err(error.into()),
            done = work => match done {
                Ok(done) => Ok(done),
                // Who was cut off by its end may notice that before the end is known.
                Err(error) => match tokio::time::timeout(Duration::from_millis(500), self.ended()).await {
                    Ok(ended) => Err(ended.into()),
                    Err(_) => Err(error),
                },
            },
        }
    }

    /// `kill -TERM`, and waits for its end.
    ///
    /// Errors: it ends with an error, or not within `patience`.
    pub async fn stop(self, patience: Duration) -> Result<(), DaemonError> {
        // It may have ended by itself; its status tells.
        let _ = kill_process(self.pid, Signal::TERM);
        match tokio::time::timeout(patience, self.status()).await {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(DaemonError::Ended { status, log: self.log() }),
            Err(_) => Err(DaemonError::Stuck { after: patience, log: self.log() }),
        }
    }

    /// `kill -9`, and waits for its end.
    pub async fn kill(self) {
        self.kill.send_replace(true);
        self.status().await;
    }

    async fn status(&self) -> ExitStatus {
        let mut ended = self.ended.clone();
        let status = ended.wait_for(Option::is_some).await.map(|status| status.unwrap_or_default());
        status.unwrap_or_default()
    }

    fn log(&self) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().cloned().collect::<Vec<_>>().join("\n")
    }
}

/// Keeps the last lines, passes warnings and errors on, and tells the address where a line has it.
async fn keep_lines(stderr: ChildStderr, kept: Arc<Mutex<VecDeque<String>>>, address: watch::Sender<Option<SocketAddr>>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let said: Value = serde_json::from_str(&line).unwrap_or_default();
        if let Some(listening) = listening(&said) {
            address.send_replace(Some(listening));
        }
        if said["level"] == "WARN" || said["level"] == "ERROR" {
            eprintln!("weir serve: {line}");
        }
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == LINES_MAX {
            kept.pop_front();
        }
        kept.push_back(line);
    }
}

fn listening(line: &Value) -> Option<SocketAddr> {
    if line["message"] == LISTENING { line["address"].as_str()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_is_read_where_a_line_tells_it() {
        let check = |line: &str, expected: Option<&str>| {
            let line: Value = serde_json::from_str(line).unwrap_or_default();
            assert_eq!(listening(&line).map(|address| address.to_string()).as_deref(), expected, "{line}");
        };
        check(r#"{"message":"uplinks are taken","address":"127.0.0.1:8080"}"#, Some("127.0.0.1:8080"));
        check(r#"{"message":"the log is open","address":"127.0.0.1:8080"}"#, None);
        check("weir: no such thing", None);
    }
}
