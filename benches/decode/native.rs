//! QuickJS as a native library, one runtime for every uplink: no sandbox, no limits.

use rquickjs_sys as qjs;
use std::ffi::{CStr, CString};

const PRELUDE: &str = include_str!("../../decoders/js-engine/src/prelude.js");
const ENTRY: &str = include_str!("../../decoders/js-engine/src/entry.js");

/// What is evaluated for an uplink, in order: the polyfills, the script, and the call, which gives its result as
/// JSON.
pub(crate) fn sources(script: &[u8], frame: &[u8]) -> [CString; 3] {
    let entry = ENTRY.trim_end().trim_end_matches(';');
    let entry = entry.lines().filter(|line| !line.starts_with("//")).collect::<Vec<_>>().join("\n");
    let call = format!("JSON.stringify({entry}({frame:?}, 85, 0, {{}}))");
    [PRELUDE.into(), script.to_vec(), call.into_bytes()]
        .map(|source: Vec<u8>| CString::new(source).expect("no script holds a zero"))
}

/// Decodes an uplink in a runtime of its own, and gives the result as JSON.
///
/// Panics: when the script throws.
pub(crate) fn decode(sources: &[CString; 3]) -> String {
    // SAFETY: every pointer that is passed on was just given by the same library and is freed once, values before
    // their context, the context before its runtime; the sources end in a zero, as `JS_Eval` asks.
    unsafe {
        let runtime = qjs::JS_NewRuntime();
        let context = qjs::JS_NewContext(runtime);
        let mut json = String::new();
        for source in sources {
            let (text, len) = (source.as_ptr(), source.as_bytes().len());
            let value = qjs::JS_Eval(context, text, len as _, c"uplink.js".as_ptr(), qjs::JS_EVAL_TYPE_GLOBAL as _);
            assert!(!qjs::JS_IsException(value), "the script threw");
            if qjs::JS_IsString(value) {
                let text = qjs::JS_ToCString(context, value);
                json = CStr::from_ptr(text).to_string_lossy().into_owned();
                qjs::JS_FreeCString(context, text);
            }
            qjs::JS_FreeValue(context, value);
        }
        qjs::JS_FreeContext(context);
        qjs::JS_FreeRuntime(runtime);
        json
    }
}
