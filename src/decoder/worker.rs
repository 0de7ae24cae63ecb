//! Owns the decoders of one worker: loaded when an uplink first needs them, as many as the limit
//! allows, and exact copies of what was loaded before every single uplink.

use super::flatten::{Names, flatten};
use super::input::DecoderInput;
use super::program::{LoadError, Program};
use super::tree::Tree;
use super::watchdog::Post;
use super::{DecoderError, DecoderKind, Shared};
use dataflows::decode::{Decode, DecodeCall, DecodeFailure, Decoded};
use dataflows::model::{DecoderHash, Decoding, EventTime, Offset, Partition, Reason, Uplink};
use hashbrown::HashMap;
use std::sync::Arc;

/// A decoder of a worker, by what names it.
type Key = (DecoderKind, DecoderHash);

/// Gives the offset of a partition below which the tables hold what every uplink came to.
type Settled = Box<dyn Fn(Partition) -> Offset>;

/// Decodes for one worker of the graph.
///
/// State: at most [`super::DecoderLimits::instances`] instances, each with its memory and an image.
pub struct WorkerDecoder {
    shared: Arc<Shared>,
    post: Post,
    programs: HashMap<Key, Entry>,
    /// Counts the uplinks, to know which instance was not used for longest.
    uplinks: u64,
    upstream_names: Names,
    warnings: u64,
    settled: Settled,
    /// Whether the watchdog leaves the run under way alone.
    trusts: bool,
}

struct Entry {
    used: u64,
    /// A decoder that cannot be loaded is not tried again with every uplink.
    program: Result<Box<Program>, DecodeFailure>,
}

impl WorkerDecoder {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let post = shared.watchdog.post();
        let (programs, upstream_names) = (HashMap::new(), Names::default());
        let settled = Box::new(|_| Offset(0));
        Self { shared, post, programs, uplinks: 0, upstream_names, warnings: 0, settled, trusts: false }
    }

    /// Has the watchdog leave alone what is settled: an uplink below this offset was decoded to its end once, or there is a
    /// verdict on it. Where a replay takes longer for it, a verdict would contradict the tables.
    #[must_use]
    pub fn settled_below(mut self, settled: impl Fn(Partition) -> Offset + 'static) -> Self {
        self.settled = Box::new(settled);
        self
    }

    /// Counts the warnings that decoders have returned beside their results.
    pub fn warnings(&self) -> u64 {
        self.warnings
    }

    /// Counts the decoders that are loaded.
    pub fn loaded(&self) -> usize {
        self.programs.len()
    }

    fn run(&mut self, key: Key, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        let Uplink { fport, received_at, frame, .. } = call.uplink;
        let input = DecoderInput { fport: *fport, bytes: frame, recv_time_us: received_at.0, variables: &call.device.variables };
        let program = match self.program(key) {
            Ok(program) => program,
            Err(failure) => return Err(failure.clone()),
        };
        let mut warnings = 0;
        let ran = program.decode(&input).and_then(|given| {
            warnings = given.warnings;
            given.flatten(*received_at, decoded)
        });
        if !program.reset() {
            self.programs.remove(&key);
        }
        self.warnings += u64::from(warnings);
        ran
    }

    /// Gives the loaded decoder, or why it cannot be loaded.
    fn program(&mut self, key: Key) -> Result<&mut Program, DecodeFailure> {
        if !self.programs.contains_key(&key) {
            let program = self.load(key);
            if let Err(failure) = &program
                && failure.reason == Reason::DecoderKilled
            {
                return Err(failure.clone());
            }
            self.make_room();
            self.programs.insert(key, Entry { used: 0, program: program.map(Box::new) });
        }
        let entry = self.programs.get_mut(&key).expect("it was there or has just been put there");
        entry.used = self.uplinks;
        entry.program.as_deref_mut().map_err(|failure| failure.clone())
    }

    /// Loads a decoder. Where the machine has no room for its instance, all others are let go, and it is tried
    /// once more.
    ///
    /// Panics: when there is no room even then: an uplink must not be set aside for what another machine has.
    fn load(&mut self, key: Key) -> Result<Program, DecodeFailure> {
        let full = match self.shared.load(key, self.post.clone()) {
            Ok(program) => return Ok(program),
            Err(LoadError::Decoder(failure)) => return Err(failure),
            Err(LoadError::Host(what)) => DecoderError::Host(what),
        };
        tracing::warn!(decoder = %key.1, loaded = self.programs.len(), %full, "other decoders make room, and are loaded again when they are needed");
        self.programs.clear();
        match self.shared.load(key, self.post.clone()) {
            Ok(program) => Ok(program),
            Err(LoadError::Decoder(failure)) => Err(failure),
            Err(LoadError::Host(what)) => panic!("{}", DecoderError::Host(what)),
        }
    }

    #[cfg(test)]
    pub(super) fn load_for_test(&mut self, key: Key) -> Result<(), DecodeFailure> {
        self.program(key).map(drop)
    }

    fn make_room(&mut self) {
        if self.programs.len() < self.shared.limits.instances.max(1) {
            return;
        }
        let oldest = self.programs.iter().min_by_key(|(_, entry)| entry.used).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.programs.remove(&oldest);
        }
    }

    fn upstream(&mut self, uplink: &Uplink, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        let nothing = |detail: &str| DecodeFailure { reason: Reason::NothingDecoded, detail: detail.into() };
        let json = uplink.decoded.as_deref().ok_or_else(|| {
            nothing("the network sent no decoded fields: set a payload formatter there, or a decoder in the template")
        })?;
        let tree =
            Tree::from_json(json).map_err(|error| nothing(&format!("the network's decoded fields cannot be read: {error}")))?;
        flatten(&tree, uplink.received_at, &mut self.upstream_names, decoded)
    }
}

