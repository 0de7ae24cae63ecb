//! Tests of modules that no compiler would make: what they may not do, and that all they may do is
//! undone.

use super::program::Program;
use super::testing::{input, open};
use super::{DecoderError, DecoderKind, DecoderLimits, Decoders};
use dataflows::model::Reason;
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Elements, EntityType, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, GlobalType, ImportSection, Instruction as I, MemArg, MemArgTarget,
    MemorySection, MemoryType, Module, RefType, StartSection, TableSection, TableType, TypeSection, ValType,
};

/// A module with one page of memory, a mutable global, a table and a passive segment, whose `decode`
/// does `body` and then gives an empty object with no warnings, kept at address 64.
fn module(body: &[I<'_>]) -> Vec<u8> {
    build(&[], body, 1, false, [0, 0, 0, 0, 6, 0, 0, 0, 0])
}

/// A module whose `input` does `asked` before it gives its room.
fn build(asked: &[I<'_>], body: &[I<'_>], pages: u64, imports: bool, result: [u8; 9]) -> Vec<u8> {
    let mut module = Module::new();
    let mut types = TypeSection::new();
    types.ty().function([ValType::I32], [ValType::I32]);
    types.ty().function([], [ValType::I64]);
    module.section(&types);
    if imports {
        let mut section = ImportSection::new();
        section.import("env", "now", EntityType::Function(1));
        module.section(&section);
    }
    let mut functions = FunctionSection::new();
    functions.function(0).function(1);
    module.section(&functions);
    let mut tables = TableSection::new();
    tables.table(TableType { element_type: RefType::FUNCREF, minimum: 2, maximum: None, table64: false, shared: false });
    module.section(&tables);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: pages, maximum: None, memory64: false, shared: false, page_size_log2: None });
    module.section(&memories);
    let mut globals = GlobalSection::new();
    globals.global(GlobalType { val_type: ValType::I64, mutable: true, shared: false }, &ConstExpr::i64_const(5));
    module.section(&globals);
    let first = u32::from(imports);
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0).export("input", ExportKind::Func, first).export(
        "decode",
        ExportKind::Func,
        first + 1,
    );
    module.section(&exports);
    let mut elements = ElementSection::new();
    elements.passive(Elements::Functions(vec![first].into()));
    module.section(&elements);
    module.section(&DataCountSection { count: 2 });
    let mut code = CodeSection::new();
    let mut function = Function::new([]);
    for instruction in asked {
        function.instruction(instruction);
    }
    function.instruction(&I::I32Const(4096)).instruction(&I::End);
    code.function(&function);
    let mut function = Function::new([]);
    for instruction in body {
        function.instruction(instruction);
    }
    function.instruction(&I::I64Const(9 << 32 | 64)).instruction(&I::End);
    code.function(&function);
    module.section(&code);
    let mut data = DataSection::new();
    data.active(0, &ConstExpr::i32_const(64), result).passive([1, 2, 3]);
    module.section(&data);
    module.finish()
}

/// A module that does nothing, with a start function and a table.
fn starting(start: Option<StartSection>, elements: u64) -> Vec<u8> {
    let mut module = Module::new();
    let mut types = TypeSection::new();
    types.ty().function([], []);
    module.section(&types);
    let mut functions = FunctionSection::new();
    functions.function(0);
    module.section(&functions);
    let mut tables = TableSection::new();
    tables.table(TableType { element_type: RefType::FUNCREF, minimum: elements, maximum: None, table64: false, shared: false });
    module.section(&tables);
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    module.section(&memories);
    if let Some(start) = start {
        module.section(&start);
    }
    let mut code = CodeSection::new();
    let mut function = Function::new([]);
    function.instruction(&I::End);
    code.function(&function);
    module.section(&code);
    module.finish()
}

fn at(offset: u64, align: u32) -> MemArg {
    MemArg { offset, align, target: MemArgTarget::Memory(0), ordering: None }
}

