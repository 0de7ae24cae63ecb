//! Owns the binary form of a result: a tree of tagged values, numbers little-endian.
//!
//! | tag | value | behind it |
//! |---|---|---|
//! | 0 | nothing: `null`, `undefined`, a function, a symbol | |
//! | 1, 2 | `false`, `true` | |
//! | 3 | a number | f64 |
//! | 4 | a text | length u32, UTF-8 |
//! | 5 | a list | count u32, values |
//! | 6 | an object | count u32, for each: length u32, key, value |
//! | 7 | a date | milliseconds since the Unix epoch, f64 (NaN: an invalid date) |

use rquickjs::function::This;
use rquickjs::{Array, BigInt, Ctx, Error, Function, Object, String, Type, Value, qjs};
use std::ffi::c_int;

/// Deepest nesting of a result.
const DEPTH_MAX: u32 = 32;

/// Why a result cannot be encoded.
pub enum Refused {
    /// The script threw while its result was read (a getter, a proxy).
    Thrown(Error),
    /// The result itself.
    Result(std::string::String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Thrown(error)
    }
}

/// Writes a result of bounded size and depth.
pub struct Encoder<'o> {
    out: &'o mut Vec<u8>,
    bytes_max: usize,
}

impl<'o> Encoder<'o> {
    /// Appends to `out`, up to `bytes_max` bytes in all.
    pub fn new(out: &'o mut Vec<u8>, bytes_max: usize) -> Self {
        Self { out, bytes_max }
    }

    /// Appends one value with all that it holds.
    pub fn value(&mut self, value: &Value<'_>) -> Result<(), Refused> {
        self.nested(value, 0)
    }

    /// Appends a number of 32 bits, untagged.
    pub fn count(&mut self, count: usize) -> Result<(), Refused> {
        self.put(&(count as u32).to_le_bytes())
    }

    fn nested(&mut self, value: &Value<'_>, depth: u32) -> Result<(), Refused> {
        if depth > DEPTH_MAX {
            return Err(Refused::Result(format!("the result nests deeper than {DEPTH_MAX} levels: return plain fields")));
        }
        if let Some(number) = number(value.as_raw()) {
            return self.tagged(3, &number.to_le_bytes());
        }
        if depth < DEPTH_MAX && let Some(plain) = Plain::of(value) {
            return self.plain(&plain, depth);
        }
        match value.type_of() {
            Type::Bool => self.tag(1 + u8::from(value.as_bool() == Some(true))),
            Type::String => {
                self.tag(4)?;
                self.text(&value.get()?)
            }
            Type::BigInt => {
                let number = value.get::<BigInt<'_>>()?.to_i64().map_or(f64::NAN, |integer| integer as f64);
                self.tagged(3, &number.to_le_bytes())
            }
            Type::Promise => Err(Refused::Result("the decoder returned a promise: make it a plain function, not an async one".into())),
            _ if value.is_function() => self.tag(0),
            Type::Array => {
                let list: Array<'_> = value.get()?;
                self.tag(5)?;
                self.count(list.len())?;
                list.iter::<Value<'_>>().try_for_each(|item| self.nested(&item?, depth + 1))
            }
            _ => match value.as_object() {
                Some(date) if is_date(value) => self.date(date),
                Some(object) => self.object(object, depth),
                None => self.tag(0),
            },
        }
    }

    /// Most results are one object of numbers and texts: a list of its names and a handle for each would cost more than
    /// reading them.
    fn plain(&mut self, plain: &Plain<'_, '_>, depth: u32) -> Result<(), Refused> {
        self.tag(6)?;
        let at = self.out.len();
        self.count(0)?;
        let mut count = 0_u32;
        for (name, value) in (0..plain.places).filter_map(|place| plain.property(place)) {
            count += 1;
            self.lengthy(name)?;
            match number(value) {
                Some(number) => self.tagged(3, &number.to_le_bytes())?,
                None => self.nested(&plain.handle(value), depth + 1)?,
            }
        }
        self.out[at..at + 4].copy_from_slice(&count.to_le_bytes());
        Ok(())
    }

    fn object(&mut self, object: &Object<'_>, depth: u32) -> Result<(), Refused> {
        self.tag(6)?;
        let properties = Properties::of(object)?;
        self.count(properties.len as usize)?;
        let ctx = object.ctx();
        for property in properties.names() {
            self.key(ctx, property.atom)?;
            // SAFETY: object, atom and context are alive; the value that comes back is owned by `Value` at once.
            let value = unsafe {
                let value = qjs::JS_GetProperty(ctx.as_raw().as_ptr(), object.as_raw(), property.atom);
                if qjs::JS_IsException(value) {
                    return Err(Error::Exception.into());
                }
                Value::from_raw(ctx.clone(), value)
            };
            self.nested(&value, depth + 1)?;
        }
        Ok(())
    }

    fn key(&mut self, ctx: &Ctx<'_>, atom: qjs::JSAtom) -> Result<(), Refused> {
        let mut len = 0;
        // SAFETY: QuickJS gives `len` initialised bytes, which live until they are freed below. They are taken as
        // bytes, not as a str: a lone surrogate is not UTF-8.
        unsafe {
            let text = qjs::JS_AtomToCStringLen(ctx.as_raw().as_ptr(), &raw mut len, atom);
            if text.is_null() {
                return Err(Error::Exception.into());
            }
            let written = self.lengthy(std::slice::from_raw_parts(text.cast(), len as usize));
            qjs::JS_FreeCString(ctx.as_raw().as_ptr(), text);
            written
        }
    }