impl Decode for WorkerDecoder {
    /// Panics: when a verdict cannot be written to the log, or a decoder that the log names is not
    /// on disk. Going on would make results depend on more than the log.
    fn decode(&mut self, call: &DecodeCall<'_>, decoded: &mut Decoded) -> Result<(), DecodeFailure> {
        self.uplinks += 1;
        let trusts = call.offset < (self.settled)(call.partition);
        if trusts != self.trusts {
            self.trusts = trusts;
            self.post.trust(trusts);
        }
        let ran = match call.template.decoding {
            Decoding::Upstream => self.upstream(call.uplink, decoded),
            Decoding::JavaScript(hash) => self.run((DecoderKind::JavaScript, hash), call, decoded),
            Decoding::Wasm(hash) => self.run((DecoderKind::Wasm, hash), call, decoded),
        };
        if let Err(DecodeFailure { reason: Reason::DecoderKilled, .. }) = &ran {
            self.shared.verdicts.condemn(call.partition, call.offset).unwrap_or_else(|error| {
                panic!("partition {} offset {}: the watchdog's verdict is not in the log: {error}", call.partition, call.offset)
            });
        }
        ran
    }
}

/// What one decoding gives to a person who tries a decoder.
#[derive(Clone, PartialEq, Debug)]
pub struct Tried {
    /// The result as the decoder returned it, for reading.
    pub result: serde_json::Value,
    /// The measurements and rejections that weir makes of it.
    pub decoded: Decoded,
    /// How many warnings came with it.
    pub warnings: u32,
}

/// Loads a decoder, decodes one uplink, and lets go of it.
pub(super) fn try_once(shared: &Shared, kind: DecoderKind, body: &[u8], input: &DecoderInput<'_>) -> Result<Tried, DecoderError> {
    let loaded = shared.load_body(kind, body, shared.watchdog.post());
    let mut program = loaded.map_err(|error| match error {
        LoadError::Decoder(failure) => DecoderError::Failed(failure),
        LoadError::Host(what) => DecoderError::Host(what),
    })?;
    try_loaded(&mut program, input).map_err(DecoderError::Failed)
}

fn try_loaded(program: &mut Program, input: &DecoderInput<'_>) -> Result<Tried, DecodeFailure> {
    let given = program.decode(input)?;
    let (warnings, mut decoded) = (given.warnings, Decoded::default());
    let result = serde_json::to_value(given.tree()?).map_err(|error| DecodeFailure {
        reason: Reason::DecoderError,
        detail: format!("the result cannot be shown: {error}"),
    })?;
    given.flatten(EventTime(input.recv_time_us), &mut decoded)?;
    Ok(Tried { result, decoded, warnings })
}
