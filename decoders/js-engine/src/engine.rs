//! Owns the QuickJS runtime and the loaded script.

use crate::Status;
use crate::ambient;
use crate::encode::{Encoder, Refused};
use crate::input::Call;
use rquickjs::allocator::RustAllocator;
use rquickjs::context::EvalOptions;
use rquickjs::convert::Coerced;
use rquickjs::object::Property;
use rquickjs::{Array, Context, Ctx, Exception, FromJs, Function, Object, Persistent, Runtime, Value, qjs};
use std::mem::{ManuallyDrop, forget};

/// Stack that the script may use; a quarter of what the module has, for the frames of C are larger
/// on the host's stack than on this one. Unit: bytes.
const STACK_BYTES: usize = 192 * 1024;
/// Room kept for the input and the output of a call. Unit: bytes.
const BUFFER_BYTES: usize = 320 * 1024;
/// Room that the memory has for a script when decoding begins. The host looks at all of the memory after each uplink, and decoders
/// take some kilobytes; one that takes more has the memory grow, for which it is loaded anew. Unit: bytes.
const ROOM_BYTES: usize = 1 << 20;
/// QuickJS has an arena for every multiple of this size. Unit: bytes.
const SMALL_STEP_BYTES: usize = 16;
/// Largest block that comes from an arena. Unit: bytes.
const SMALL_BYTES_MAX: usize = 512;
/// Longest text of an error. Unit: bytes.
const ERROR_BYTES_MAX: usize = 1024;

/// The names that a result is asked for, interned for good.
#[derive(Clone, Copy)]
struct Names {
    errors: qjs::JSAtom,
    warnings: qjs::JSAtom,
    data: qjs::JSAtom,
}

impl Names {
    fn intern(ctx: &Ctx<'_>) -> Self {
        // SAFETY: QuickJS copies so many bytes; the atom is never given back.
        let intern = |name: &str| unsafe { qjs::JS_NewAtomLen(ctx.as_raw().as_ptr(), name.as_ptr().cast(), name.len() as _) };
        Self { errors: intern("errors"), warnings: intern("warnings"), data: intern("data") }
    }
}

/// The runtime with one script.
pub struct Engine {
    runtime: Runtime,
    context: Context,
    /// The entry point, kept alive and as QuickJS calls it.
    entry: Option<(Persistent<Function<'static>>, qjs::JSValue)>,
    /// An object like those that decoders return: while it lives, theirs need no shape of their own.
    like: Option<Persistent<Object<'static>>>,
    names: Names,
    /// Bytes that a script may add to what the runtime itself has taken.
    heap: usize,
    /// The sum of both.
    heap_end: usize,
    input: Vec<u8>,
    output: Vec<u8>,
}

impl Engine {
    /// Makes a runtime whose scripts may use `heap` bytes.
    ///
    /// Panics: when the module's memory has no room for it.
    pub fn new(heap: usize) -> Self {
        ambient::set_now_ms(0.0);
        // C's allocator cannot tell here how large a block is, so that its blocks would count for nothing.
        let runtime = Runtime::new_with_alloc(RustAllocator).expect("a fresh instance has room for a runtime");
        runtime.set_max_stack_size(STACK_BYTES);
        runtime.set_interrupt_handler(Some(Box::new(ambient::poll)));
        let context = Context::full(&runtime).expect("a fresh instance has room for a context");
        let names = context.with(|ctx| {
            evaluate(&ctx, include_str!("prelude.js"), "prelude.js").expect("the prelude runs");
            ambient::install_random(&ctx).expect("Math can be changed");
            evaluate(&ctx, include_str!("touch.js"), "touch.js").expect("touching runs");
            Names::intern(&ctx)
        });
        runtime.run_gc();
        let heap_end = runtime.memory_usage().malloc_size as usize + heap;
        runtime.set_memory_limit(heap_end);
        Self {
            runtime,
            context,
            entry: None,
            like: None,
            names,
            heap,
            heap_end,
            input: Vec::with_capacity(BUFFER_BYTES),
            output: Vec::with_capacity(BUFFER_BYTES),
        }
    }

    /// Gives room for `len` bytes of input.
    pub fn input(&mut self, len: usize) -> *mut u8 {
        self.input.clear();
        self.input.resize(len, 0);
        self.input.as_mut_ptr()
    }

    /// Gives what the last call has to say.
    pub fn output(&self) -> &[u8] {
        &self.output
    }

    /// Runs the script in the input and finds its entry point.
    pub fn load(&mut self, steps: u32) -> Status {
        ambient::set_steps(steps);
        let Self { context, entry, input, output, .. } = self;
        output.clear();
        context.with(|ctx| {
            let found =
                evaluate(&ctx, input.as_slice(), "decoder.js").and_then(|_| evaluate(&ctx, include_str!("entry.js"), "entry.js"));
            match found.map(Value::into_function) {
                Ok(Some(function)) => {
                    let raw = function.as_raw();
                    *entry = Some((Persistent::save(&ctx, function), raw));
                    Status::Done
                }
                Ok(None) => {
                    output.extend_from_slice(
                        b"the script has no function decodeUplink, Decode or Decoder: add decodeUplink(input)",
                    );
                    Status::Invalid
                }
                Err(error) => match explain(&ctx, error, output) {
                    Status::Error => Status::Invalid,
                    status => status,
                },
            }
        })
    }

