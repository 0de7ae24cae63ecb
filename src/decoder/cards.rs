//! Owns the rewriting of a decoder's wasm so that everything it changes can be undone exactly.
//!
//! A second memory that the decoder cannot name holds one byte, a *card*, for every 256 bytes of
//! its own; every store marks the cards it touches. Mutable globals are exported. What else could
//! keep state between uplinks (changing tables, dropping segments, passive data) is refused, so that
//! memory, globals and nothing besides are what a reset has to restore.

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    BlockType, CodeSection, ExportKind, ExportSection, Function, Instruction, MemArg, MemArgTarget, MemorySection, MemoryType,
    Module, ValType,
};
use wasmparser::{ExternalKind, Operator, Parser, Payload, TypeRef, Validator, WasmFeatures};

/// Bytes of memory that one card stands for.
pub(super) const CARD_BYTES: usize = 1 << CARD_SHIFT;
/// The export that holds the cards.
pub(super) const CARDS_EXPORT: &str = "weir:cards";
/// How the exports of mutable globals begin.
pub(super) const GLOBAL_EXPORT_PREFIX: &str = "weir:global:";

const CARD_SHIFT: i32 = 8;
const PAGE_BYTES: u64 = 65_536;
/// Largest table, of 16 bytes an element: the host has to give it before any limit counts.
const TABLE_ELEMENTS_MAX: u64 = 65_536;
/// Index of the memory that is added.
const CARDS_MEMORY: u32 = 1;

/// Whether a store's alignment is a promise or, as wasm has it, a hint.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Alignment {
    /// The compiler of C and Rust keeps it: an aligned store never crosses a card.
    Kept,
    /// Anyone may have written the module.
    Hint,
}

/// Why a module cannot be a decoder.
#[derive(Debug, thiserror::Error)]
pub enum CardsError {
    /// It is not wasm, or it uses proposals that decoders cannot.
    #[error("the module is no plain WebAssembly 2.0 (without SIMD): {0}")]
    Malformed(#[from] wasmparser::BinaryReaderError),
    /// It cannot be rewritten.
    #[error("the module cannot be rewritten: {0}")]
    Rewrite(String),
    /// It imports something.
    #[error("the module imports {0}: decoders are given nothing from outside, build for wasm32-unknown-unknown")]
    Import(String),
    /// It has no memory.
    #[error("the module has {0} memories: it needs one, exported as `memory`")]
    Memories(usize),
    /// It starts out with more memory than it may have.
    #[error("the module starts with {min} bytes of memory, more than the {max} that a decoder may have")]
    MemoryBytes {
        /// What it starts with.
        min: u64,
        /// The limit.
        max: u64,
    },
    /// It runs something when it is made.
    #[error("the module has a start function: decoders run in `input` and `decode` alone, build it without")]
    Start,
    /// It starts out with a larger table than any compiler makes.
    #[error("the module starts with a table of {0} elements, more than {TABLE_ELEMENTS_MAX}: build it without")]
    Table(u64),
    /// It uses an instruction whose effect a reset could not undo.
    #[error("the module uses `{0}`, whose effect outlives an uplink: build it without")]
    Instruction(&'static str),
}

/// What a first reading of the module tells.
#[derive(Default)]
struct Survey {
    /// Parameters of each function type.
    type_params: Vec<u32>,
    /// Parameters of each function that has a body, in order.
    body_params: Vec<u32>,
    mutable_globals: Vec<u32>,
    memories: usize,
}

/// Gives the module with its stores marking cards and its memory bounded by `memory_bytes_max`.
///
/// Errors: what is not plain wasm, imports, or keeps state in tables or segments.
pub(super) fn instrument(wasm: &[u8], memory_bytes_max: u64, alignment: Alignment) -> Result<Vec<u8>, CardsError> {
    Validator::new_with_features(WasmFeatures::WASM2.difference(WasmFeatures::SIMD)).validate_all(wasm)?;
    let survey = survey(wasm, memory_bytes_max)?;
    let mut module = Module::new();
    let mut marker = Marker { survey, body: 0, memory_bytes_max, alignment };
    marker.parse_core_module(&mut module, Parser::new(0), wasm).map_err(|error| match error {
        reencode::Error::UserError(error) => error,
        error => CardsError::Rewrite(error.to_string()),
    })?;
    Ok(module.finish())
}

fn survey(wasm: &[u8], memory_bytes_max: u64) -> Result<Survey, CardsError> {
    let mut survey = Survey::default();
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::TypeSection(types) => {
                for ty in types.into_iter_err_on_gc_types() {
                    survey.type_params.push(ty?.params().len() as u32);
                }
            }
            Payload::ImportSection(imports) => {
                if let Some(import) = imports.into_imports().next() {
                    let import = import?;
                    let what = if matches!(import.ty, TypeRef::Func(_)) { "the function " } else { "" };
                    return Err(CardsError::Import(format!("{what}`{}.{}`", import.module, import.name)));
                }
            }
            Payload::FunctionSection(functions) => {
                for ty in functions {
                    survey.body_params.push(survey.type_params[ty? as usize]);
                }
            }
            Payload::GlobalSection(globals) => {
                for (index, global) in globals.into_iter().enumerate() {
                    if global?.ty.mutable {
                        survey.mutable_globals.push(index as u32);
                    }
                }
            }
            Payload::MemorySection(memories) => {
                for memory in memories {
                    survey.memories += 1;
                    let min = memory?.initial * PAGE_BYTES;
                    if min > memory_bytes_max {
                        return Err(CardsError::MemoryBytes { min, max: memory_bytes_max });
                    }
                }
            }
            Payload::TableSection(tables) => {
                for table in tables {
                    let elements = table?.ty.initial;
                    if elements > TABLE_ELEMENTS_MAX {
                        return Err(CardsError::Table(elements));
                    }
                }
            }
            // It would run where neither its steps are counted nor the watchdog looks.
            Payload::StartSection { .. } => return Err(CardsError::Start),
            _ => {}
        }
    }
    if survey.memories == 1 { Ok(survey) } else { Err(CardsError::Memories(survey.memories)) }
}

