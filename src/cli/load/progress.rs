//! What is shown while a measurement runs: a bar on a terminal, else a line for each phase.

use indicatif::{ProgressBar, ProgressStyle};
use std::cell::RefCell;
use std::io::IsTerminal as _;
use std::time::Duration;

/// The phases of a measurement, on standard error.
#[derive(Default)]
pub(super) struct Progress(RefCell<Option<ProgressBar>>);

impl Progress {
    /// Begins a phase of `len` steps, or of unknown length where that is 0.
    pub(super) fn phase(&self, name: &str, len: u64) -> ProgressBar {
        self.end();
        if !std::io::stderr().is_terminal() {
            eprintln!("weir load: {name}");
            return ProgressBar::hidden();
        }
        let (bar, template) = match len {
            0 => (ProgressBar::new_spinner(), "{spinner} {msg} {elapsed}"),
            len => (ProgressBar::new(len), "{msg:32} {wide_bar} {human_pos} / {human_len}  {elapsed} < {eta}"),
        };
        let style = ProgressStyle::with_template(template).expect("the template is well-formed");
        let bar = bar.with_style(style).with_message(name.to_owned());
        bar.enable_steady_tick(Duration::from_millis(200));
        self.0.replace(Some(bar.clone()));
        bar
    }

    /// Takes the bar away.
    pub(super) fn end(&self) {
        if let Some(bar) = self.0.take() {
            bar.finish_and_clear();
        }
    }
}
