//! Every recorded envelope and what is read from it, side by side.
//!
//! `UPDATE_GOLDEN=1` writes the expectations anew; review them as a diff.

use dataflows::model::{EventTime, TenantNo};
use std::fs;
use std::path::Path;
use weir::ingest::{Context, Limits, Shape};

fn shape_of(name: &str) -> Shape {
    match name.split('_').next() {
        Some("ttn") => Shape::Ttn,
        Some("chirpstack") => Shape::ChirpStack(None),
        _ => Shape::Own,
    }
}

#[test]
fn recorded_envelopes_are_read_as_expected() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let context =
        Context { tenant: TenantNo(7), now: EventTime(1_795_352_400_000_000), limits: &Limits::default(), decodes: &|_| false };
    let mut names: Vec<_> = fs::read_dir(root.join("formats"))
        .expect("tests/formats is there")
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| ["ttn_", "chirpstack_v4_", "own_"].iter().any(|shape| name.starts_with(shape)))
        .collect();
    names.sort();
    assert!(names.len() >= 15, "the envelopes have gone: {names:?}");
    for name in names {
        let text = fs::read_to_string(root.join(format!("formats/{name}.json"))).unwrap();
        let parsed = shape_of(&name).parse(&text, &context).unwrap_or_else(|problem| panic!("{name}: {problem}"));
        let got = serde_json::to_string_pretty(&parsed).unwrap() + "\n";
        let golden = root.join(format!("golden/ingest/{name}.json"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            fs::create_dir_all(golden.parent().unwrap()).unwrap();
            fs::write(&golden, &got).unwrap();
        }
        let expected = fs::read_to_string(&golden).unwrap_or_default();
        assert_eq!(got, expected, "{name}: if the new one is right, run with UPDATE_GOLDEN=1");
    }
}
