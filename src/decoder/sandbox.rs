//! Owns one instance of a decoder and the image that every call starts from.
//!
//! After [`Sandbox::reset`] the instance is, byte for byte, what it was when the image was taken:
//! its memory where a card is marked, its mutable globals, and there is nothing else that it could
//! have changed (see [`super::cards`]). Memory that was grown cannot be given back: such an instance
//! is not reset but thrown away, as is one that the watchdog interrupted.

use super::cards::{CARD_BYTES, CARDS_EXPORT, GLOBAL_EXPORT_PREFIX};
use super::compile::Prepared;
use super::room::Rooms;
use super::watchdog::Post;
use wasmer::sys::vm::TrapCode;
use wasmer::{
    Global, Imports, Instance, InstantiationError, Interrupter, LinkError, Memory, MemoryView, RuntimeError, Store,
    TypedFunction, Value,
};

/// How a call that came back ended, as the guest numbers it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Status {
    Done,
    Error,
    Steps,
    Memory,
    Invalid,
    Result,
}

impl Status {
    fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Done,
            1 => Self::Error,
            2 => Self::Steps,
            3 => Self::Memory,
            4 => Self::Invalid,
            5 => Self::Result,
            _ => return None,
        })
    }
}

/// Why a call did not come back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Stopped {
    /// The watchdog ended it.
    Killed,
    /// It ran out of fuel.
    Fuel,
    /// It trapped with all the memory taken that it may have.
    Memory,
    /// It trapped, or gave what is no outcome.
    Trapped(String),
}

/// Why there is no instance.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unmade {
    /// What the module lacks to be a decoder.
    #[error("the module has no {0}: see decoders/README.md for what a decoder exports")]
    Missing(String),
    /// The machine refuses, which says nothing of the module.
    #[error("{0}")]
    Host(String),
}

/// One instance.
pub(super) struct Sandbox {
    store: Store,
    instance: Instance,
    interrupter: Interrupter,
    memory: Memory,
    cards: Memory,
    globals: Vec<(Global, Value)>,
    input: TypedFunction<u32, u32>,
    decode: TypedFunction<(), u64>,
    /// Where instructions are counted.
    fuel: Option<Fuel>,
    image: Vec<u8>,
    rooms: Rooms,
    post: Post,
    /// Whether nothing has run since the image was taken or gone back to.
    untouched: bool,
    /// Whether an interrupt has made the instance unusable.
    spoilt: bool,
}

impl Sandbox {
    /// Makes an instance.
    ///
    /// Errors: an export is missing or of another type, a segment has no place, or the machine has no room.
    pub(super) fn new(prepared: &Prepared, post: Post) -> Result<Self, Unmade> {
        let mut store = Store::new(prepared.engine.clone());
        let instance = Instance::new(&mut store, &prepared.module, &Imports::new()).map_err(|error| match error {
            InstantiationError::Link(LinkError::Resource(what)) => Unmade::Host(what),
            error => Unmade::Missing(format!("way to start: {error}")),
        })?;
        let export = |name: &str| Unmade::Missing(format!("export `{name}`"));
        let memory = instance.exports.get_memory("memory").map_err(|_| export("memory"))?.clone();
        let cards = instance.exports.get_memory(CARDS_EXPORT).map_err(|_| export(CARDS_EXPORT))?.clone();
        let input = instance.exports.get_typed_function(&store, "input").map_err(|_| export("input(i32) -> i32"))?;
        let decode = instance.exports.get_typed_function(&store, "decode").map_err(|_| export("decode() -> i64"))?;
        let globals: Vec<Global> = instance
            .exports
            .iter()
            .globals()
            .filter(|(name, _)| name.starts_with(GLOBAL_EXPORT_PREFIX))
            .map(|(_, global)| global.clone())
            .collect();
        let fuel = prepared.fuel.map(|per_call| Fuel::find(&instance, per_call));
        let interrupter = store.interrupter();
        let globals = globals.into_iter().map(|global| (global.clone(), global.get(&mut store))).collect();
        Ok(Self {
            interrupter,
            memory,
            cards,
            globals,
            input,
            decode,
            fuel,
            image: Vec::new(),
            rooms: Rooms::default(),
            post,
            untouched: false,
            spoilt: false,
            store,
            instance,
        })
    }

