//! What is set aside is found, brought out and dropped.

use crate::fixture::{DAY, Fixture, PARTITION, after, commit, numbers, partial, placed, series, stored};
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{
    BucketLevel, DAY_US, DeviceId, DeviceNo, FieldNo, HOUR_US, LogTime, Offset, Outputs, Placed, Quarantined, Reason, Released,
    SeriesId, TenantNo, ValueKind,
};
use weir::store::quarantine::{EntryId, Filter, RowsRetried, Wanted, Way};
use weir::store::{Commit, Commits};

fn set_aside(offset: u64, log_time: i64, device: &str, field: Option<&str>, reason: Reason) -> Placed<Quarantined> {
    let row = Quarantined {
        log_time: LogTime(log_time),
        tenant: TenantNo(1),
        device: DeviceId::parse(device).unwrap(),
        field: field.map(Into::into),
        reason,
        detail: "because".into(),
        record: vec![7; 3],
    };
    placed(offset, row)
}

fn released(by: u64, offset: u64, log_time: i64, field: Option<&str>) -> Placed<Released> {
    placed(by, Released { offset: Offset(offset), log_time: LogTime(log_time), field: field.map(Into::into) })
}

/// What stands in quarantine, and what is marked.
async fn standing(fixture: &Fixture) -> (Vec<String>, Vec<String>) {
    let entries = "SELECT concat_ws(' ', \"offset\", field, reason) FROM quarantine ORDER BY 1";
    let marks = "SELECT concat_ws(' ', \"offset\", field) FROM quarantine_retry ORDER BY 1";
    (fixture.texts(entries).await, fixture.texts(marks).await)
}

async fn an_entry_goes_with_the_commit_of_its_retry(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    // Weeks lie between the two, so that they stand in different parts of the table.
    let (first, second) = (DAY, DAY + 20 * DAY_US);
    let quarantined = vec![
        set_aside(0, first, "pump", None, Reason::UnknownDevice),
        set_aside(1, first, "pump", None, Reason::DecoderError),
        set_aside(2, second, "pump", Some("x"), Reason::BadValue),
        set_aside(2, second, "pump", Some("x"), Reason::BadTime),
        set_aside(2, second, "pump", Some("y"), Reason::BadValue),
        // The database's own refusals, of the same places.
        set_aside(0, first, "pump", None, Reason::RowRefused),
        set_aside(2, second, "pump", Some("x"), Reason::RowRefused),
    ];
    committer.commit(Commits(&[&commit(taken, 3, Outputs { quarantined, ..Outputs::default() })])).await.unwrap();
    assert_eq!(fixture.store.quarantine_mark(&Filter::default()).await.unwrap(), 4);
    assert_eq!(fixture.store.quarantine_mark(&Filter::default()).await.unwrap(), 0, "they are marked");
    let outputs = Outputs {
        released: vec![released(3, 0, first, None), released(4, 2, second, Some("x")), released(4, 9, second, None)],
        quarantined: vec![set_aside(3, second, "pump", None, Reason::DecoderSteps)],
        ..Outputs::default()
    };
    let next = commit(after(taken, 3), 5, outputs);
    committer.commit(Commits(&[&next])).await.unwrap();
    let entries = ["0 row_refused", "1 decoder_error", "2 x row_refused", "2 y bad_value", "3 decoder_steps"];
    let standing = standing(&fixture).await;
    assert_eq!(standing, (entries.map(Into::into).to_vec(), ["1", "2 y"].map(Into::into).to_vec()));
    // A commit that does not go through takes nothing away.
    let late = Commit { outputs: Outputs { released: vec![released(4, 1, first, None)], ..Outputs::default() }, ..next };
    committer.commit(Commits(&[&late])).await.unwrap_err();
    assert_eq!(self::standing(&fixture).await, standing);
    // In a replay an entry may come and go at once.
    let outputs = Outputs {
        quarantined: vec![set_aside(5, second, "pump", None, Reason::UnknownDevice)],
        released: vec![released(6, 5, second, None)],
        ..Outputs::default()
    };
    committer.commit(Commits(&[&commit(after(taken, 5), 7, outputs)])).await.unwrap();
    assert_eq!(self::standing(&fixture).await, standing);
}

