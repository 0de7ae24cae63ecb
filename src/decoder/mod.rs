//! The decoder host: runs what turns payloads into fields, in wasm, without trusting it.
//!
//! Owns the decoders on disk, their compiled code and every instance. A decoder is a JavaScript
//! source, run by QuickJS in wasm, or a wasm module. Invariants:
//!
//! - A result depends on the uplink, the device's variables and the decoder alone. Nothing survives
//!   from one uplink to the next (`sandbox`), time and randomness come from the uplink, and every
//!   budget is counted, not measured.
//! - What no count can end, the watchdog ends (`watchdog`), and its verdict is in the log before
//!   the worker passes the uplink.
//! - A decoder is on disk, fsynced and named by its SHA-256, before anything may name it.

mod cards;
mod compile;
mod disk;
mod flatten;
#[doc(hidden)]
pub mod fuzzing;
mod input;
mod limits;
mod program;
mod room;
mod sandbox;
mod shelf;
mod tree;
mod watchdog;
mod worker;

pub mod templates;

#[cfg(test)]
mod leaks;
#[cfg(test)]
mod modules;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use cards::CardsError;
pub use compile::PrepareError;
pub use input::DecoderInput;
pub use limits::DecoderLimits;
pub use worker::{Tried, WorkerDecoder};

use compile::{Compiler, Prepared, Trust};
use dataflows::decode::DecodeFailure;
use dataflows::model::{DecoderHash, Offset, Partition, Reason};
use hashbrown::HashMap;
use program::{LoadError, Program};
use shelf::Shelf;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use wasmer::CompileError;
use watchdog::{Post, Watchdog};

/// QuickJS with weir's ABI, built from `decoders/js-engine`.
const JS_ENGINE: &[u8] = include_bytes!("../../decoders/built/js-engine.wasm");

/// What a decoder is written in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DecoderKind {
    /// A JavaScript source.
    JavaScript,
    /// A wasm module with weir's decoder ABI (see `decoders/README.md`).
    Wasm,
}

impl DecoderKind {
    /// Tells the kind of a body: wasm begins with its magic number.
    pub fn of(body: &[u8]) -> Self {
        if body.starts_with(b"\0asm") { Self::Wasm } else { Self::JavaScript }
    }

    /// The word in the `decoder` table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::JavaScript => "javascript",
            Self::Wasm => "wasm",
        }
    }
}

/// Loads a decoder once, to see that it can be run, with the default limits.
///
/// Cost: seconds, for nothing that is compiled is kept; [`Decoders::put`] checks too.
///
/// Errors: those of [`Decoders::put`].
pub fn check(kind: DecoderKind, body: &[u8]) -> Result<(), DecoderError> {
    let limits = DecoderLimits::default();
    let watchdog = Watchdog::start(limits.watchdog).map_err(DecoderError::Watchdog)?;
    let compiler = Compiler::new(None, &limits);
    let (own, trust) = match kind {
        DecoderKind::JavaScript => (JS_ENGINE, Trust::Own),
        DecoderKind::Wasm => (body, Trust::Foreign),
    };
    let prepared = compiler.prepare(own, trust).map_err(|error| DecoderError::Invalid(error.to_string()))?;
    let loaded = match kind {
        DecoderKind::JavaScript => Program::script(&prepared, body, &limits, watchdog.post()),
        DecoderKind::Wasm => Program::module(&prepared, &limits, watchdog.post()),
    };
    Ok(loaded.map(drop)?)
}

/// Takes the watchdog's verdicts: they belong into the log.
pub trait VerdictSink: Send + Sync {
    /// Comes back when a verdict on the uplink is durable in its partition's log; waits for what passes, such as
    /// a log that is full.
    ///
    /// Errors: it never will be; the worker then ends the process, for it must not pass the uplink.
    fn condemn(&self, partition: Partition, uplink: Offset) -> Result<(), Box<dyn Error + Send + Sync>>;
}

/// What keeps the decoders from being opened, or one of them from being taken.
#[derive(Debug, thiserror::Error)]
pub enum DecoderError {
    /// The disk.
    #[error("the decoders at {path} cannot be read or written: {error}", path = .path.display())]
    Disk {
        /// Where.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The watchdog's thread.
    #[error("the decoder watchdog cannot be started: {0}")]
    Watchdog(io::Error),
    /// The engine of scripts, which comes with weir.
    #[error("weir's own JavaScript engine cannot be compiled on this machine: {0}")]
    Engine(PrepareError),
    /// The body is too long.
    #[error("the decoder has {len} bytes, more than {max}: shorten its tables")]
    TooLong {
        /// What it has.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// It cannot be run.
    #[error("{0}")]
    Invalid(String),
    /// It sets the uplink aside.
    #[error("{} ({})", .0.detail, .0.reason.as_str())]
    Failed(DecodeFailure),
    /// This machine has no room for an instance.
    #[error(
        "this machine has no room to run a decoder ({0}), each of which reserves about 8 GiB of addresses: raise `ulimit -v` \
         and vm.max_map_count, set vm.overcommit_memory to 0 or 1, or lower decoders.instances"
    )]
    Host(String),
}

impl From<LoadError> for DecoderError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Decoder(failure) => Self::Invalid(failure.detail),
            LoadError::Host(what) => Self::Host(what),
        }
    }
}