fn load(decoders: &Decoders, wasm: &[u8]) -> Result<Program, String> {
    decoders
        .0
        .load_body(DecoderKind::Wasm, wasm, decoders.0.watchdog.post())
        .map_err(|error| DecoderError::from(error).to_string())
}

#[test]
fn every_kind_of_write_is_undone() {
    let (_dir, decoders) = open(DecoderLimits::default());
    let check = |body: &[I<'_>]| {
        let mut program = load(&decoders, &module(body)).unwrap();
        assert!(program.is_as_loaded(), "{body:?}");
        program.decode(&input(&[1, 2, 3])).unwrap();
        assert!(!program.is_as_loaded(), "wrote nothing: {body:?}");
        assert!(program.reset() && program.is_as_loaded(), "{body:?}");
    };
    let value = I::I64Const(-1);
    check(&[I::I64Const(6), I::GlobalSet(0)]);
    check(&[I::I32Const(1023), I::I32Const(-1), I::I32Store8(at(0, 0))]);
    // Across the border of two cards, with a hint of alignment that is not true.
    check(&[I::I32Const(1021), I::I32Const(-1), I::I32Store(at(0, 2))]);
    check(&[I::I32Const(1023), I::I32Const(-1), I::I32Store16(at(0, 1))]);
    check(&[I::I32Const(1017), value.clone(), I::I64Store(at(0, 3))]);
    check(&[I::I32Const(1000), value.clone(), I::I64Store(at(17, 3))]);
    check(&[I::I32Const(1021), value.clone(), I::I64Store32(at(0, 2))]);
    check(&[I::I32Const(1023), value.clone(), I::I64Store16(at(0, 1))]);
    check(&[I::I32Const(1023), value, I::I64Store8(at(0, 0))]);
    check(&[I::I32Const(1022), I::F32Const(1.5.into()), I::F32Store(at(0, 2))]);
    check(&[I::I32Const(1020), I::F64Const(1.5.into()), I::F64Store(at(0, 3))]);
    check(&[I::I32Const(0), I::I32Const(-1), I::I32Store8(at(65_535, 0))]);
    check(&[I::I32Const(1000), I::I32Const(7), I::I32Const(3000), I::MemoryFill(0)]);
    check(&[I::I32Const(65_535), I::I32Const(7), I::I32Const(1), I::MemoryFill(0)]);
    check(&[I::I32Const(255), I::I32Const(64), I::I32Const(600), I::MemoryCopy { src_mem: 0, dst_mem: 0 }]);
}

#[test]
fn a_trap_is_undone_and_told() {
    let limits = DecoderLimits { fuel: 100_000, ..DecoderLimits::default() };
    let (_dir, decoders) = open(limits);
    let dirty = [I::I32Const(2000), I::I32Const(7), I::I32Const(300), I::MemoryFill(0), I::I64Const(9), I::GlobalSet(0)];
    let check = |trap: &[I<'_>], expected: Reason, detail: &str| {
        let mut program = load(&decoders, &module(&[&dirty, trap].concat())).unwrap();
        let failure = program.decode(&input(&[1])).and_then(|given| given.tree().map(drop)).err().unwrap();
        assert_eq!(failure.reason, expected, "{failure:?}");
        assert!(failure.detail.contains(detail), "{failure:?}");
        assert!(!program.is_as_loaded());
        assert!(program.reset() && program.is_as_loaded(), "{trap:?}");
    };
    check(&[I::Unreachable], Reason::DecoderError, "trapped: ");
    check(&[I::I32Const(65_533), I::I32Const(1), I::I32Store(at(0, 2))], Reason::DecoderError, "out of bounds");
    check(&[I::I32Const(-1), I::I32Const(1), I::I32Store8(at(0xffff_ffff, 0))], Reason::DecoderError, "out of bounds");
    check(&[I::I32Const(65_000), I::I32Const(1), I::I32Const(1000), I::MemoryFill(0)], Reason::DecoderError, "out of bounds");
    check(&[I::Loop(BlockType::Empty), I::Br(0), I::End], Reason::DecoderSteps, "instructions");
    check(&[I::I64Const(255 << 56), I::Return], Reason::DecoderError, "no outcome");
    check(&[I::I64Const(100 << 32 | 65_500), I::Return], Reason::DecoderError, "no outcome");
    check(&[I::I64Const(64), I::Return], Reason::DecoderError, "no result");
    check(&[I::I64Const(8 << 32 | 64), I::Return], Reason::DecoderError, "malformed");
    check(&[I::I64Const(1 << 56 | 9 << 32 | 64), I::Return], Reason::DecoderError, "\u{6}");
}