/// Copies a module section by section, with marks behind its stores.
struct Marker {
    survey: Survey,
    /// The function whose body comes next.
    body: usize,
    memory_bytes_max: u64,
    alignment: Alignment,
}

impl Reencode for Marker {
    type Error = CardsError;

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: wasmparser::MemorySectionReader<'_>,
    ) -> Result<(), reencode::Error<CardsError>> {
        let pages_max = self.memory_bytes_max / PAGE_BYTES;
        for memory in section {
            let memory = self.memory_type(memory?)?;
            memories.memory(MemoryType { maximum: Some(memory.maximum.map_or(pages_max, |own| own.min(pages_max))), ..memory });
        }
        let pages = self.memory_bytes_max.div_ceil(CARD_BYTES as u64 * PAGE_BYTES);
        memories.memory(MemoryType {
            minimum: pages,
            maximum: Some(pages),
            memory64: false,
            shared: false,
            page_size_log2: None,
        });
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), reencode::Error<CardsError>> {
        for export in section {
            let export = export?;
            if export.kind != ExternalKind::Global {
                self.parse_export(exports, export)?;
            }
        }
        exports.export(CARDS_EXPORT, ExportKind::Memory, CARDS_MEMORY);
        for global in &self.survey.mutable_globals {
            exports.export(&format!("{GLOBAL_EXPORT_PREFIX}{global}"), ExportKind::Global, *global);
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: wasmparser::FunctionBody<'_>,
    ) -> Result<(), reencode::Error<CardsError>> {
        let mut locals = Vec::new();
        let mut count = self.survey.body_params[self.body];
        self.body += 1;
        for declared in body.get_locals_reader()? {
            let (more, ty) = declared?;
            count += more;
            locals.push((more, self.val_type(ty)?));
        }
        let scratch = Scratch::behind(count);
        locals.extend(Scratch::TYPES.map(|ty| (1, ty)));
        let mut function = Function::new(locals);
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            self.operator(&mut function, scratch, operator)?;
        }
        code.function(&function);
        Ok(())
    }
}

/// Locals added to every function.
#[derive(Clone, Copy)]
struct Scratch {
    address: u32,
    len: u32,
    /// One for each type that can be stored.
    values: [u32; 4],
}

impl Scratch {
    const TYPES: [ValType; 6] = [ValType::I32, ValType::I32, ValType::I32, ValType::I64, ValType::F32, ValType::F64];

    fn behind(locals: u32) -> Self {
        Self { address: locals, len: locals + 1, values: [locals + 2, locals + 3, locals + 4, locals + 5] }
    }

    fn value(self, ty: ValType) -> u32 {
        self.values[match ty {
            ValType::I32 => 0,
            ValType::I64 => 1,
            ValType::F32 => 2,
            _ => 3,
        }]
    }
}

/// The type of the value and the bytes that a store writes; `None` for every other instruction.
fn store(operator: &Operator<'_>) -> Option<(ValType, u64, wasmparser::MemArg)> {
    Some(match *operator {
        Operator::I32Store { memarg } => (ValType::I32, 4, memarg),
        Operator::I32Store8 { memarg } => (ValType::I32, 1, memarg),
        Operator::I32Store16 { memarg } => (ValType::I32, 2, memarg),
        Operator::I64Store { memarg } => (ValType::I64, 8, memarg),
        Operator::I64Store8 { memarg } => (ValType::I64, 1, memarg),
        Operator::I64Store16 { memarg } => (ValType::I64, 2, memarg),
        Operator::I64Store32 { memarg } => (ValType::I64, 4, memarg),
        Operator::F32Store { memarg } => (ValType::F32, 4, memarg),
        Operator::F64Store { memarg } => (ValType::F64, 8, memarg),
        _ => return None,
    })
}

