//! Every convention as data: a result in JSON, and the rows that it stands for.

use super::super::tree::Tree;
use super::{FIELDS_MAX, Names, Usual, flatten};
use dataflows::decode::Decoded;
use dataflows::model::{EventTime, Reason, Value};
use proptest::prelude::*;

const RECEIVED_AT: EventTime = EventTime(1_700_000_000_000_000);

/// Prints rows as `name=value@seconds`, rejections as `name!`.
fn rows(tree: &Tree<'_>) -> Result<Vec<String>, Reason> {
    let mut decoded = Decoded::default();
    flatten(tree, RECEIVED_AT, &mut Names::default(), &mut decoded).map_err(|failure| failure.reason)?;
    let measured = decoded.measurements.iter().map(|measurement| {
        let value = match &measurement.value {
            Value::Number(number) => number.to_string(),
            Value::Boolean(truth) => truth.to_string(),
            Value::Text(text) => format!("{text:?}"),
            Value::Location { latitude, longitude, altitude: None } => format!("({latitude}, {longitude})"),
            Value::Location { latitude, longitude, altitude: Some(metres) } => format!("({latitude}, {longitude}, {metres})"),
        };
        let at = measurement.at.map(|at| format!("@{}", at.0 as f64 / 1e6)).unwrap_or_default();
        format!("{}={value}{at}", measurement.field)
    });
    let rejected = decoded.rejected.iter().map(|rejected| format!("{}!", rejected.field));
    Ok(measured.chain(rejected).collect())
}

fn check(json: &str, expected: &[&str]) {
    assert_eq!(rows(&Tree::from_json(json).unwrap()).unwrap(), expected, "{json}");
}