async fn marks_are_read_in_the_order_in_which_their_records_came(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let quarantined = vec![
        set_aside(0, DAY + 2, "pump", None, Reason::UnknownDevice),
        set_aside(1, DAY + 1, "pump", None, Reason::UnknownDevice),
        set_aside(2, DAY + 3, "pump", Some("x"), Reason::BadValue),
    ];
    let outputs = Outputs { quarantined, ..Outputs::default() };
    fixture.committer().await.commit(Commits(&[&commit(taken, 3, outputs)])).await.unwrap();
    let mut client = fixture.store.client().await.unwrap();
    assert_eq!(Wanted::read(&mut client, 10).await.unwrap(), Wanted::default());
    fixture.store.quarantine_mark(&Filter::default()).await.unwrap();
    fixture.client.batch_execute("DELETE FROM quarantine WHERE \"offset\" = 0").await.unwrap();
    let id = |offset, log_time, field: Option<&str>| EntryId {
        log_time: LogTime(log_time),
        partition: PARTITION,
        offset: Offset(offset),
        field: field.map(Into::into),
    };
    let wanted = Wanted::read(&mut client, 10).await.unwrap();
    assert_eq!(Vec::from_iter(wanted.entries), [id(1, DAY + 1, None), id(2, DAY + 3, Some("x"))]);
    assert_eq!(Vec::from_iter(wanted.idle.clone()), [id(0, DAY + 2, None)]);
    assert_eq!(wanted.progress[0].offset, Offset(3));
    EntryId::unmark(&client, &wanted.idle).await.unwrap();
    let wanted = Wanted::read(&mut client, 1).await.unwrap();
    assert_eq!((wanted.entries.len(), wanted.idle.len()), (1, 0));
    let entry = wanted.entries.first().unwrap();
    assert_eq!(entry.read(&client).await.unwrap(), Some((Reason::UnknownDevice, vec![7; 3])));
    assert_eq!(id(0, DAY + 2, None).read(&client).await.unwrap(), None);
}

async fn entries_are_found_by_all_that_is_said_and_dropped(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let quarantined = vec![
        set_aside(0, DAY, "pump", None, Reason::UnknownDevice),
        set_aside(1, DAY + HOUR_US, "valve", None, Reason::UnknownDevice),
        set_aside(2, DAY + 2 * HOUR_US, "pump", None, Reason::DecoderError),
        set_aside(3, DAY + 3 * HOUR_US, "pump", Some("x"), Reason::BadValue),
    ];
    let outputs = Outputs { quarantined, ..Outputs::default() };
    fixture.committer().await.commit(Commits(&[&commit(taken, 4, outputs)])).await.unwrap();
    let check = async |filter: Filter, expected: &[u64]| {
        let found = fixture.store.quarantine(&filter, 10).await.unwrap();
        assert_eq!(found.iter().map(|entry| entry.offset.0).collect::<Vec<_>>(), expected, "{filter:?}");
        let sums = fixture.store.quarantine_sums(&filter).await.unwrap();
        assert_eq!(sums.iter().map(|sum| sum.entries).sum::<u64>(), expected.len() as u64, "{filter:?}");
    };
    let all = Filter::default;
    let pump = || Some(DeviceId::parse("pump").unwrap());
    check(all(), &[3, 2, 1, 0]).await;
    check(Filter { tenant: Some("waterworks".into()), ..all() }, &[3, 2, 1, 0]).await;
    check(Filter { tenant: Some("harbour".into()), ..all() }, &[]).await;
    check(Filter { device: pump(), ..all() }, &[3, 2, 0]).await;
    check(Filter { reason: Some(Reason::UnknownDevice), ..all() }, &[1, 0]).await;
    check(Filter { reason: Some(Reason::UnknownDevice), device: pump(), ..all() }, &[0]).await;
    let hour = |hour: i64| Some(LogTime(DAY + hour * HOUR_US));
    check(Filter { since: hour(1), until: hour(3), ..all() }, &[2, 1]).await;
    check(Filter { place: Some((PARTITION, Offset(2))), ..all() }, &[2]).await;
    assert_eq!(fixture.store.quarantine(&all(), 1).await.unwrap().len(), 1);

    fixture.store.quarantine_mark(&Filter { device: pump(), ..all() }).await.unwrap();
    let sums = fixture.store.quarantine_sums(&all()).await.unwrap();
    let brief: Vec<_> = sums.iter().map(|s| (s.reason.as_str(), s.way, s.entries, s.devices, s.marked)).collect();
    let expected =
        [("unknown_device", Way::Uplink, 2, 2, 1), ("bad_value", Way::Field, 1, 1, 1), ("decoder_error", Way::Uplink, 1, 1, 1)];
    assert_eq!(brief, expected);
    let found = fixture.store.quarantine(&Filter { place: Some((PARTITION, Offset(0))), ..all() }, 10).await.unwrap();
    assert_eq!((found[0].tenant.as_deref(), found[0].is_marked), (Some("waterworks"), true));

    let unknown = Filter { reason: Some(Reason::UnknownDevice), ..all() };
    assert_eq!(fixture.store.quarantine_drop(&unknown).await.unwrap(), 2);
    let expected = (["2 decoder_error", "3 x bad_value"].map(Into::into).to_vec(), ["2", "3 x"].map(Into::into).to_vec());
    assert_eq!(standing(&fixture).await, expected);
}

