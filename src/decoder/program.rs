//! Owns a loaded decoder: a script in our engine, or a module of its own.

use super::DecoderLimits;
use super::compile::Prepared;
use super::flatten::{Names, Usual, flatten};
use super::input::DecoderInput;
use super::sandbox::{Sandbox, Status, Stopped, Unmade};
use super::tree::Tree;
use super::watchdog::Post;
use dataflows::decode::{DecodeFailure, Decoded, KILLED};
use dataflows::model::{EventTime, Reason};

/// One decoder, ready for the next uplink.
pub(super) struct Program {
    sandbox: Sandbox,
    names: Names,
    usual: Usual,
    steps: u32,
    result_bytes: u32,
    /// Kept for their memory.
    input: Vec<u8>,
    output: Vec<u8>,
}

/// Why a decoder is not loaded.
#[derive(Debug)]
pub(super) enum LoadError {
    /// It cannot be run, here or anywhere.
    Decoder(DecodeFailure),
    /// This machine has no room for it; that must never be held against the decoder.
    Host(String),
}

impl From<DecodeFailure> for LoadError {
    fn from(failure: DecodeFailure) -> Self {
        Self::Decoder(failure)
    }
}

/// What a decoder gave.
pub(super) struct Given<'p> {
    /// How many warnings came with it.
    pub(super) warnings: u32,
    /// The result in its binary form.
    result: &'p [u8],
    names: &'p mut Names,
    usual: &'p mut Usual,
}

impl<'p> Given<'p> {
    /// Reads the result.
    pub(super) fn tree(&self) -> Result<Tree<'p>, DecodeFailure> {
        Tree::read(self.result).map_err(|malformed| error(malformed.to_string()))
    }

    /// Makes measurements of it.
    pub(super) fn flatten(self, received_at: EventTime, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        if self.usual.read(self.result, decoded) {
            return Ok(());
        }
        let tree = self.tree()?;
        flatten(&tree, received_at, self.names, decoded)?;
        self.usual.learn(&tree, decoded);
        Ok(())
    }
}

impl Program {
    /// Loads a script into a new instance of the engine.
    ///
    /// The order matters: everything that decoding would otherwise do for the first time is done
    /// before the image is taken, so that it is not undone and done again with every uplink.
    pub(super) fn script(engine: &Prepared, source: &[u8], limits: &DecoderLimits, post: Post) -> Result<Self, LoadError> {
        let mut program = Self::new(engine, limits, post)?;
        let Self { sandbox, output, .. } = &mut program;
        sandbox.call("init", limits.heap_bytes()).map_err(|stopped| failure(stopped, Reason::DecoderInvalid))?;
        let loaded = sandbox.give(source).and_then(|()| sandbox.work("load", limits.steps, output));
        match loaded.map_err(|stopped| failure(stopped, Reason::DecoderInvalid))? {
            Status::Done => {}
            Status::Steps => {
                return Err(invalid(
                    "the script used up its steps while it was loaded: look for a loop outside of its functions",
                ))?;
            }
            Status::Memory => return Err(invalid("the script used up its memory while it was loaded: shorten its tables"))?,
            _ => return Err(invalid(&String::from_utf8_lossy(output)))?,
        }
        sandbox.tell("seal").map_err(|stopped| failure(stopped, Reason::DecoderInvalid))?;
        sandbox.take_image();
        Ok(program)
    }

    /// Makes an instance of a module.
    pub(super) fn module(module: &Prepared, limits: &DecoderLimits, post: Post) -> Result<Self, LoadError> {
        let mut program = Self::new(module, limits, post)?;
        program.sandbox.take_image();
        Ok(program)
    }

    fn new(prepared: &Prepared, limits: &DecoderLimits, post: Post) -> Result<Self, LoadError> {
        let sandbox = Sandbox::new(prepared, post).map_err(|unmade| match unmade {
            Unmade::Host(what) => LoadError::Host(what),
            missing => invalid(&missing.to_string()).into(),
        })?;
        Ok(Self {
            sandbox,
            names: Names::default(),
            usual: Usual::default(),
            steps: limits.steps,
            result_bytes: limits.result_bytes,
            input: Vec::new(),
            output: Vec::new(),
        })
    }

    /// Decodes one uplink. Whatever comes of it, [`Program::reset`] follows.
    pub(super) fn decode(&mut self, input: &DecoderInput<'_>) -> Result<Given<'_>, DecodeFailure> {
        input.write(self.steps, self.result_bytes, &mut self.input).map_err(error)?;
        self.sandbox.give(&self.input).map_err(|stopped| failure(stopped, Reason::DecoderError))?;
        let status = self.sandbox.decode(&mut self.output).map_err(|stopped| failure(stopped, Reason::DecoderError))?;
        let text = |output: &[u8]| String::from_utf8_lossy(output).into_owned();
        match status {
            Status::Done if self.output.len() > self.result_bytes as usize => {
                Err(error(format!("the result has more than {} bytes: return fewer fields", self.result_bytes)))
            }
            Status::Done => {
                let (warnings, result) = self
                    .output
                    .split_first_chunk()
                    .ok_or_else(|| error("the decoder gave no result: build it with weir's decoder kit".into()))?;
                let warnings = u32::from_le_bytes(*warnings);
                Ok(Given { warnings, result, names: &mut self.names, usual: &mut self.usual })
            }
            Status::Steps => Err(DecodeFailure { reason: Reason::DecoderSteps, detail: text(&self.output) }),
            Status::Memory => Err(DecodeFailure { reason: Reason::DecoderMemory, detail: text(&self.output) }),
            Status::Error | Status::Invalid | Status::Result => Err(error(text(&self.output))),
        }
    }

    /// Undoes all that decoding left behind; false when the program must be loaded anew.
    #[must_use = "a program that could not be reset must not see another uplink"]
    pub(super) fn reset(&mut self) -> bool {
        self.sandbox.reset()
    }

    /// What the instance holds once it is given an input, as it was loaded before and will be behind.
    #[cfg(test)]
    pub(super) fn given(&mut self, input: &DecoderInput<'_>) -> [Vec<u8>; 3] {
        input.write(self.steps, self.result_bytes, &mut self.input).unwrap();
        self.sandbox.give(&self.input).unwrap();
        let held = self.sandbox.held();
        assert!(self.sandbox.reset());
        held
    }

    /// How many rooms the instance remembers.
    #[cfg(test)]
    pub(super) fn rooms(&self) -> usize {
        self.sandbox.rooms()
    }

    /// Whether the instance is exactly as it was loaded.
    #[cfg(test)]
    pub(super) fn is_as_loaded(&mut self) -> bool {
        self.sandbox.is_image()
    }
}

fn error(detail: String) -> DecodeFailure {
    DecodeFailure { reason: Reason::DecoderError, detail }
}

fn invalid(detail: &str) -> DecodeFailure {
    DecodeFailure { reason: Reason::DecoderInvalid, detail: detail.into() }
}

/// Says for a reader why guest code did not come back; `otherwise` is for a trap.
fn failure(stopped: Stopped, otherwise: Reason) -> DecodeFailure {
    let (reason, detail) = match stopped {
        Stopped::Killed => (Reason::DecoderKilled, KILLED.into()),
        Stopped::Fuel => (Reason::DecoderSteps, "the decoder used up its instructions: look for a loop that does not end".into()),
        Stopped::Memory => (Reason::DecoderMemory, "the decoder used up its memory: look for a buffer that keeps growing".into()),
        Stopped::Trapped(how) => (otherwise, format!("the decoder {how}")),
    };
    DecodeFailure { reason, detail }
}