/// The name of an instruction that changes what a reset does not restore.
fn refused(operator: &Operator<'_>) -> Option<&'static str> {
    Some(match operator {
        Operator::TableSet { .. } => "table.set",
        Operator::TableGrow { .. } => "table.grow",
        Operator::TableFill { .. } => "table.fill",
        Operator::TableCopy { .. } => "table.copy",
        Operator::TableInit { .. } => "table.init",
        Operator::ElemDrop { .. } => "elem.drop",
        Operator::DataDrop { .. } => "data.drop",
        Operator::MemoryInit { .. } => "memory.init",
        _ => return None,
    })
}

impl Marker {
    /// Copies one instruction. What writes comes first and its marks behind it: a store that traps
    /// changes nothing and marks nothing, and a mark is never out of bounds.
    fn operator(
        &mut self,
        function: &mut Function,
        scratch: Scratch,
        operator: Operator<'_>,
    ) -> Result<(), reencode::Error<CardsError>> {
        if let Some(name) = refused(&operator) {
            return Err(reencode::Error::UserError(CardsError::Instruction(name)));
        }
        if let Some((ty, bytes, memarg)) = store(&operator) {
            function.instruction(&Instruction::LocalSet(scratch.value(ty)));
            function.instruction(&Instruction::LocalTee(scratch.address));
            function.instruction(&Instruction::LocalGet(scratch.value(ty)));
            function.instruction(&self.instruction(operator)?);
            mark_one(function, scratch, memarg.offset);
            let aligned = self.alignment == Alignment::Kept && 1 << memarg.align >= bytes;
            if bytes > 1 && !aligned {
                mark_one(function, scratch, memarg.offset + bytes - 1);
            }
        } else if matches!(operator, Operator::MemoryCopy { .. } | Operator::MemoryFill { .. }) {
            // On the stack: destination, source or value, length.
            function.instruction(&Instruction::LocalSet(scratch.len));
            function.instruction(&Instruction::LocalSet(scratch.value(ValType::I32)));
            function.instruction(&Instruction::LocalTee(scratch.address));
            function.instruction(&Instruction::LocalGet(scratch.value(ValType::I32)));
            function.instruction(&Instruction::LocalGet(scratch.len));
            function.instruction(&self.instruction(operator)?);
            mark_range(function, scratch);
        } else {
            function.instruction(&self.instruction(operator)?);
        }
        Ok(())
    }
}

/// Marks the card of the byte at `address + offset`.
fn mark_one(function: &mut Function, scratch: Scratch, offset: u64) {
    function.instruction(&Instruction::LocalGet(scratch.address));
    if offset != 0 {
        function.instruction(&Instruction::I32Const(offset as u32 as i32));
        function.instruction(&Instruction::I32Add);
    }
    function.instruction(&Instruction::I32Const(CARD_SHIFT));
    function.instruction(&Instruction::I32ShrU);
    function.instruction(&Instruction::I32Const(1));
    function.instruction(&Instruction::I32Store8(MemArg {
        offset: 0,
        align: 0,
        target: MemArgTarget::Memory(CARDS_MEMORY),
        ordering: None,
    }));
}

/// Marks the cards of the `len` bytes at `address`, where there are any.
fn mark_range(function: &mut Function, scratch: Scratch) {
    let first = |function: &mut Function| {
        function.instruction(&Instruction::LocalGet(scratch.address));
        function.instruction(&Instruction::I32Const(CARD_SHIFT));
        function.instruction(&Instruction::I32ShrU);
    };
    function.instruction(&Instruction::LocalGet(scratch.len));
    function.instruction(&Instruction::If(BlockType::Empty));
    first(function);
    function.instruction(&Instruction::I32Const(1));
    // The last card less the first, and one.
    function.instruction(&Instruction::LocalGet(scratch.address));
    function.instruction(&Instruction::LocalGet(scratch.len));
    function.instruction(&Instruction::I32Add);
    function.instruction(&Instruction::I32Const(1));
    function.instruction(&Instruction::I32Sub);
    function.instruction(&Instruction::I32Const(CARD_SHIFT));
    function.instruction(&Instruction::I32ShrU);
    first(function);
    function.instruction(&Instruction::I32Sub);
    function.instruction(&Instruction::I32Const(1));
    function.instruction(&Instruction::I32Add);
    function.instruction(&Instruction::MemoryFill(CARDS_MEMORY));
    function.instruction(&Instruction::End);
}