/// Rows of every table that is copied into, in the parts of two months.
fn rows_of_every_table() -> Outputs {
    let day = DAY + 40 * DAY_US;
    Outputs {
        series: vec![
            placed(0, series(0, "pressure", ValueKind::Number)),
            placed(0, series(1, "state", ValueKind::Text)),
            placed(0, series(2, "place", ValueKind::Location)),
        ],
        numbers: vec![
            placed(1, stored(0, DAY + 1, 0.1 + 0.2)),
            placed(1, stored(0, day + 999_999, f64::MAX)),
            placed(2, stored(0, DAY + 7, 5e-324)),
        ],
        texts: vec![placed(1, stored(1, DAY, "\"on\" \u{1F6B0}".into()))],
        locations: vec![
            placed(1, stored(2, DAY, (52.5, 13.1 + 0.2, Some(34.0)))),
            placed(1, stored(2, day, (-52.5, -13.25, None))),
        ],
        partials: vec![
            placed(1, partial(BucketLevel::Hour, DAY, (DAY, 0, 0.1), (DAY + 1, 1, 0.2))),
            placed(1, partial(BucketLevel::Day, day, (day, 0, 1.5), (day + 1, 1, 2.5))),
        ],
        ..Outputs::default()
    }
}

const TABLES: [&str; 5] = ["measurement", "measurement_text", "measurement_location", "rollup_1h", "rollup_1d"];

/// Everything that stands in the tables of measurements.
async fn contents(fixture: &Fixture) -> Vec<String> {
    let mut all = Vec::new();
    for table in TABLES {
        all.extend(fixture.texts(&format!("SELECT '{table}' || t::text FROM {table} t ORDER BY 1")).await);
    }
    all
}

async fn rows_that_were_refused_are_written_as_they_would_have_been(kind: Kind) {
    let right = Fixture::new(kind).await;
    right.committer().await.commit(Commits(&[&commit(right.take().await, 3, rows_of_every_table())])).await.unwrap();

    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    for table in TABLES {
        let check = format!("ALTER TABLE {table} ADD CONSTRAINT sane CHECK (series_id < 0)");
        fixture.client.batch_execute(&check).await.unwrap();
    }
    let committed = fixture.committer().await.commit(Commits(&[&commit(taken, 3, rows_of_every_table())])).await.unwrap();
    assert_eq!(committed.refused.len(), 8);
    let retry = async |filter: &Filter| fixture.store.quarantine_retry_rows(filter).await.unwrap();
    let refused = retry(&Filter::default()).await;
    assert_eq!((refused.written, refused.refused), (0, 8), "nothing is mended yet");
    assert!(refused.example.unwrap().contains("sane"));
    assert_eq!(fixture.number("SELECT refused FROM progress").await, 8);
    let told = "SELECT count(*) FROM quarantine WHERE detail LIKE '%refused its row again: %'";
    assert_eq!(fixture.number(told).await, 8, "they tell the new reason");
    for table in TABLES {
        fixture.client.batch_execute(&format!("ALTER TABLE {table} DROP CONSTRAINT sane")).await.unwrap();
    }
    // One of them is refused by a check of its own.
    fixture.client.batch_execute("ALTER TABLE measurement ADD CONSTRAINT small CHECK (value < 1e300)").await.unwrap();
    let second = Filter { place: Some((PARTITION, Offset(2))), ..Filter::default() };
    assert_eq!(retry(&second).await, RowsRetried { written: 1, ..RowsRetried::default() });
    let most = retry(&Filter::default()).await;
    assert_eq!((most.written, most.refused), (6, 1));
    assert_eq!(fixture.number("SELECT refused FROM progress").await, 1);
    fixture.client.batch_execute("ALTER TABLE measurement DROP CONSTRAINT small").await.unwrap();
    assert_eq!(retry(&Filter::default()).await.written, 1);
    assert_eq!(retry(&Filter::default()).await, RowsRetried::default(), "each once");
    assert_eq!(contents(&fixture).await, contents(&right).await);
    assert_eq!(fixture.number("SELECT count(*) FROM quarantine").await, 0);
    assert_eq!(fixture.number("SELECT refused FROM progress").await, 0);
}

