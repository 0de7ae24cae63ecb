//! Ctrl-C and SIGTERM.
//!
//! Owns the signal handlers. A signal never ends xtask where it stands: it is noted, the child in the foreground ends (a
//! terminal sends Ctrl-C to it as well; SIGTERM and SIGHUP are passed on), and the command unwinds, stopping what it started.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// A signal that asked xtask to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Ctrl-C, which the terminal gives to the children too.
    Interrupt,
    /// SIGTERM, given to xtask alone.
    Terminate,
    /// SIGHUP: the terminal went away.
    HangUp,
}

impl Signal {
    fn from_number(number: i32) -> Option<Self> {
        match number {
            SIGINT => Some(Self::Interrupt),
            SIGTERM => Some(Self::Terminate),
            SIGHUP => Some(Self::HangUp),
            _ => None,
        }
    }

    /// Exit code by which shells recognise the signal.
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::HangUp => 129,
            Self::Interrupt => 130,
            Self::Terminate => 143,
        }
    }

    /// What the child in the foreground has to be told, if it does not hear it from the terminal.
    fn passed_on(self) -> Option<rustix::process::Signal> {
        match self {
            Self::Interrupt => None,
            Self::Terminate | Self::HangUp => Some(rustix::process::Signal::TERM),
        }
    }
}

/// The signals received so far and the child that has to hear of them.
#[derive(Clone)]
pub(crate) struct Interrupts {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    raised: Condvar,
}

#[derive(Default)]
struct State {
    signal: Option<Signal>,
    child: Option<OwnedFd>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn raise(&self, signal: Signal) {
        let mut state = self.lock();
        state.signal.get_or_insert(signal);
        if let (Some(child), Some(signal)) = (&state.child, signal.passed_on()) {
            // A child that has just ended needs no signal.
            let _ended = pidfd_send_signal(child.as_fd(), signal);
        }
        self.raised.notify_all();
    }
}

impl Interrupts {
    /// Installs the handlers and the thread that listens to them.
    ///
    /// # Errors
    ///
    /// The system gives no handler or no thread.
    pub(crate) fn watch() -> Result<Self> {
        let shared = Arc::new(Shared::default());
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context("cannot listen to signals")?;
        let listener = Arc::clone(&shared);
        std::thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || signals.forever().filter_map(Signal::from_number).for_each(|signal| listener.raise(signal)))
            .context("cannot start the thread that listens to signals")?;
        Ok(Self { shared })
    }

    /// The first signal received, if any.
    pub(crate) fn raised(&self) -> Option<Signal> {
        self.shared.lock().signal
    }

    /// Fails once a signal was received; called between the steps of something long.
    ///
    /// # Errors
    ///
    /// A signal was received.
    pub(crate) fn check(&self) -> Result<()> {
        match self.raised() {
            Some(signal) => bail!("stopped by a signal ({signal:?})"),
            None => Ok(()),
        }
    }

    /// Blocks until a signal is received.
    pub(crate) fn wait(&self) -> Signal {
        let mut state = self.shared.lock();
        loop {
            if let Some(signal) = state.signal {
                return signal;
            }
            state = self.shared.raised.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Runs `command` in the foreground until it ends, passing signals on to it; how it ended after a signal is for the
    /// caller to judge.
    ///
    /// # Errors
    ///
    /// The program cannot be started, or a signal was received before.
    pub(crate) fn status(&self, command: &mut Command) -> Result<ExitStatus> {
        self.check()?;
        let program = command.get_program().to_owned();
        let mut child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).context("cannot open the child's pidfd")?;
        {
            let mut state = self.shared.lock();
            if let Some(signal) = state.signal.and_then(Signal::passed_on) {
                // The signal came between the check and the start.
                let _ended = pidfd_send_signal(pidfd.as_fd(), signal);
            }
            state.child = Some(pidfd);
        }
        let status = child.wait();
        self.shared.lock().child = None;
        status.with_context(|| format!("cannot wait for {}", program.display()))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Command, Stdio};

    use signal_hook::consts::SIGTERM;

    use super::{Interrupts, Shared, Signal};

    fn quiet() -> Interrupts {
        Interrupts { shared: Shared::default().into() }
    }

    #[test]
    fn a_child_gives_its_status() {
        let status = quiet().status(Command::new("sh").args(["-c", "exit 7"])).unwrap();
        assert_eq!(status.code(), Some(7));
    }

    #[test]
    fn sigterm_is_passed_on_to_the_child_in_the_foreground() {
        let interrupts = quiet();
        let started = interrupts.clone();
        let raiser = std::thread::spawn(move || {
            while started.shared.lock().child.is_none() {
                std::thread::yield_now();
            }
            started.shared.raise(Signal::Terminate);
        });
        // Without the signal, `cat` would wait for ever on the pipe that this test holds open.
        let (reader, _writer) = std::io::pipe().unwrap();
        let status = interrupts.status(Command::new("cat").stdin(Stdio::from(reader))).unwrap();
        raiser.join().unwrap();
        assert_eq!(status.signal(), Some(SIGTERM));
        assert_eq!(interrupts.wait(), Signal::Terminate);
    }

    #[test]
    fn nothing_is_started_after_a_signal() {
        let interrupts = quiet();
        interrupts.shared.raise(Signal::Interrupt);
        assert!(interrupts.status(&mut Command::new("true")).is_err());
        assert_eq!(interrupts.raised().map(Signal::exit_code), Some(130));
    }
}