    /// Calls an export that gives nothing, with one number.
    pub(super) fn call(&mut self, name: &str, argument: u32) -> Result<(), Stopped> {
        let function: TypedFunction<u32, ()> = self.function(name)?;
        self.watched(|store| function.call(store, argument))
    }

    /// Calls an export that gives nothing and takes nothing.
    pub(super) fn tell(&mut self, name: &str) -> Result<(), Stopped> {
        let function: TypedFunction<(), ()> = self.function(name)?;
        self.watched(|store| function.call(store))
    }

    /// Calls an export that works on the input, and takes a copy of what it gives to `output`.
    pub(super) fn work(&mut self, name: &str, argument: u32, output: &mut Vec<u8>) -> Result<Status, Stopped> {
        let function: TypedFunction<u32, u64> = self.function(name)?;
        let outcome = self.watched(|store| function.call(store, argument))?;
        self.outcome(outcome, output)
    }

    /// Decodes the input, and takes a copy of what the decoder gives to `output`.
    pub(super) fn decode(&mut self, output: &mut Vec<u8>) -> Result<Status, Stopped> {
        let decode = self.decode.clone();
        let outcome = self.watched(|store| decode.call(store))?;
        self.outcome(outcome, output)
    }

    /// Writes the input of the next call.
    pub(super) fn give(&mut self, bytes: &[u8]) -> Result<(), Stopped> {
        let len = u32::try_from(bytes.len()).map_err(|_| Stopped::Trapped("was given more than 4 GiB".into()))?;
        let at = self.room(len)? as usize;
        let range = at..at + bytes.len();
        with_bytes(&self.memory.view(&self.store), |memory| match memory.get_mut(range.clone()) {
            Some(room) => {
                room.copy_from_slice(bytes);
                Ok(())
            }
            None => Err(Stopped::Trapped("gave no room for its input".into())),
        })?;
        // What the host writes is marked as what the decoder writes.
        if !bytes.is_empty() {
            let marked = range.start / CARD_BYTES..range.end.div_ceil(CARD_BYTES);
            with_bytes(&self.cards.view(&self.store), |cards| cards[marked].fill(1));
        }
        Ok(())
    }

    /// Asks the guest for room, or does what it would do where it was asked for as much before.
    fn room(&mut self, len: u32) -> Result<u32, Stopped> {
        let Self { memory, cards, globals, store, .. } = self;
        if self.untouched
            && let Some(room) = self.rooms.find(len)
        {
            self.untouched = false;
            with_bytes(&memory.view(store), |memory| with_bytes(&cards.view(store), |cards| room.write(memory, cards)));
            for ((global, _), value) in globals.iter().zip(&room.globals).filter(|((_, image), value)| image != *value) {
                global.set(store, value.clone()).expect("a global that is exported as mutable can be set");
            }
            return Ok(room.at);
        }
        let (input, was_untouched) = (self.input.clone(), self.untouched);
        let at = self.watched(|store| input.call(store, len))?;
        let Self { memory, cards, globals, store, .. } = self;
        if was_untouched && memory.view(store).data_size() == self.image.len() as u64 {
            let globals = globals.iter().map(|(global, _)| global.get(store)).collect();
            with_bytes(&memory.view(store), |memory| {
                with_bytes(&cards.view(store), |cards| self.rooms.remember(len, at, memory, cards, globals));
            });
        }
        Ok(at)
    }