#[test]
fn a_call_that_used_up_its_instructions_is_not_told_of_the_next() {
    let (_dir, decoders) = open(DecoderLimits { fuel: 100_000, ..DecoderLimits::default() });
    // Behind the 32 bytes that precede the frame: a loop if its first byte is not zero, else a trap.
    let frame = [I::I32Const(4096 + 32), I::I32Load8U(at(0, 0)), I::If(BlockType::Empty)];
    let body = [&frame[..], &[I::Loop(BlockType::Empty), I::Br(0), I::End, I::End, I::Unreachable]].concat();
    let mut program = load(&decoders, &module(&body)).unwrap();
    for (byte, expected) in [(1, Reason::DecoderSteps), (0, Reason::DecoderError), (1, Reason::DecoderSteps)] {
        assert_eq!(program.decode(&input(&[byte])).err().unwrap().reason, expected);
        assert!(program.reset());
    }
}

#[test]
fn a_recursion_without_end_is_a_trap() {
    let (_dir, decoders) = open(DecoderLimits::default());
    let mut program = load(&decoders, &module(&[I::Call(1), I::Drop])).unwrap();
    let failure = program.decode(&input(&[1])).err().unwrap();
    assert!(failure.detail.contains("ran out of stack"), "{failure:?}");
    assert!(program.reset() && program.is_as_loaded());
}

#[test]
fn memory_that_was_grown_is_not_kept() {
    let (_dir, decoders) = open(DecoderLimits { memory_bytes: 2 << 20, ..DecoderLimits::default() });
    let mut program = load(&decoders, &module(&[I::I32Const(3), I::MemoryGrow(0), I::Drop])).unwrap();
    program.decode(&input(&[1])).unwrap();
    assert!(!program.reset(), "it must be loaded anew");
    let too_much = [I::I32Const(32), I::MemoryGrow(0), I::Drop];
    let mut program = load(&decoders, &module(&too_much)).unwrap();
    program.decode(&input(&[1])).unwrap();
    assert!(program.reset(), "it was given nothing");
    let all_then_trap = [I::I32Const(31), I::MemoryGrow(0), I::Drop, I::Unreachable];
    let mut program = load(&decoders, &module(&all_then_trap)).unwrap();
    assert_eq!(program.decode(&input(&[1])).err().unwrap().reason, Reason::DecoderMemory);
}