#[test]
fn names_join_on_the_way_down() {
    check(r#"{"temperature": 23.4, "open": false, "mode": "eco"}"#, &["temperature=23.4", "open=false", "mode=\"eco\""]);
    check(r#"{"sound": {"peak": 70, "avg": {"hour": 48}}}"#, &["sound_peak=70", "sound_avg_hour=48"]);
    check(r#"{"adc": [1, 2, [3]]}"#, &["adc_0=1", "adc_1=2", "adc_2_0=3"]);
    check(r#"{"temperatureSensor": {"1": 27.2}}"#, &["temperatureSensor_1=27.2"]);
    check(r#"{"a": null, "b": {}, "c": []}"#, &[]);
    check(r#"{"Temp °C": 1, "a.b-c": 2, "": 3, "x": {"": 4}}"#, &["Temp__C=1", "a.b-c=2", "_=3", "x__=4"]);
    check("7", &["value=7"]);
    check("null", &[]);
    check("[1, true]", &["0=1", "1=true"]);
}

#[test]
fn what_cannot_be_stored_is_rejected_beside_the_rest() {
    let tree = Tree::Object(vec![
        ("a".into(), Tree::Number(f64::NAN)),
        ("b".into(), Tree::Number(f64::INFINITY)),
        ("c".into(), Tree::Number(1.0)),
        ("d".into(), Tree::Date(f64::NAN)),
    ]);
    assert_eq!(rows(&tree).unwrap(), ["c=1", "a!", "b!"]);
    let long = "x".repeat(200);
    check(
        &format!(r#"{{"{long}": 1, "{}": 2}}"#, &long[..128]),
        &[&format!("{}=2", &long[..128]), &format!("{}!", &long[..128])],
    );
    check(r#"{"text": "a\u0000b"}"#, &["text=\"a\u{fffd}b\""]);
}

#[test]
fn places_are_one_value() {
    check(r#"{"latitude": 52.1, "longitude": 5.2, "altitude": 12, "t": 1}"#, &["location=(52.1, 5.2, 12)", "t=1"]);
    check(r#"{"position": {"lat": 52.1, "lng": 5.2, "fix": true}}"#, &["position=(52.1, 5.2)", "position_fix=true"]);
    check(r#"{"gps": {"lat": 52.1, "lon": 5.2}}"#, &["gps=(52.1, 5.2)"]);
    check(r#"{"LOCATION": "(52.1, 5.2)", "note": "(near the door)"}"#, &["LOCATION=(52.1, 5.2)", "note=\"(near the door)\""]);
    check(r#"{"site": {"type": "Point", "coordinates": [5.2, 52.1]}}"#, &["site_type=\"Point\"", "site_coordinates=(52.1, 5.2)"]);
    check(r#"{"lat": 91, "lon": 5}"#, &["location!"]);
    check(r#"{"latitude": "52.1", "longitude": 5.2}"#, &["latitude=\"52.1\"", "longitude=5.2"]);
    check(r#"{"latitude": 52.1}"#, &["latitude=52.1"]);
}

#[test]
fn an_object_may_have_its_own_time() {
    check(r#"{"timestamp": 1665561758, "t": 1}"#, &["t=1@1665561758"]);
    check(r#"{"time": 1665561758500, "t": 1}"#, &["t=1@1665561758.5"]);
    check(r#"{"ts": "2022-10-12T08:02:38Z", "a": {"t": 1}}"#, &["a_t=1@1665561758"]);
    check(r#"{"time": "2022-10-12T10:02:38+02:00", "t": 1}"#, &["t=1@1665561758"]);
    check(r#"{"time": "2022-10-12 08:02:38", "t": 1}"#, &["t=1@1665561758"]);
    check(r#"{"time": "1665561758", "t": 1}"#, &["t=1@1665561758"]);
    check(r#"{"time": 12, "ts": 1665561758, "t": 1}"#, &["time=12@1665561758", "t=1@1665561758"]);
    check(r#"{"time": "soon", "timestamp": -5}"#, &["time=\"soon\"", "timestamp=-5"]);
    let dated = Tree::Object(vec![("time".into(), Tree::Date(1_665_561_758_000.0)), ("seen".into(), Tree::Date(0.0))]);
    assert_eq!(rows(&dated).unwrap(), ["seen=\"1970-01-01T00:00:00.000Z\"@1665561758"]);
}

#[test]
fn a_history_is_rows_of_the_same_fields() {
    check(
        r#"{"temperature": 20, "history": [{"timestamp": 1665561758, "temperature": 27.2}, {"timestamp": 1665562358, "temperature": 27.1}]}"#,
        &["temperature=20", "temperature=27.2@1665561758", "temperature=27.1@1665562358"],
    );
    check(r#"{"a": {"log": [{"ts": 1665561758, "x": 1}]}}"#, &["a_x=1@1665561758"]);
    check(r#"{"list": [{"x": 1}, {"timestamp": 1665561758, "x": 2}]}"#, &["list_0_x=1", "list_1_x=2@1665561758"]);
    check(r#"[{"time": 1665561758, "x": 1}, {"x": 2}]"#, &["x=1@1665561758", "x=2"]);
}

#[test]
fn records_about_fields_are_read_as_such() {
    check(
        r#"[{"field": "TEMPERATURE", "value": 23.5, "timestamp": "1555570137"}, {"field": "HUMIDITY", "value": 42}, {"field": "LOCATION", "value": "(52.1,5.2)"}]"#,
        &["TEMPERATURE=23.5@1555570137", "HUMIDITY=42", "LOCATION=(52.1, 5.2)"],
    );
    check(
        r#"{"temperature": {"unitId": "Cel", "record": 24}, "location": {"unitId": "GPS", "record": [5.2, 52.1]}}"#,
        &["temperature=24", "location=(52.1, 5.2)"],
    );
    check(
        r#"[{"bn": "urn:dev:ow:10e2073a01080063:", "n": "temp", "u": "Cel", "v": 7.1}, {"n": "open", "vb": false}, {"n": "nfc-reader", "vd": "aGkgCg"}]"#,
        &["temp=7.1", "open=false"],
    );
    check(
        r#"[{"bn": "urn:dev:ow:1:", "bt": 1276020076.001, "n": "voltage", "v": 120.1}, {"n": "current", "t": -5, "v": 1.2}]"#,
        &["voltage=120.1@1276020076.001", "current=1.2@1276020071.001"],
    );
    check(r#"[{"n": "current", "t": -5, "v": 1.2}]"#, &["current=1.2@1699999995"]);
    check(r#"[{"bn": "urn:dev:1:", "v": 20}, {"u": "lon", "v": 24.3}]"#, &["value=20", "lon=24.3"]);
}

#[test]
fn an_uplink_has_no_more_fields_than_the_limit() {
    let list = |count: usize| Tree::List(vec![Tree::Number(1.0); count]);
    assert_eq!(rows(&list(FIELDS_MAX)).unwrap().len(), FIELDS_MAX);
    assert_eq!(rows(&list(FIELDS_MAX + 1)), Err(Reason::TooManyFields));
    assert_eq!(rows(&Tree::List(vec![Tree::Number(f64::NAN); 300])), Err(Reason::TooManyFields));
}

#[test]
fn a_name_is_allocated_once() {
    let (mut names, mut decoded) = (Names::default(), Decoded::default());
    let tree = Tree::from_json(r#"{"a": {"b": 1}}"#).unwrap();
    flatten(&tree, RECEIVED_AT, &mut names, &mut decoded).unwrap();
    flatten(&tree, RECEIVED_AT, &mut names, &mut decoded).unwrap();
    let [first, second] = &decoded.measurements[..] else { panic!("two rows") };
    assert!(std::sync::Arc::ptr_eq(&first.field, &second.field));
}

/// Gives the binary form of a result without lists.
fn encoded(tree: &Tree<'_>) -> Vec<u8> {
    let text = |text: &str| [&(text.len() as u32).to_le_bytes(), text.as_bytes()].concat();
    match tree {
        Tree::Nothing => vec![0],
        Tree::Boolean(truth) => vec![1 + u8::from(*truth)],
        Tree::Number(number) => [&[3], &number.to_le_bytes()[..]].concat(),
        Tree::Text(content) => [vec![4], text(content)].concat(),
        Tree::Object(fields) => {
            let mut bytes = [&[6], &(fields.len() as u32).to_le_bytes()[..]].concat();
            fields.iter().for_each(|(key, value)| bytes.extend([text(key), encoded(value)].concat()));
            bytes
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_result_like_an_earlier_one_is_read_without_a_tree() {
    let (mut usual, mut names) = (Usual::default(), Names::default());
    let mut learn = |json: &str| {
        let (tree, mut decoded) = (Tree::from_json(json).unwrap(), Decoded::default());
        flatten(&tree, RECEIVED_AT, &mut names, &mut decoded).unwrap();
        usual.learn(&tree, &decoded);
        decoded
    };
    let learnt = learn(r#"{"t": 21.5, "open": true}"#);
    ["{}", r#"{"time": 1}"#, r#"{"lat": 1}"#, r#"{"é": 1}"#, r#"{"a": {"b": 1}}"#, r#"{"a": "x"}"#].into_iter().for_each(
        |json| {
            learn(json);
        },
    );
    let read = |bytes: &[u8]| {
        let mut decoded = Decoded::default();
        let is_read = usual.read(bytes, &mut decoded);
        assert!(is_read || decoded == Decoded::default());
        is_read.then_some(decoded)
    };
    let object = |json: &str| encoded(&Tree::from_json(json).unwrap());
    assert_eq!(read(&object(r#"{"t": 21.5, "open": true}"#)), Some(learnt));
    assert_eq!(read(&object("{}")), Some(Decoded::default()));
    for other in
        [r#"{"t": 21.5}"#, r#"{"open": true, "t": 21.5}"#, r#"{"t": 21.5, "open": null}"#, r#"{"time": 1}"#, r#"{"lat": 1}"#]
    {
        assert_eq!(read(&object(other)), None, "{other}");
    }
    assert_eq!(read(&[object(r#"{"t": 21.5, "open": true}"#), vec![0]].concat()), None);
    assert_eq!(read(&object(r#"{"t": 21.5, "open": true}"#)[..20]), None);
}

fn any_tree() -> impl Strategy<Value = Tree<'static>> {
    let key = prop_oneof![
        Just("timestamp"),
        Just("time"),
        Just("latitude"),
        Just("longitude"),
        Just("lat"),
        Just("lng"),
        Just("field"),
        Just("value"),
        Just("record"),
        Just("unitId"),
        Just("history"),
        Just("bn"),
        Just("n"),
        Just("v"),
        Just("t"),
        Just("bt"),
        Just("coordinates"),
        Just("é\0"),
        Just("")
    ];
    let leaf = prop_oneof![
        Just(Tree::Nothing),
        any::<bool>().prop_map(Tree::Boolean),
        any::<f64>().prop_map(Tree::Number),
        (3e8..2e14).prop_map(Tree::Number),
        any::<f64>().prop_map(Tree::Date),
        "\\PC{0,12}|\\([0-9.,-]{0,9}\\)|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}Z?|[0-9]{1,400}"
            .prop_map(|text: String| Tree::Text(text.into())),
    ];
    leaf.prop_recursive(6, 80, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..8).prop_map(Tree::List),
            proptest::collection::vec((key.clone().prop_map(Into::into), inner), 0..8).prop_map(Tree::Object),
        ]
    })
}

/// Objects that are often alike.
fn any_flat_object() -> impl Strategy<Value = Tree<'static>> {
    let key = prop_oneof![Just("a"), Just("b"), Just("a-b"), Just("é"), Just("time"), Just("lat"), Just("lng")];
    let leaf = prop_oneof![
        4 => (0.0..9.0).prop_map(Tree::Number),
        2 => any::<bool>().prop_map(Tree::Boolean),
        1 => Just(Tree::Number(f64::NAN)),
        1 => Just(Tree::Nothing),
        1 => Just(Tree::Text("2022-10-12T08:02:38Z".into())),
    ];
    proptest::collection::vec((key.prop_map(Into::into), leaf), 0..3).prop_map(Tree::Object)
}

proptest! {
    #[test]
    fn any_tree_becomes_storable_rows_or_is_refused(tree in any_tree()) {
        let mut decoded = Decoded::default();
        let flattened = flatten(&tree, RECEIVED_AT, &mut Names::default(), &mut decoded);
        prop_assert!(flattened.is_err() == (decoded.measurements.len() + decoded.rejected.len() > FIELDS_MAX));
        for measurement in &decoded.measurements {
            prop_assert!((1..=128).contains(&measurement.field.len()));
            prop_assert!(measurement.field.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)), "{:?}", measurement.field);
            match &measurement.value {
                Value::Number(number) => prop_assert!(number.is_finite()),
                Value::Text(text) => prop_assert!(!text.contains('\0')),
                Value::Location { latitude, longitude, .. } => prop_assert!(latitude.abs() <= 90.0 && longitude.abs() <= 180.0),
                Value::Boolean(_) => {}
            }
        }
    }

    #[test]
    fn what_was_learnt_does_not_show(results in proptest::collection::vec(any_flat_object(), 1..12)) {
        let (mut usual, mut names) = (Usual::default(), Names::default());
        for tree in results {
            let (mut got, mut expected) = (Decoded::default(), Decoded::default());
            flatten(&tree, RECEIVED_AT, &mut Names::default(), &mut expected).unwrap();
            if !usual.read(&encoded(&tree), &mut got) {
                flatten(&tree, RECEIVED_AT, &mut names, &mut got).unwrap();
                usual.learn(&tree, &got);
            }
            prop_assert_eq!(got, expected);
        }
    }
}