    /// Gathers garbage and makes room for what decoding will allocate.
    pub fn seal(&mut self) {
        self.input = Vec::with_capacity(BUFFER_BYTES);
        self.output = Vec::with_capacity(BUFFER_BYTES);
        self.runtime.run_gc();
        self.runtime.set_memory_limit(usize::MAX);
        let room = self.heap.min(ROOM_BYTES);
        self.context.with(|ctx| {
            // SAFETY: the block is freed at once by the allocator that gave it; a null one is fine
            // to free. The allocator keeps what it took from the memory.
            unsafe {
                let block = qjs::js_malloc(ctx.as_raw().as_ptr(), room as _);
                qjs::js_free(ctx.as_raw().as_ptr(), std::hint::black_box(block));
            }
        });
        self.keep_arenas();
        self.like = self.context.with(|ctx| like(&ctx).map(|like| Persistent::save(&ctx, like)).map_err(|_| ctx.catch()).ok());
        self.runtime.set_memory_limit(self.heap_end);
        // A collection costs as much as many uplinks, and what an uplink leaves is undone anyway.
        self.runtime.set_gc_threshold(self.heap_end);
        drop(std::hint::black_box(Vec::<u8>::with_capacity(BUFFER_BYTES)));
    }

    /// Takes a block of each small size for good. QuickJS cuts small blocks of one size from an arena,
    /// and gives an arena back when its last block is freed: with every uplink it would be made anew.
    fn keep_arenas(&self) {
        self.context.with(|ctx| {
            for bytes in (SMALL_STEP_BYTES..=SMALL_BYTES_MAX).step_by(SMALL_STEP_BYTES) {
                // SAFETY: a block that is never used and never freed.
                std::hint::black_box(unsafe { qjs::js_malloc(ctx.as_raw().as_ptr(), bytes as _) });
            }
        });
    }

    /// Decodes the uplink in the input.
    pub fn decode(&mut self) -> Status {
        let Self { context, entry, names, input, output, .. } = self;
        output.clear();
        let (Some((_, entry)), Some(call)) = (entry.as_ref(), Call::read(input)) else {
            output.extend_from_slice(b"the host called decode without a script or with a malformed input");
            return Status::Invalid;
        };
        ambient::set_steps(call.steps);
        ambient::set_now_ms(call.recv_time_ms);
        ambient::set_seed(call.seed);
        context.with(|ctx| match run(&ctx, *entry, *names, &call, output) {
            Ok(status) => status,
            Err(Refused::Thrown(error)) => explain(&ctx, error, output),
            Err(Refused::Result(text)) => {
                output.clear();
                output.extend_from_slice(text.as_bytes());
                Status::Result
            }
        })
    }
}

fn evaluate<'js>(ctx: &Ctx<'js>, source: impl Into<Vec<u8>>, name: &str) -> rquickjs::Result<Value<'js>> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(name.into());
    ctx.eval_with_options(source, options)
}

/// Makes an object like those that decoders return.
fn like<'js>(ctx: &Ctx<'js>) -> rquickjs::Result<Object<'js>> {
    let like = Object::new(ctx.clone())?;
    // Defined and not set, for which a script may have a setter.
    like.prop("data", Property::from(Value::new_undefined(ctx.clone())).writable().configurable().enumerable())?;
    Ok(like)
}

/// Calls the entry point and encodes what it gives.
fn run<'js>(
    ctx: &Ctx<'js>,
    entry: qjs::JSValue,
    names: Names,
    call: &Call<'_>,
    output: &mut Vec<u8>,
) -> Result<Status, Refused> {
    // What would be freed by the end of the call is undone behind it: neither the input nor the result is freed.
    let bytes = array(ctx, call.frame)?;
    forget(bytes.clone());
    let fport = call.fport.map_or(qjs::JS_UNDEFINED, |fport| qjs::JS_MKVAL(qjs::JS_TAG_INT, fport.into()));
    let variables = variables(ctx, call)?;
    let mut arguments = [bytes.as_raw(), fport, qjs::JS_NewFloat64(call.recv_time_ms), variables];
    // SAFETY: function, arguments and context are alive; what QuickJS gives is owned by `Value`.
    let result = unsafe {
        owned(ctx, qjs::JS_Call(ctx.as_raw().as_ptr(), entry, qjs::JS_UNDEFINED, arguments.len() as _, arguments.as_mut_ptr()))?
    };
    let result = ManuallyDrop::new(result);
    let mut encoder = Encoder::new(output, call.result_max);
    let Some(result) = result.as_object().filter(|_| !result.is_promise()) else {
        encoder.value(&result)?;
        return Err(Refused::Result("the decoder returned no object: return {data: {...}}".into()));
    };
    let errors = property(result, names.errors)?;
    if let Some(text) = join(&errors)? {
        output.extend_from_slice(clip(&text).as_bytes());
        return Ok(Status::Error);
    }
    let warnings = property(result, names.warnings)?;
    encoder.count(warnings.as_array().map_or(0, Array::len))?;
    encoder.value(&property(result, names.data)?)?;
    Ok(Status::Done)
}