#[test]
fn what_asking_for_room_does_is_remembered_to_the_byte() {
    let (_dir, decoders) = open(DecoderLimits::default());
    // The length goes into memory, across two cards, and into the global; a second byte behind a card of its own.
    let asked = |fill: i32| {
        let store =
            [I::I32Const(1022), I::LocalGet(0), I::I32Store(at(0, 2)), I::I32Const(9000), I::I32Const(7), I::I32Store8(at(0, 0))];
        let rest = [
            I::LocalGet(0),
            I::I64ExtendI32U,
            I::GlobalSet(0),
            I::I32Const(20_000),
            I::I32Const(5),
            I::I32Const(fill),
            I::MemoryFill(0),
        ];
        [&store[..], &rest].concat()
    };
    let check = |asked: &[I<'_>], remembered: bool| {
        let wasm = build(asked, &[], 1, false, [0, 0, 0, 0, 6, 0, 0, 0, 0]);
        let mut program = load(&decoders, &wasm).unwrap();
        for bytes in [&[1, 2, 3][..], &[4, 5, 6], &[7, 8], &[9, 9, 9], &[1, 2]] {
            let (mut fresh, input) = (load(&decoders, &wasm).unwrap(), input(bytes));
            assert_eq!(program.given(&input), fresh.given(&input), "{bytes:?}");
            assert_eq!(program.decode(&input).map(|given| given.warnings), Ok(0));
            assert!(program.reset() && program.is_as_loaded());
        }
        assert_eq!(program.rooms(), if remembered { 2 } else { 0 });
    };
    check(&asked(0), true);
    check(&asked(300), true);
    check(&asked(10_000), false);
    // Memory that was grown is gone with the instance.
    let grown = build(&[I::I32Const(1), I::MemoryGrow(0), I::Drop], &[], 1, false, [0, 0, 0, 0, 6, 0, 0, 0, 0]);
    let mut program = load(&decoders, &grown).unwrap();
    program.decode(&input(&[1])).unwrap();
    assert_eq!((program.rooms(), program.reset()), (0, false));
}

#[test]
fn modules_that_could_keep_or_reach_something_are_refused() {
    let (_dir, decoders) = open(DecoderLimits { memory_bytes: 2 << 20, ..DecoderLimits::default() });
    let check = |wasm: &[u8], expected: &str| {
        let error = load(&decoders, wasm).err().expect(expected);
        assert!(error.contains(expected), "{error}");
    };
    let (one, three) = (I::I32Const(0), [I::I32Const(0), I::I32Const(0), I::I32Const(1)]);
    let with = |instruction: I<'static>| module(&[&three[..], &[instruction]].concat());
    check(&module(&[one.clone(), I::RefFunc(0), I::TableSet(0)]), "`table.set`");
    check(&module(&[I::RefFunc(0), one.clone(), I::TableGrow(0), I::Drop]), "`table.grow`");
    check(&module(&[one.clone(), I::RefFunc(0), one, I::TableFill(0)]), "`table.fill`");
    check(&with(I::TableCopy { src_table: 0, dst_table: 0 }), "`table.copy`");
    check(&with(I::TableInit { elem_index: 0, table: 0 }), "`table.init`");
    check(&with(I::MemoryInit { mem: 0, data_index: 1 }), "`memory.init`");
    check(&module(&[I::ElemDrop(0)]), "`elem.drop`");
    check(&module(&[I::DataDrop(1)]), "`data.drop`");
    check(&module(&[I::V128Const(1), I::Drop]), "without SIMD");
    check(&build(&[], &[], 1, true, [0; 9]), "imports the function `env.now`");
    check(&build(&[], &[], 33, false, [0; 9]), "2162688 bytes of memory");
    check(&starting(Some(StartSection { function_index: 0 }), 1), "a start function");
    check(&starting(None, 4_000_000_000), "a table of 4000000000 elements");
    check(b"\0asm\x01\0\0\0", "0 memories");
    check(b"not wasm", "no plain WebAssembly");
    let mut bare = Module::new();
    let mut memories = MemorySection::new();
    memories.memory(MemoryType { minimum: 1, maximum: None, memory64: false, shared: false, page_size_log2: None });
    bare.section(&memories);
    let mut exports = ExportSection::new();
    exports.export("memory", ExportKind::Memory, 0);
    bare.section(&exports);
    check(&bare.finish(), "no export `input(i32) -> i32`");
}

#[test]
fn compiled_modules_are_kept_within_a_bound() {
    let (_dir, decoders) = open(DecoderLimits { instances: 2, ..DecoderLimits::default() });
    for address in 0..5 {
        let hash = decoders.put(DecoderKind::Wasm, &module(&[I::I32Const(address), I::Drop])).unwrap();
        decoders.0.load((DecoderKind::Wasm, hash), decoders.0.watchdog.post()).unwrap();
        assert!((1..=2).contains(&decoders.0.modules().len()));
    }
}