    /// Takes the image that [`Sandbox::reset`] goes back to. Pages of zeros cost it nothing.
    pub(super) fn take_image(&mut self) {
        for (global, value) in &mut self.globals {
            *value = global.get(&mut self.store);
        }
        let image = &mut self.image;
        with_bytes(&self.memory.view(&self.store), |memory| {
            *image = vec![0; memory.len()];
            for (page, kept) in memory.chunks(4096).zip(image.chunks_mut(4096)) {
                if page.iter().any(|byte| *byte != 0) {
                    kept.copy_from_slice(page);
                }
            }
        });
        with_bytes(&self.cards.view(&self.store), |cards| cards.fill(0));
        self.rooms.clear();
        self.untouched = true;
    }

    /// Undoes everything since the image was taken; false when the instance must be thrown away.
    #[must_use = "an instance that could not be reset still holds what the last uplink left"]
    pub(super) fn reset(&mut self) -> bool {
        let Self { memory, cards, store, image, globals, .. } = self;
        if self.spoilt || memory.view(store).data_size() != image.len() as u64 {
            return false;
        }
        with_bytes(&memory.view(store), |memory| {
            with_bytes(&cards.view(store), |cards| restore(memory, cards, image));
        });
        for (global, value) in globals {
            if global.set(store, value.clone()).is_err() {
                return false;
            }
        }
        self.untouched = true;
        true
    }

    /// Memory, cards, and the globals as a text.
    #[cfg(test)]
    pub(super) fn held(&mut self) -> [Vec<u8>; 3] {
        let Self { memory, cards, store, globals, .. } = self;
        let globals: Vec<Value> = globals.iter().map(|(global, _)| global.get(store)).collect();
        let copy = |memory: &Memory| with_bytes(&memory.view(store), |bytes| bytes.to_vec());
        [copy(memory), copy(cards), format!("{globals:?}").into_bytes()]
    }

    /// How many rooms are remembered.
    #[cfg(test)]
    pub(super) fn rooms(&self) -> usize {
        self.rooms.len()
    }

    /// Whether memory and globals are exactly those of the image.
    #[cfg(test)]
    pub(super) fn is_image(&mut self) -> bool {
        let Self { memory, cards, store, image, globals, .. } = self;
        let same = with_bytes(&memory.view(store), |memory| *memory == **image);
        let unmarked = with_bytes(&cards.view(store), |cards| cards.iter().all(|card| *card == 0));
        same && unmarked && globals.iter().all(|(global, value)| global.get(store) == *value)
    }

    fn function<Args, Rets>(&self, name: &str) -> Result<TypedFunction<Args, Rets>, Stopped>
    where
        Args: wasmer::WasmTypeList,
        Rets: wasmer::WasmTypeList,
    {
        self.instance
            .exports
            .get_typed_function(&self.store, name)
            .map_err(|_| Stopped::Trapped(format!("has no export `{name}`")))
    }

    /// Runs guest code before the eyes of the watchdog.
    fn watched<T>(&mut self, run: impl FnOnce(&mut Store) -> Result<T, RuntimeError>) -> Result<T, Stopped> {
        self.untouched = false;
        if let Some(fuel) = &self.fuel {
            fuel.fill(&mut self.store);
        }
        self.post.enter(self.interrupter.clone());
        let ran = run(&mut self.store);
        if self.post.leave() {
            self.spoilt = true;
            return Err(Stopped::Killed);
        }
        ran.map_err(|error| self.stopped(error))
    }

    fn stopped(&mut self, error: RuntimeError) -> Stopped {
        let exhausted = self.fuel.as_ref().is_some_and(|fuel| fuel.take_exhausted(&mut self.store));
        let full = self.memory.ty(&self.store).maximum.is_some_and(|max| self.memory.view(&self.store).size() >= max);
        match error.to_trap() {
            Some(TrapCode::HostInterrupt) => {
                self.spoilt = true;
                Stopped::Killed
            }
            _ if exhausted => Stopped::Fuel,
            Some(TrapCode::StackOverflow) => Stopped::Trapped("ran out of stack: look for a recursion that does not end".into()),
            _ if full => Stopped::Memory,
            Some(trap) => Stopped::Trapped(format!("trapped: {}", trap.message())),
            None => Stopped::Trapped("trapped".into()),
        }
    }

