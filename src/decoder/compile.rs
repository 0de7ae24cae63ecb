//! Owns the wasm compiler and the artifacts that it made, in memory and on disk.
//!
//! An artifact on disk is machine code that is mapped and run, so it is used only when its checksum
//! is that of what this version of weir wrote; anything else is compiled again and replaced.

use super::cards::{self, Alignment, CardsError};
use super::{DecoderLimits, disk};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use wasmer::sys::{CompilerConfig, Cranelift, EngineBuilder, Features};
use wasmer::wasmparser::Operator;
use wasmer::{CompileError, Engine, Module};
use wasmer_middlewares::Metering;

/// All that decides how a module is compiled: the versions of the compiler and of what it is made of,
/// how modules are instrumented, and this file, which sets the compiler up.
const RECIPE: [&[u8]; 3] = [include_bytes!("../../Cargo.lock"), include_bytes!("cards.rs"), include_bytes!("compile.rs")];

/// Which engine compiles a module.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Trust {
    /// Our own engine of scripts: bounded by its interrupt polls.
    Own,
    /// Anyone's module: every instruction is counted.
    Foreign,
}

/// Why a module cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// It is not fit to be a decoder.
    #[error(transparent)]
    Unfit(#[from] CardsError),
    /// The compiler refuses it.
    #[error("the module cannot be compiled: {0}")]
    Compile(#[from] CompileError),
}

/// A module that is ready to run.
#[derive(Clone)]
pub(super) struct Prepared {
    /// The module.
    pub(super) module: Module,
    /// The engine that it belongs to.
    pub(super) engine: Engine,
    /// Instructions that one call may use, where they are counted.
    pub(super) fuel: Option<u64>,
}

/// Compiles modules once.
pub(super) struct Compiler {
    memory_bytes: u64,
    fuel: u64,
    artifacts: Option<PathBuf>,
}

impl Compiler {
    /// Keeps artifacts in the folder `artifacts`, which exists; nowhere without one.
    pub(super) fn new(artifacts: Option<PathBuf>, limits: &DecoderLimits) -> Self {
        Self { memory_bytes: limits.memory_bytes, fuel: limits.fuel, artifacts }
    }

    /// Gives the module, from the artifact where there is a sound one.
    pub(super) fn prepare(&self, wasm: &[u8], trust: Trust) -> Result<Prepared, PrepareError> {
        // The counting of instructions is bound to one module, and so is its engine.
        let engine = engine(trust);
        let (alignment, fuel) = match trust {
            Trust::Own => (Alignment::Kept, None),
            Trust::Foreign => (Alignment::Hint, Some(self.fuel)),
        };
        let path = self.artifacts.as_ref().map(|folder| folder.join(self.key(&engine, wasm, trust)));
        if let Some(module) = path.as_ref().and_then(|path| load(&engine, path)) {
            return Ok(Prepared { module, engine, fuel });
        }
        let module = Module::new(&engine, cards::instrument(wasm, self.memory_bytes, alignment)?)?;
        if let Some(path) = path
            && let Err(error) = save(&module, &path)
        {
            tracing::warn!(%error, path = %path.display(), "a compiled decoder could not be kept; it is compiled again at the next start");
        }
        Ok(Prepared { module, engine, fuel })
    }

    /// Names an artifact by all that has a say in its bytes.
    fn key(&self, engine: &Engine, wasm: &[u8], trust: Trust) -> String {
        let mut hasher = Sha256::new();
        hasher.update(format!(
            "{} {trust:?} {} {:?}",
            engine.deterministic_id(),
            self.memory_bytes,
            wasmer::sys::CpuFeature::for_host(),
        ));
        RECIPE.iter().for_each(|part| hasher.update(part));
        hasher.update(wasm);
        data_encoding::HEXLOWER.encode(&hasher.finalize())
    }
}

fn engine(trust: Trust) -> Engine {
    let mut compiler = Cranelift::default();
    compiler.canonicalize_nans(true);
    if trust == Trust::Foreign {
        let metering: Metering<fn(&Operator<'_>) -> u64> = Metering::new(0, |_| 1);
        compiler.push_middleware(Arc::new(metering));
    }
    let mut features = Features::none();
    features.bulk_memory(true).reference_types(true).multi_value(true).multi_memory(true);
    EngineBuilder::new(compiler).set_features(Some(features)).engine().into()
}

/// Reads an artifact: SHA-256 of what follows, then what wasmer serialized.
fn load(engine: &Engine, path: &Path) -> Option<Module> {
    let bytes = std::fs::read(path).ok()?;
    let (checksum, artifact) = bytes.split_first_chunk::<32>()?;
    if Sha256::digest(artifact).as_slice() != checksum {
        tracing::warn!(path = %path.display(), "a compiled decoder is damaged on disk; it is compiled again");
        return None;
    }
    // SAFETY: the bytes are what this version of weir and wasmer serialized from code that it had
    // compiled for this processor: the name holds the versions, the checksum the content, and only
    // weir writes in the folder.
    unsafe { Module::deserialize(engine, artifact) }.ok()
}

fn save(module: &Module, path: &Path) -> std::io::Result<()> {
    let artifact = module.serialize().map_err(std::io::Error::other)?;
    disk::write_whole(path, &[&Sha256::digest(&artifact), &artifact])
}
