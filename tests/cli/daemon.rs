//! What runs a daemon, or asks one.

use crate::database::{Kind, TestDatabase};
use crate::run::Place;
use serde_json::Value;

#[tokio::test]
async fn the_demo_ends_verified() {
    for kind in [Kind::Plain, Kind::Timescale] {
        let database = TestDatabase::create(kind).await;
        let place = Place::new(Some(database.url()));
        let demo = ["demo", "--seconds", "3", "--json", "--devices", "50", "--rate", "100"];
        let said = place.weir(&demo).well();
        let figures: Value = serde_json::from_str(&said.out).unwrap_or_else(|e| panic!("{e}: {said:?}"));
        assert_eq!(figures["verified"], true, "{figures:#}");
        assert!(figures["uplinks_acknowledged"].as_u64() > Some(100), "{figures:#}");
        assert_eq!(figures["database"] == "PostgreSQL", kind == Kind::Plain, "{figures:#}");

        let log: Value = serde_json::from_str(&place.weir(&["log", "status", "--json"]).well().out).unwrap();
        assert!(log["bytes"].as_u64() > Some(0) && log["partitions"].as_array().map(Vec::len) == Some(16), "{log:#}");
        assert!(place.weir(&["log", "status"]).well().out.contains("bytes in"));
        assert_eq!(place.weir(&["log", "set-aside"]).well().out, "Nothing is damaged.\n");
    }
}