    fn date(&mut self, date: &Object<'_>) -> Result<(), Refused> {
        let get_time: Function<'_> = date.get("getTime")?;
        let ms: f64 = get_time.call((This(date.clone()),))?;
        self.tagged(7, &ms.to_le_bytes())
    }

    fn text(&mut self, text: &String<'_>) -> Result<(), Refused> {
        let text = text.clone().to_cstring()?;
        // SAFETY: QuickJS gives `len` initialised bytes that live as long as `text`. They are taken
        // as bytes, not as a str: a lone surrogate is not UTF-8.
        let bytes = unsafe { std::slice::from_raw_parts(text.as_ptr().cast::<u8>(), text.len()) };
        self.lengthy(bytes)
    }

    fn lengthy(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        self.count(bytes.len())?;
        self.put(bytes)
    }

    fn tag(&mut self, tag: u8) -> Result<(), Refused> {
        self.put(&[tag])
    }

    fn tagged(&mut self, tag: u8, bytes: &[u8; 8]) -> Result<(), Refused> {
        self.tag(tag)?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Refused> {
        if self.out.len() + bytes.len() > self.bytes_max {
            return Err(Refused::Result(format!("the result has more than {} bytes: return fewer fields", self.bytes_max)));
        }
        self.out.extend_from_slice(bytes);
        Ok(())
    }
}

/// The names of an object's own enumerable properties.
struct Properties<'a, 'js> {
    ctx: &'a Ctx<'js>,
    names: *mut qjs::JSPropertyEnum,
    len: u32,
}

impl<'a, 'js> Properties<'a, 'js> {
    fn of(object: &'a Object<'js>) -> Result<Self, Error> {
        let (mut names, mut len) = (std::ptr::null_mut(), 0);
        let flags = (qjs::JS_GPN_STRING_MASK | qjs::JS_GPN_ENUM_ONLY) as _;
        let ctx = object.ctx();
        // SAFETY: object and context are alive, and the call writes both places or fails.
        let failed =
            unsafe { qjs::JS_GetOwnPropertyNames(ctx.as_raw().as_ptr(), &raw mut names, &raw mut len, object.as_raw(), flags) };
        if failed != 0 { Err(Error::Exception) } else { Ok(Self { ctx, names, len }) }
    }

    fn names(&self) -> &[qjs::JSPropertyEnum] {
        if self.names.is_null() {
            return &[];
        }
        // SAFETY: QuickJS gave so many names at this place, which are freed with `self`.
        unsafe { std::slice::from_raw_parts(self.names, self.len as usize) }
    }
}

impl Drop for Properties<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: the names came from QuickJS, and nobody reads them any more.
        unsafe { qjs::JS_FreePropertyEnum(self.ctx.as_raw().as_ptr(), self.names, self.len) }
    }
}

/// An object that can be read where it lies (see `quickjs/plain.h`).
struct Plain<'a, 'js> {
    object: &'a Value<'js>,
    places: c_int,
}

impl<'a, 'js> Plain<'a, 'js> {
    fn of(object: &'a Value<'js>) -> Option<Self> {
        // SAFETY: value and context are alive, and the call only looks at them.
        let places = unsafe { weir_plain_places(object.ctx().as_raw().as_ptr(), object.as_raw()) };
        (places >= 0).then_some(Self { object, places })
    }

    /// Gives the name and the value in a place, which the object owns; nothing where none is to be told of.
    fn property(&self, place: c_int) -> Option<(&'a [u8], qjs::JSValue)> {
        let (mut name, mut len, mut value) = (std::ptr::null(), 0, qjs::JS_UNDEFINED);
        let ctx = self.object.ctx().as_raw().as_ptr();
        // SAFETY: the object has such a place, for reading values that are no objects changes nothing; a name lives as long as
        // its object.
        unsafe {
            weir_plain_property(ctx, self.object.as_raw(), place, &raw mut name, &raw mut len, &raw mut value)
                .then(|| (std::slice::from_raw_parts(name, len as usize), value))
        }
    }

    /// Gives a handle of a value that the object owns.
    fn handle(&self, value: qjs::JSValue) -> Value<'js> {
        let ctx = self.object.ctx();
        // SAFETY: value and context are alive; the handle has a reference of its own.
        unsafe { Value::from_raw(ctx.clone(), qjs::JS_DupValue(ctx.as_raw().as_ptr(), value)) }
    }
}

unsafe extern "C" {
    fn weir_plain_places(ctx: *mut qjs::JSContext, value: qjs::JSValue) -> c_int;
    fn weir_plain_property(
        ctx: *mut qjs::JSContext,
        value: qjs::JSValue,
        place: c_int,
        name: *mut *const u8,
        len: *mut u32,
        found: *mut qjs::JSValue,
    ) -> bool;
}

fn number(value: qjs::JSValue) -> Option<f64> {
    // SAFETY: the parts of a value are read as what its tag says.
    unsafe {
        if qjs::JS_IsInt(value) {
            Some(f64::from(qjs::JS_VALUE_GET_INT(value)))
        } else if qjs::JS_IsNumber(value) {
            Some(qjs::JS_VALUE_GET_FLOAT64(value))
        } else {
            None
        }
    }
}

fn is_date(value: &Value<'_>) -> bool {
    // SAFETY: the value is alive, and the call only looks at its class.
    unsafe { qjs::JS_IsDate(value.as_raw()) }
}