    /// Takes apart `status << 56 | len << 32 | ptr`.
    fn outcome(&self, outcome: u64, output: &mut Vec<u8>) -> Result<Status, Stopped> {
        let (len, at) = ((outcome >> 32) as usize & 0xff_ffff, outcome as u32 as usize);
        output.clear();
        with_bytes(&self.memory.view(&self.store), |memory| memory.get(at..at + len).map(|bytes| output.extend_from_slice(bytes)))
            .and(Status::of((outcome >> 56) as u8))
            .ok_or_else(|| Stopped::Trapped("gave what is no outcome".into()))
    }
}

/// The globals in which the instructions of a module are counted, found once: every call sets them.
struct Fuel {
    /// Instructions that one call may use.
    per_call: u64,
    remaining: Global,
    exhausted: Global,
}

impl Fuel {
    /// Panics: when the module was compiled without counting.
    fn find(instance: &Instance, per_call: u64) -> Self {
        let global = |name| instance.exports.get_global(name).expect("a module that is counted exports its counters").clone();
        let [remaining, exhausted] = ["wasmer_metering_remaining_points", "wasmer_metering_points_exhausted"].map(global);
        Self { per_call, remaining, exhausted }
    }

    fn fill(&self, store: &mut Store) {
        self.remaining.set(store, Value::I64(self.per_call as i64)).expect(COUNTERS_CAN_BE_SET);
    }

    /// Whether the last call used it up; the next one is not told.
    fn take_exhausted(&self, store: &mut Store) -> bool {
        let exhausted = self.exhausted.get(store) != Value::I32(0);
        self.exhausted.set(store, Value::I32(0)).expect(COUNTERS_CAN_BE_SET);
        exhausted
    }
}

const COUNTERS_CAN_BE_SET: &str = "metering exports its counters as mutable globals";

/// Copies back the blocks whose cards are marked, and clears the marks.
fn restore(memory: &mut [u8], cards: &mut [u8], image: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    if std::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { restore_avx2(memory, cards, image) };
    }
    restore_plain(memory, cards, image);
}

/// [`restore_plain`] with wider registers: looking at the cards is half of what a reset costs.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn restore_avx2(memory: &mut [u8], cards: &mut [u8], image: &[u8]) {
    restore_plain(memory, cards, image);
}

#[inline(always)]
fn restore_plain(memory: &mut [u8], cards: &mut [u8], image: &[u8]) {
    /// Most cards are not marked: so many are looked at as a whole. Divides the cards of a page of memory.
    const GROUP: usize = 256;
    /// And of those in a group that has a marked one, so many.
    const WORD: usize = 8;
    let cards = &mut cards[..memory.len() / CARD_BYTES];
    for (group, marks) in cards.chunks_exact_mut(GROUP).enumerate() {
        if marks.iter().fold(0, |any, mark| any | mark) == 0 {
            continue;
        }
        for (word, marks) in marks.as_chunks_mut::<WORD>().0.iter_mut().enumerate() {
            let mut marked = u64::from_le_bytes(*marks);
            while marked != 0 {
                let index = marked.trailing_zeros() as usize / 8;
                let at = (group * GROUP + word * WORD + index) * CARD_BYTES;
                memory[at..][..CARD_BYTES].copy_from_slice(&image[at..][..CARD_BYTES]);
                marked &= !(0xff << (index * 8));
                marks[index] = 0;
            }
        }
    }
}

/// Lends the bytes of a memory.
fn with_bytes<T>(view: &MemoryView<'_>, work: impl FnOnce(&mut [u8]) -> T) -> T {
    // SAFETY: a sandbox lives on one thread and lends its memories only here, each once at a time,
    // while no guest code runs; the memories are not shared, so nobody else reads or writes them.
    work(unsafe { view.data_unchecked_mut() })
}