/// Makes the object of the device's variables; nothing where it has none.
fn variables(ctx: &Ctx<'_>, call: &Call<'_>) -> rquickjs::Result<qjs::JSValue> {
    if call.variables.is_empty() {
        return Ok(qjs::JS_UNDEFINED);
    }
    let variables = Object::new(ctx.clone())?;
    for (name, text) in &call.variables {
        variables.set(*name, *text)?;
    }
    Ok(ManuallyDrop::new(variables).as_raw())
}

fn property<'js>(object: &Object<'js>, name: qjs::JSAtom) -> rquickjs::Result<Value<'js>> {
    let ctx = object.ctx();
    // SAFETY: object, name and context are alive; what QuickJS gives is owned by `Value`.
    unsafe { owned(ctx, qjs::JS_GetProperty(ctx.as_raw().as_ptr(), object.as_raw(), name)) }
}

/// Takes what QuickJS gave, or tells that it threw.
///
/// SAFETY: nobody else owns the value, which is of this context.
unsafe fn owned<'js>(ctx: &Ctx<'js>, value: qjs::JSValue) -> rquickjs::Result<Value<'js>> {
    // SAFETY: as above.
    unsafe { if qjs::JS_IsException(value) { Err(rquickjs::Error::Exception) } else { Ok(Value::from_raw(ctx.clone(), value)) } }
}

/// Makes a plain array of numbers, at once.
fn array<'js>(ctx: &Ctx<'js>, bytes: &[u8]) -> rquickjs::Result<Value<'js>> {
    let values: Vec<qjs::JSValue> = bytes.iter().map(|byte| qjs::JS_MKVAL(qjs::JS_TAG_INT, (*byte).into())).collect();
    // SAFETY: QuickJS copies so many values, which own nothing; what it gives is owned by `Value`.
    unsafe { owned(ctx, qjs::JS_NewArrayFrom(ctx.as_raw().as_ptr(), values.len() as _, values.as_ptr())) }
}

/// Joins a list of errors to one text; `None` when there are none.
fn join(errors: &Value<'_>) -> rquickjs::Result<Option<String>> {
    if let Some(list) = errors.as_array() {
        let texts = list.iter::<Coerced<String>>().take(16).map(|text| Ok(text?.0)).collect::<rquickjs::Result<Vec<_>>>()?;
        Ok((!texts.is_empty()).then(|| texts.join("; ")))
    } else if let Some(text) = errors.as_string() {
        text.to_string().map(|text| (!text.is_empty()).then_some(text))
    } else {
        Ok(None)
    }
}

/// Says in `output` what a script's exception was about.
fn explain(ctx: &Ctx<'_>, error: rquickjs::Error, output: &mut Vec<u8>) -> Status {
    output.clear();
    if !matches!(error, rquickjs::Error::Exception) && !ctx.has_exception() {
        output.extend_from_slice(clip(&error.to_string()).as_bytes());
        return Status::Error;
    }
    let thrown = ctx.catch();
    let text = match Coerced::<String>::from_js(ctx, thrown.clone()) {
        Ok(text) => text.0,
        Err(_) => {
            ctx.catch();
            "the decoder threw something that has no text".into()
        }
    };
    if ambient::out_of_steps() {
        output.extend_from_slice(b"the decoder used up its steps: look for a loop that does not end");
        return Status::Steps;
    }
    // With no memory left for an exception QuickJS throws null, which no decoder does.
    if text.ends_with("out of memory") || thrown.is_null() {
        output.extend_from_slice(b"the decoder used up its memory (or threw null): look for a list or text that keeps growing");
        return Status::Memory;
    }
    output.extend_from_slice(clip(&text).as_bytes());
    if let Some(place) = Exception::from_value(thrown).ok().and_then(|exception| place(&exception)) {
        output.extend_from_slice(place.as_bytes());
    }
    Status::Error
}

/// Gives the line of the script that threw, as ` (decoder.js:3:10)`.
fn place(exception: &Exception<'_>) -> Option<String> {
    let stack = exception.stack()?;
    let at = stack.find("decoder.js:")?;
    let end = stack[at..].find([')', '\n']).map_or(stack.len(), |len| at + len);
    Some(format!(" ({})", clip(&stack[at..end])))
}

/// Cuts a text at a character near the limit.
fn clip(text: &str) -> &str {
    &text[..text.floor_char_boundary(ERROR_BYTES_MAX)]
}
