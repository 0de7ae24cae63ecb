//! What was set aside, as people look at it; and how a database that is not there is told of.

use crate::database::{Kind, TestDatabase};
use crate::run::Place;
use dataflows::model::{DeviceId, EventTime, Record, TenantNo, Uplink};

/// An uplink as the log holds it.
fn record() -> Vec<u8> {
    let uplink = Uplink {
        tenant: TenantNo(1),
        device: DeviceId::parse("pump").unwrap(),
        received_at: EventTime(1_795_305_600_000_000),
        fport: Some(85),
        fcnt: Some(9),
        message_id: None,
        frame: vec![0xca, 0xfe],
        decoded: None,
        receptions: vec![],
    };
    postcard::to_stdvec(&Record::Uplink(Box::new(uplink))).unwrap()
}

#[tokio::test]
async fn what_is_set_aside_is_listed_shown_marked_and_dropped() {
    let database = TestDatabase::create(Kind::Timescale).await;
    let place = Place::new(Some(database.url()));
    place.weir(&["quarantine", "list"]).refused(&["weir migrate"]);
    place.weir(&["migrate"]).well();
    place.weir(&["tenant", "add", "acme"]).well();
    assert_eq!(place.weir(&["quarantine", "list"]).well().out, "None.\n");
    assert!(place.weir(&["quarantine", "retry", "--yes"]).well().out.contains("nothing to try again"));
    assert!(place.weir(&["quarantine", "drop", "--yes"]).well().out.contains("nothing to drop"));
    place.weir(&["quarantine", "show", "3", "7"]).refused(&["record 7 of partition 3", "weir quarantine list"]);
    place.weir(&["quarantine", "list", "--reason", "bad"]).refused(&["there are unknown_device, "]);
    place.weir(&["quarantine", "list", "--since", "soon"]).refused(&["soon", "24h"]);
    place.weir(&["quarantine", "retry", "3"]).refused(&["2 values required"]);

    let client = database.client().await;
    let row = "INSERT INTO quarantine (log_time, \"partition\", \"offset\", tenant_no, device, field, reason, detail, record) \
               VALUES (now() - $1::text::interval, 3, $2, 1, 'pump', $3, $4, 'because', $5)";
    for (ago, offset, field, reason) in
        [("2 hours", 7i64, None, "decoder_error"), ("1 hour", 8, Some("x"), "bad_value"), ("1 minute", 9, None, "bad_record")]
    {
        client.execute(row, &[&ago, &offset, &field, &reason, &record()]).await.unwrap();
    }
    let offsets = |more: &[&str]| {
        let rows = place.weir(&[&["quarantine", "list", "--json"], more].concat()).well().rows();
        rows.iter().map(|row| row["offset"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(offsets(&[]), [9, 8, 7], "the newest first");
    assert_eq!(offsets(&["--limit", "1"]), [9]);
    assert_eq!(offsets(&["--since", "90m", "--until", "30m"]), [8]);
    assert_eq!(offsets(&["3", "7", "--tenant", "acme", "--device", "pump", "--reason", "decoder_error"]), [7]);
    assert_eq!(offsets(&["--tenant", "globex"]), [0i64; 0]);
    let summary = place.weir(&["quarantine", "list", "--summary"]).well().out;
    assert!(summary.starts_with("reason         of          entries  devices  first"), "{summary}");
    let shown = place.weir(&["quarantine", "show", "3", "7"]).well().out;
    let expected = ["tenant:       acme", "payload:      cafe", "fcnt:         9", "`weir quarantine retry 3 7 --yes`"];
    expected.iter().for_each(|line| assert!(shown.contains(line), "{line} in {shown}"));
    assert_eq!(place.weir(&["quarantine", "show", "3", "7", "--json"]).well().rows()[0]["payload"], "cafe");

    let said = place.weir(&["quarantine", "retry"]).well().out;
    assert!(said.contains("1 cannot be tried again") && said.contains("Nothing was changed. Say --yes"), "{said}");
    let said = place.weir(&["quarantine", "retry", "--yes"]).well().out;
    assert!(said.contains("Marked 2 uplinks and fields."), "{said}");
    let marked = place.weir(&["quarantine", "list", "3", "7", "--json"]).well().rows();
    assert_eq!(marked[0]["retry"], "marked");

    let said = place.weir(&["quarantine", "drop", "--reason", "decoder_error"]).well().out;
    assert!(said.contains("Nothing was changed. Say --yes to delete 1 entries for good"), "{said}");
    assert_eq!(offsets(&[]), [9, 8, 7]);
    let said = place.weir(&["quarantine", "drop", "--reason", "decoder_error", "--yes"]).well().out;
    assert!(said.contains("Deleted 1 entries for good."), "{said}");
    assert_eq!(offsets(&[]), [9, 8]);
}

#[tokio::test]
async fn a_database_that_is_missing_is_told_of_once() {
    let database = TestDatabase::create(Kind::Plain).await;
    let place = Place::new(Some(format!("{}_missing", database.url())));
    for command in [["tenant", "list"], ["quarantine", "list"]] {
        let said = place.weir(&command);
        assert_eq!(said.err.matches("does not exist").count(), 1, "{said:?}");
        said.refused(&["no connection to the database", "accepts writes"]);
    }
}