/// The decoders of a daemon, shared by all of its workers.
#[derive(Clone)]
pub struct Decoders(Arc<Shared>);

/// What all workers share.
struct Shared {
    shelf: Shelf,
    compiler: Compiler,
    js_engine: Prepared,
    /// Compiled modules, at most as many as a worker has instances.
    modules: Mutex<HashMap<DecoderHash, Prepared>>,
    limits: DecoderLimits,
    watchdog: Watchdog,
    verdicts: Arc<dyn VerdictSink>,
}

impl Decoders {
    /// Opens the decoders in the folder `dir`, which is made if it is not there. Compiled code is
    /// kept in its subfolder `artifacts`, which may be deleted at any time.
    ///
    /// Cost: seconds when the JavaScript engine has to be compiled for this machine, else milliseconds.
    ///
    /// Errors: the disk, no thread for the watchdog, or a processor that the compiler does not know.
    pub fn open(dir: &Path, limits: DecoderLimits, verdicts: Arc<dyn VerdictSink>) -> Result<Self, DecoderError> {
        let artifacts = dir.join("artifacts");
        std::fs::create_dir_all(&artifacts).map_err(|error| DecoderError::Disk { path: artifacts.clone(), error })?;
        let watchdog = Watchdog::start(limits.watchdog).map_err(DecoderError::Watchdog)?;
        let compiler = Compiler::new(Some(artifacts), &limits);
        let js_engine = compiler.prepare(JS_ENGINE, Trust::Own).map_err(DecoderError::Engine)?;
        Ok(Self(Arc::new(Shared {
            shelf: Shelf::new(dir.into()),
            compiler,
            js_engine,
            modules: Mutex::new(HashMap::new()),
            limits,
            watchdog,
            verdicts,
        })))
    }

    /// Takes a decoder in, after it has been loaded once, and gives its name. It is on disk then.
    ///
    /// Errors: it is too long or cannot be loaded (the text says why), or the disk.
    pub fn put(&self, kind: DecoderKind, body: &[u8]) -> Result<DecoderHash, DecoderError> {
        let max = self.0.limits.body_bytes;
        if body.len() > max {
            return Err(DecoderError::TooLong { len: body.len(), max });
        }
        self.0.load_body(kind, body, self.0.watchdog.post())?;
        self.0.shelf.put(body)
    }

    /// Whether a decoder is on disk, sound.
    ///
    /// Cost: reads and hashes it the first time, then only looks for its file.
    pub fn has(&self, hash: DecoderHash) -> bool {
        self.0.shelf.has(hash)
    }

    /// Makes the decoder of one worker.
    pub fn worker(&self) -> WorkerDecoder {
        WorkerDecoder::new(Arc::clone(&self.0))
    }

    /// Decodes one uplink with a decoder that need not be on disk.
    ///
    /// Errors: `Failed` where the uplink would be set aside, `Host`.
    pub fn decode_once(&self, kind: DecoderKind, body: &[u8], input: &DecoderInput<'_>) -> Result<Tried, DecoderError> {
        worker::try_once(&self.0, kind, body, input)
    }
}

impl Shared {
    /// Loads a decoder from disk.
    ///
    /// Panics: when it is not there. A record of the log names only decoders that were put here
    /// before; without one its uplinks would be set aside here and decoded elsewhere.
    fn load(&self, (kind, hash): (DecoderKind, DecoderHash), post: Post) -> Result<Program, LoadError> {
        let body = self.shelf.get(hash).unwrap_or_else(|error| {
            panic!("decoder {hash} is in effect and cannot be read: {error}: start with the database reachable, so that it is fetched again")
        });
        match kind {
            DecoderKind::JavaScript => Program::script(&self.js_engine, &body, &self.limits, post),
            DecoderKind::Wasm => {
                let known = self.modules().get(&hash).cloned();
                let module = known.map_or_else(|| self.prepare(&body), Ok)?;
                let mut modules = self.modules();
                if modules.len() >= self.limits.instances.max(1) {
                    // Whoever needs them again reads their compiled code from disk, in milliseconds.
                    modules.clear();
                }
                modules.insert(hash, module.clone());
                drop(modules);
                Program::module(&module, &self.limits, post)
            }
        }
    }

    /// Loads a decoder that need not be on disk.
    fn load_body(&self, kind: DecoderKind, body: &[u8], post: Post) -> Result<Program, LoadError> {
        match kind {
            DecoderKind::JavaScript => Program::script(&self.js_engine, body, &self.limits, post),
            DecoderKind::Wasm => Program::module(&self.prepare(body)?, &self.limits, post),
        }
    }

    fn prepare(&self, body: &[u8]) -> Result<Prepared, LoadError> {
        self.compiler.prepare(body, Trust::Foreign).map_err(|error| match error {
            PrepareError::Compile(CompileError::Resource(what)) => LoadError::Host(what),
            error => DecodeFailure { reason: Reason::DecoderInvalid, detail: error.to_string() }.into(),
        })
    }

    fn modules(&self) -> MutexGuard<'_, HashMap<DecoderHash, Prepared>> {
        // Every change is one insert or clear, so that a panic elsewhere leaves the map whole.
        self.modules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
