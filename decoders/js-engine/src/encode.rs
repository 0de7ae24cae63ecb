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
use rquickjs::{Ctx, Error, Function, Object, String, Value, qjs};

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
        if let Some(number) = value.as_number() {
            self.tagged(3, &number.to_le_bytes())
        } else if let Some(truth) = value.as_bool() {
            self.tag(1 + u8::from(truth))
        } else if let Some(text) = value.as_string() {
            self.tag(4)?;
            self.text(text)
        } else if let Some(integer) = value.as_big_int() {
            let number = integer.clone().to_i64().map_or(f64::NAN, |integer| integer as f64);
            self.tagged(3, &number.to_le_bytes())
        } else if value.is_promise() {
            Err(Refused::Result("the decoder returned a promise: make it a plain function, not an async one".into()))
        } else if value.is_function() {
            self.tag(0)
        } else if let Some(list) = value.as_array() {
            self.tag(5)?;
            self.count(list.len())?;
            list.iter::<Value<'_>>().try_for_each(|item| self.nested(&item?, depth + 1))
        } else if let Some(object) = value.as_object() {
            if is_date(value) { self.date(object) } else { self.object(object, depth) }
        } else {
            self.tag(0)
        }
    }

    /// Reads the properties by QuickJS's own functions: most of what an uplink's result holds are numbers, and a
    /// handle for each name and value would cost more than reading them.
    fn object(&mut self, object: &Object<'_>, depth: u32) -> Result<(), Refused> {
        self.tag(6)?;
        let at = self.out.len();
        self.count(0)?;
        let properties = Properties::of(object)?;
        let ctx = object.ctx();
        for property in properties.names() {
            self.key(ctx, property.atom)?;
            // SAFETY: object, atom and context are alive; the value that comes back is owned by `Value` at once
            // or, where it is a number, owns nothing.
            let value = unsafe {
                let value = qjs::JS_GetProperty(ctx.as_raw().as_ptr(), object.as_raw(), property.atom);
                if depth < DEPTH_MAX && qjs::JS_IsNumber(value) {
                    self.tagged(3, &number(value).to_le_bytes())?;
                    continue;
                }
                if qjs::JS_IsException(value) {
                    return Err(Error::Exception.into());
                }
                Value::from_raw(ctx.clone(), value)
            };
            self.nested(&value, depth + 1)?;
        }
        self.out[at..at + 4].copy_from_slice(&properties.len.to_le_bytes());
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

/// SAFETY: the value is a number.
unsafe fn number(value: qjs::JSValue) -> f64 {
    // SAFETY: as above.
    unsafe { if qjs::JS_IsInt(value) { f64::from(qjs::JS_VALUE_GET_INT(value)) } else { qjs::JS_VALUE_GET_FLOAT64(value) } }
}

fn is_date(value: &Value<'_>) -> bool {
    // SAFETY: the value is alive, and the call only looks at its class.
    unsafe { qjs::JS_IsDate(value.as_raw()) }
}