async fn a_retry_lifts_the_refusal_of_a_series(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    // Somebody else wrote rows under the number.
    let foreign = "INSERT INTO series (series_id, tenant_no, device_no, device, field, kind, class_no) \
                   VALUES (458752, 1, 7, 'pump-7', 'other', 'number', 0)";
    fixture.client.batch_execute(foreign).await.unwrap();
    let mut outputs = numbers(0, &[1.0, 2.0]);
    outputs.series = vec![placed(0, series(0, "pressure", ValueKind::Number))];
    committer.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    let retry = async || fixture.store.quarantine_retry_rows(&Filter::default()).await.unwrap();
    let refused = retry().await;
    assert_eq!((refused.written, refused.refused, refused.series_lifted), (0, 3, 0));
    assert!(refused.example.unwrap().contains("its series is refused"));

    fixture.client.batch_execute("DELETE FROM series").await.unwrap();
    let lifted = retry().await;
    assert_eq!((lifted.written, lifted.refused, lifted.series_lifted), (3, 0, 1));
    assert_eq!(fixture.texts("SELECT field FROM series").await, ["pressure"]);
    assert_eq!(fixture.number("SELECT count(*) FROM series_refused").await, 0);
    // The daemon that set its rows aside until now writes them from now on.
    let committed = committer.commit(Commits(&[&commit(after(taken, 1), 2, numbers(1, &[3.0]))])).await.unwrap();
    assert_eq!(committed.refused.len(), 0);
    assert_eq!(fixture.texts("SELECT value::text FROM measurement ORDER BY value").await, ["1", "2", "3"]);
}

async fn a_refused_device_is_added_unless_somebody_else_did(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    fixture.client.batch_execute("ALTER TABLE device ADD CONSTRAINT no_pumps CHECK (id NOT LIKE 'pump%')").await.unwrap();
    let device = |name: &str, nth| dataflows::model::Device {
        no: DeviceNo::provisioned(PARTITION, nth).unwrap(),
        tenant: TenantNo(1),
        id: DeviceId::parse(name).unwrap(),
        template: dataflows::model::TemplateNo(1),
        variables: [("model".to_owned(), "x\"1".to_owned())].into(),
        zone: Some("Europe/Paris".into()),
        provisioned: true,
    };
    let devices = [device("pump-1", 1), device("pump-2", 2)];
    let devices = devices.into_iter().map(|device| placed(0, dataflows::model::CatalogueDevice(device))).collect();
    let outputs = Outputs { devices, ..Outputs::default() };
    fixture.committer().await.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    let mend = "ALTER TABLE device DROP CONSTRAINT no_pumps; \
                INSERT INTO device (tenant_no, id, template_no) VALUES (1, 'pump-2', 1)";
    fixture.client.batch_execute(mend).await.unwrap();
    assert_eq!(fixture.store.quarantine_retry_rows(&Filter::default()).await.unwrap().written, 2);
    let devices = "SELECT concat_ws(' ', id, variables, zone, provisioned) FROM device ORDER BY id";
    assert_eq!(fixture.texts(devices).await, ["pump-1 {\"model\": \"x\\\"1\"} Europe/Paris t", "pump-2 {} f"]);
    assert_eq!(fixture.number("SELECT count(*) FROM quarantine").await, 0);
}

async fn a_row_whose_time_no_table_holds_stays(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut outputs = numbers(0, &[1.0]);
    outputs.series = vec![placed(0, series(0, "pressure", ValueKind::Number))];
    outputs.numbers.push(placed(0, stored(0, i64::MIN + 1, 3.0)));
    fixture.committer().await.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    let retried = fixture.store.quarantine_retry_rows(&Filter::default()).await.unwrap();
    assert_eq!((retried.written, retried.refused), (0, 1));
    assert_eq!(SeriesId::new(DeviceNo(7), FieldNo(0)), SeriesId(458_752));
    assert_eq!(fixture.number("SELECT count(*) FROM quarantine").await, 1);
}

on_every_server!(
    an_entry_goes_with_the_commit_of_its_retry,
    marks_are_read_in_the_order_in_which_their_records_came,
    entries_are_found_by_all_that_is_said_and_dropped,
    rows_that_were_refused_are_written_as_they_would_have_been,
    a_retry_lifts_the_refusal_of_a_series,
    a_refused_device_is_added_unless_somebody_else_did,
    a_row_whose_time_no_table_holds_stays,
);
