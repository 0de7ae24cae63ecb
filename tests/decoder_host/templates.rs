//! The templates that ship with weir against their test vectors, through the real host.

use crate::support::Bench;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use weir::decoder::{DecoderInput, DecoderLimits, Tried, templates};

/// Whether two results are the same but for the last bits of their numbers.
fn alike(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
            (a - b).abs() <= 1e-9 * a.abs().max(b.abs()).max(1e-3)
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| alike(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| alike(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn templates_give_what_their_vectors_say() {
    let bench = Bench::open(DecoderLimits::default());
    for template in templates::all() {
        let Some((kind, body)) = template.decoder else { continue };
        bench.put(kind, body);
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates").join(template.name).join("vectors.json");
        let vectors: Vec<Value> = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        assert!(vectors.len() >= 3, "{}", path.display());
        for vector in vectors {
            let what = format!("{}: {}", template.name, vector["description"]);
            let bytes: Vec<u8> = serde_json::from_value(vector["input"]["bytes"].clone()).unwrap();
            let fport = vector["input"]["fPort"].as_u64().map(|fport| fport as u8);
            let variables = BTreeMap::new();
            let input = DecoderInput { fport, bytes: &bytes, recv_time_us: 1_700_000_000_000_000, variables: &variables };
            let tried = bench.decoders.decode_once(kind, body, &input);
            match (&vector["output"]["errors"], tried) {
                (Value::Null, Ok(Tried { result, decoded, .. })) => {
                    assert!(alike(&result, &vector["output"]["data"]), "{what}: {result}");
                    assert!(decoded.rejected.is_empty() && !decoded.measurements.is_empty(), "{what}");
                }
                (Value::Array(_), Err(failure)) => {
                    let expected = vector["output"]["errors"][0].as_str().unwrap();
                    // A module's errors are fixed texts, without the place in the payload.
                    let general = expected.split([',', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']).next().unwrap().trim();
                    let failure = failure.to_string();
                    assert!(failure.contains(expected) || failure.contains(general), "{what}: {failure}");
                }
                (expected, got) => panic!("{what}: {got:?}, expected errors {expected}"),
            }
        }
    }
}

#[test]
fn a_module_gives_what_the_script_gives() {
    let bench = Bench::open(DecoderLimits::default());
    let [script, module] =
        ["milesight-am307", "milesight-am307-native"].map(|name| templates::builtin(name).unwrap().decoder.unwrap());
    let frame = [
        1, 117, 92, 3, 103, 248, 255, 4, 104, 101, 5, 106, 73, 0, 6, 101, 18, 0, 7, 125, 231, 3, 8, 125, 205, 0, 9, 115, 151, 39,
    ];
    let variables = BTreeMap::new();
    for len in 0..=frame.len() {
        let input = DecoderInput { fport: Some(85), bytes: &frame[..len], recv_time_us: 0, variables: &variables };
        let [a, b] = [script, module].map(|(kind, body)| bench.decoders.decode_once(kind, body, &input));
        match (a, b) {
            (Ok(a), Ok(b)) => assert_eq!(a.decoded, b.decoded, "{len} bytes"),
            (a, b) => assert_eq!(a.is_err(), b.is_err(), "{len} bytes"),
        }
    }
}
