//! Rows that the database refuses go to quarantine; all beside them go on.

use crate::fixture::{DAY, Fixture, after, commit, numbers, partial, placed, series, stored};
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{BucketLevel, CatalogueSeries, DeviceNo, FieldNo, Outputs, SeriesId, ValueKind};
use std::time::{Duration, Instant};
use weir::store::{CommitError, Commits, Committer, StopReason, Store, StoreConfig};

async fn a_check_of_the_user_sets_single_rows_aside(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    fixture.client.batch_execute("ALTER TABLE measurement ADD CONSTRAINT sane CHECK (value < 1000)").await.unwrap();
    let mut outputs = numbers(4, &[1.0, 2.0, 5000.0, 3.0, 4.0, 7000.0, 5.0]);
    outputs.series = vec![placed(4, series(0, "pressure", ValueKind::Number))];
    outputs.texts = vec![placed(4, stored(1, DAY, "on".into()))];
    let mut committer = fixture.committer().await;
    let committed = committer.commit(Commits(&[&commit(taken, 5, outputs)])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (7, 2));
    assert_eq!(fixture.texts("SELECT value::text FROM measurement ORDER BY ts").await, ["1", "2", "3", "4", "5"]);
    assert_eq!(fixture.texts("SELECT value FROM measurement_text").await, ["on"]);
    let quarantine = "SELECT concat_ws(' ', \"partition\", \"offset\", tenant_no, device, field, reason) FROM quarantine";
    assert_eq!(fixture.texts(quarantine).await, ["3 4 1 pump-7 pressure row_refused"; 2]);
    // Nothing of them is lost.
    let contents = "SELECT convert_from(record, 'UTF8') FROM quarantine ORDER BY detail";
    assert_eq!(
        fixture.texts(contents).await[0],
        r#"{"row":{"series_id":458752,"ts_us":1795305720000000,"value":5000.0},"table":"measurement"}"#
    );
    let details = fixture.texts("SELECT detail FROM quarantine ORDER BY detail").await;
    assert!(details[0].starts_with("the table measurement refused 5000 at 2026-11-22T00:02:00Z: "), "{details:?}");
    assert!(details[0].contains("\"sane\"") || details[0].contains("_sane"), "{details:?}");
    assert_eq!(fixture.number("SELECT refused FROM progress").await, 2);
    // It is a matter of that commit alone.
    committer.commit(Commits(&[&commit(after(taken, 5), 6, numbers(5, &[6.0]))])).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 6);
}

/// What a user does to the tables, the offending rows, and the state that the server gives.
struct Poison {
    ddl: &'static str,
    offending: fn(&mut Outputs),
    code: &'static str,
}

/// Each kind of refusal that rows of weir's can meet with.
const POISONS: [Poison; 9] = [
    Poison {
        ddl: "ALTER TABLE measurement ADD CONSTRAINT sane CHECK (value < 1000)",
        offending: |rows| rows.numbers.push(placed(0, stored(0, DAY + 1, 5000.0))),
        code: "23514",
    },
    // A number that a narrower column of the user's does not hold.
    Poison {
        ddl: "CREATE FUNCTION narrow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM NEW.value::real; RETURN NEW; END'; \
              CREATE TRIGGER narrow BEFORE INSERT ON measurement FOR EACH ROW EXECUTE FUNCTION narrow()",
        offending: |rows| rows.numbers.push(placed(0, stored(0, DAY + 1, 1e300))),
        code: "22003",
    },
    Poison {
        ddl: "CREATE FUNCTION divide() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM 1 / NEW.value::int; RETURN NEW; END'; \
              CREATE TRIGGER divide BEFORE INSERT ON measurement FOR EACH ROW EXECUTE FUNCTION divide()",
        offending: |rows| rows.numbers.push(placed(0, stored(0, DAY + 1, 0.0))),
        code: "22012",
    },
    Poison {
        ddl: "ALTER TABLE measurement_text ALTER value TYPE varchar(5)",
        offending: |rows| rows.texts.push(placed(0, stored(1, DAY, "too long".into()))),
        code: "22001",
    },
    Poison {
        ddl: "ALTER TABLE measurement_location ALTER altitude SET NOT NULL",
        offending: |rows| rows.locations.push(placed(0, stored(2, DAY, LOWLAND))),
        code: "23502",
    },
    Poison {
        ddl: "CREATE UNIQUE INDEX ON measurement (series_id, ts)",
        offending: |rows| rows.numbers.push(placed(0, stored(0, DAY, 2.0))),
        code: "23505",
    },
    Poison {
        ddl: "ALTER TABLE measurement ADD FOREIGN KEY (series_id) REFERENCES series",
        offending: |rows| rows.numbers.push(placed(0, stored(9, DAY, 2.0))),
        code: "23503",
    },
    Poison {
        ddl: "ALTER TABLE series ADD CONSTRAINT one EXCLUDE USING btree (field WITH =)",
        offending: |rows| rows.series.push(placed(0, series(3, "pressure", ValueKind::Number))),
        code: "23P01",
    },
    Poison {
        ddl: "ALTER TABLE rollup_1h ADD CONSTRAINT sane CHECK (count < 2)",
        offending: |rows| rows.partials.push(placed(0, partial(BucketLevel::Hour, DAY, (DAY, 0, 1.0), (DAY, 0, 1.0)))),
        code: "23514",
    },
];

/// A place whose height is not known.
const LOWLAND: (f64, f64, Option<f64>) = (52.0, 5.0, None);

async fn each_kind_of_refusal_sets_its_row_aside_alone(kind: Kind) {
    for Poison { ddl, offending, code } in POISONS {
        let fixture = Fixture::new(kind).await;
        let taken = fixture.take().await;
        fixture.client.batch_execute(ddl).await.unwrap();
        let good = || Outputs {
            series: vec![placed(0, series(0, "pressure", ValueKind::Number))],
            numbers: vec![placed(0, stored(0, DAY, 1.0))],
            texts: vec![placed(0, stored(1, DAY, "on".into()))],
            locations: vec![placed(0, stored(2, DAY, (52.0, 5.0, Some(3.0))))],
            ..Outputs::default()
        };
        let mut outputs = good();
        let all_good = outputs.len() as u64;
        offending(&mut outputs);
        let committed = fixture.committer().await.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
        let refused = committed.refused.iter().map(|refused| refused.detail.as_str()).collect::<Vec<_>>();
        assert_eq!((committed.rows, refused.len()), (all_good, 1), "{ddl}: {refused:?}");
        assert!(refused[0].contains(code), "{ddl}: {refused:?}");
        assert_eq!(fixture.number("SELECT count(*) FROM quarantine WHERE reason = 'row_refused'").await, 1, "{ddl}");
        assert_eq!(fixture.texts("SELECT value::text FROM measurement").await, ["1"], "{ddl}");
        assert_eq!(fixture.number("SELECT \"offset\" FROM progress").await, 1, "{ddl}");
    }
}

async fn a_deferred_constraint_is_caught_too(kind: Kind) {
    // Hypertables take no constraint triggers that are deferred; the plain level does.
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let trigger = "CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                   IF NEW.field = 'flow' THEN RAISE check_violation USING CONSTRAINT = 'no_flow'; END IF; RETURN NULL; END $$; \
                   CREATE CONSTRAINT TRIGGER judge AFTER INSERT ON series DEFERRABLE INITIALLY DEFERRED \
                   FOR EACH ROW EXECUTE FUNCTION judge()";
    fixture.client.batch_execute(trigger).await.unwrap();
    let outputs = Outputs {
        series: vec![placed(0, series(0, "flow", ValueKind::Number)), placed(0, series(1, "pressure", ValueKind::Number))],
        numbers: numbers(0, &[1.0]).numbers,
        ..Outputs::default()
    };
    let committed = fixture.committer().await.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    assert_eq!(committed.refused.iter().map(|refused| &*refused.table).collect::<Vec<_>>(), ["series", "measurement"]);
    assert_eq!(fixture.texts("SELECT field FROM series").await, ["pressure"]);
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 0, "no row without its series");
}

async fn a_trigger_that_raises_sets_its_rows_aside(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let trigger = "CREATE FUNCTION judge() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                   IF NEW.value > 1000 THEN RAISE EXCEPTION 'too much'; END IF; RETURN NEW; END $$; \
                   CREATE TRIGGER judge BEFORE INSERT ON measurement FOR EACH ROW EXECUTE FUNCTION judge()";
    fixture.client.batch_execute(trigger).await.unwrap();
    let committed =
        fixture.committer().await.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0, 2000.0, 2.0]))])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (2, 1));
    assert!(committed.refused[0].detail.contains("too much (P0001)"), "{committed:?}");
}

async fn a_time_that_no_timestamp_holds_is_set_aside(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut outputs = numbers(0, &[1.0, 2.0]);
    outputs.numbers.push(placed(0, stored(0, i64::MIN + 1, 3.0)));
    let committed = fixture.committer().await.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (2, 1));
    assert!(committed.refused[0].detail.contains("22008"), "{committed:?}");
    assert_eq!(fixture.texts("SELECT value::text FROM measurement ORDER BY ts").await, ["1", "2"]);
}

async fn tables_that_refuse_most_rows_stop_the_commit(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    fixture.client.batch_execute("ALTER TABLE measurement ADD CONSTRAINT sane CHECK (value < 0)").await.unwrap();
    let mut committer = fixture.committer().await;
    let error = committer.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0; 150]))])).await.unwrap_err();
    let CommitError::Stop(StopReason::TooManyRefused { refused: 101, rows: 150, .. }) = error else { panic!("{error}") };
    assert_eq!(fixture.number("SELECT \"offset\" FROM progress").await, 0);
    assert_eq!(fixture.number("SELECT count(*) FROM quarantine").await, 0);
    // Few rows are set aside, also when they are all of them.
    assert_eq!(committer.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0; 9]))])).await.unwrap().refused.len(), 9);
}

async fn small_commits_that_are_all_refused_stop_too(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut taken = fixture.take().await;
    let check = "ALTER TABLE measurement ADD CONSTRAINT sane CHECK (value < 0)";
    fixture.client.batch_execute(check).await.unwrap();
    let mut committer = fixture.committer().await;
    // Two devices, one after the other.
    let of = |offset: u64| {
        let mut outputs = numbers(offset, &[1.0]);
        outputs.numbers[0].row.series = SeriesId::new(DeviceNo(7 + offset % 2), FieldNo(0));
        outputs
    };
    for offset in 0..100 {
        committer.commit(Commits(&[&commit(taken, offset + 1, of(offset))])).await.unwrap();
        taken = after(taken, offset + 1);
    }
    let next = commit(taken, 101, of(100));
    let error = committer.commit(Commits(&[&next])).await.unwrap_err();
    assert!(matches!(error, CommitError::Stop(StopReason::WhollyRefused { commits: 101, .. })), "{error}");
    assert_eq!(fixture.number("SELECT \"offset\" FROM progress").await, 100);
    // It goes on as soon as somebody has mended the table.
    committer.commit(Commits(&[&next])).await.unwrap_err();
    fixture.client.batch_execute("ALTER TABLE measurement DROP CONSTRAINT sane").await.unwrap();
    committer.commit(Commits(&[&next])).await.unwrap();
    // And begins to count anew.
    fixture.client.batch_execute("DELETE FROM measurement").await.unwrap();
    fixture.client.batch_execute(check).await.unwrap();
    committer.commit(Commits(&[&commit(after(taken, 101), 102, of(101))])).await.unwrap();
}

async fn a_quarantine_that_refuses_stops_the_commit(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let checks = "ALTER TABLE measurement ADD CHECK (value < 0); ALTER TABLE quarantine ADD CHECK (reason = 'other')";
    fixture.client.batch_execute(checks).await.unwrap();
    let error = fixture.committer().await.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0]))])).await.unwrap_err();
    assert!(matches!(error, CommitError::Stop(StopReason::QuarantineRefuses(_))), "{error}");
}

async fn a_series_that_means_something_else_is_set_aside(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    let of = |offset, names: &[&str]| {
        let named = |(field, name): (usize, &&str)| placed(offset, series(field as u16, name, ValueKind::Number));
        Outputs { series: names.iter().enumerate().map(named).collect(), ..Outputs::default() }
    };
    committer.commit(Commits(&[&commit(taken, 1, of(0, &["pressure", "level"]))])).await.unwrap();
    // Replayed, it may come again.
    committer.commit(Commits(&[&commit(after(taken, 1), 2, of(1, &["pressure"]))])).await.unwrap();

    let mut other = of(2, &["flow", "level"]);
    other.numbers = vec![placed(2, stored(0, DAY, 1.0)), placed(2, stored(1, DAY, 2.0))];
    other.partials = vec![placed(2, partial(BucketLevel::Hour, DAY, (DAY, 2, 1.0), (DAY, 2, 1.0)))];
    let committed = committer.commit(Commits(&[&commit(after(taken, 2), 3, other)])).await.unwrap();
    let tables: Vec<_> = committed.refused.iter().map(|refused| &*refused.table).collect();
    assert_eq!((committed.rows, tables), (2, vec!["series", "measurement", "rollup_1h"]));
    let detail = &committed.refused[1].detail;
    assert!(
        detail.contains("stands for pressure (number, bar) of device pump-7 of tenant 1 in the table series, and for flow"),
        "{detail}"
    );
    // Its later rows come without its row in the catalogue, also to a daemon that starts anew.
    committer.commit(Commits(&[&commit(after(taken, 3), 4, numbers(3, &[3.0]))])).await.unwrap();
    let mut committer = fixture.committer().await;
    committer.commit(Commits(&[&commit(after(taken, 4), 5, numbers(4, &[4.0]))])).await.unwrap();
    assert_eq!(fixture.texts("SELECT value::text FROM measurement").await, ["2"]);
    assert_eq!(fixture.texts("SELECT field FROM series ORDER BY series_id").await, ["pressure", "level"]);
    let quarantine = "SELECT concat_ws(' ', \"offset\", tenant_no, device, field, reason) FROM quarantine ORDER BY \"offset\"";
    let flow =
        ["2 1 pump-7 flow row_refused"; 3].into_iter().chain(["3 1 pump-7 flow row_refused", "4 1 pump-7 flow row_refused"]);
    assert_eq!(fixture.texts(quarantine).await, flow.collect::<Vec<_>>());
    assert_eq!(fixture.number("SELECT refused FROM progress").await, 5);
    assert_eq!(fixture.texts("SELECT field FROM series_refused").await, ["flow"]);
    // Both keep their numbers.
    let numbered: Vec<_> = fixture.store.numbered_series().await.unwrap().iter().map(|s| s.field.to_string()).collect();
    assert_eq!(numbered.len(), 2, "{numbered:?}");
}

async fn more_series_than_a_statement_takes_are_stored_and_refused_one_by_one(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    let of_device = |offset, device: u64, name: &str| {
        let of = series(0, name, ValueKind::Number);
        placed(offset, CatalogueSeries { series: SeriesId::new(DeviceNo(device), FieldNo(0)), ..of })
    };
    let devices = 10_000;
    let known = Outputs { series: vec![of_device(0, 1, "level"), of_device(0, devices, "level")], ..Outputs::default() };
    committer.commit(Commits(&[&commit(taken, 1, known)])).await.unwrap();

    let all = Outputs { series: (1..=devices).map(|device| of_device(1, device, "flow")).collect(), ..Outputs::default() };
    let committed = committer.commit(Commits(&[&commit(after(taken, 1), 2, all)])).await.unwrap();
    assert_eq!(committed.refused.len(), 2, "the first and the last mean something else");
    assert_eq!(fixture.number("SELECT count(*) FROM series WHERE field = 'flow'").await, devices as i64 - 2);
}

async fn a_trigger_that_drops_a_series_sets_its_rows_aside(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let trigger = "CREATE FUNCTION hide() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
                   CREATE TRIGGER hide BEFORE INSERT ON series FOR EACH ROW EXECUTE FUNCTION hide()";
    fixture.client.batch_execute(trigger).await.unwrap();
    let mut outputs = numbers(0, &[1.0]);
    outputs.series = vec![placed(0, series(0, "pressure", ValueKind::Number))];
    let committed = fixture.committer().await.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (0, 2));
    assert!(committed.refused[0].detail.contains("does not keep the row of pressure"), "{committed:?}");
}

async fn many_rows_are_copied_in_parts(kind: Kind) {
    // A statement may take far less time than the commit does.
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let trigger = "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                   IF NEW.value::int % 1000 = 0 THEN PERFORM pg_sleep(0.02); END IF; RETURN NEW; END $$; \
                   CREATE TRIGGER slow BEFORE INSERT ON measurement FOR EACH ROW EXECUTE FUNCTION slow()";
    fixture.client.batch_execute(trigger).await.unwrap();
    let config = StoreConfig { statement_timeout: Duration::from_secs(4), ..StoreConfig::new(fixture.database.url()) };
    let store = Store::connect(config).await.unwrap();
    let row = |i: i64| placed(0, stored(0, DAY + i, i as f64));
    let outputs = Outputs { numbers: (0..240_000).map(row).collect(), ..Outputs::default() };
    let begun = Instant::now();
    Committer::connect(&store).await.unwrap().commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(4), "240 pauses of 20 ms");
    assert_eq!(fixture.number("SELECT count(DISTINCT ts) FROM measurement").await, 240_000);
}

async fn a_lack_of_permission_stops_the_commit(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    fixture.client.batch_execute("ALTER TABLE measurement RENAME TO elsewhere").await.unwrap();
    let error = committer.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0]))])).await.unwrap_err();
    assert!(matches!(error, CommitError::Stop(StopReason::Database(_))), "{error}");
    assert!(error.to_string().contains("\"measurement\" does not exist"), "{error}");
    fixture.client.batch_execute("ALTER TABLE elsewhere RENAME TO measurement").await.unwrap();
    committer.commit(Commits(&[&commit(taken, 1, numbers(0, &[1.0]))])).await.unwrap();
}

on_every_server!(
    each_kind_of_refusal_sets_its_row_aside_alone,
    a_check_of_the_user_sets_single_rows_aside,
    a_deferred_constraint_is_caught_too,
    a_time_that_no_timestamp_holds_is_set_aside,
    tables_that_refuse_most_rows_stop_the_commit,
    a_quarantine_that_refuses_stops_the_commit,
    a_series_that_means_something_else_is_set_aside,
    more_series_than_a_statement_takes_are_stored_and_refused_one_by_one,
    a_trigger_that_drops_a_series_sets_its_rows_aside,
    a_trigger_that_raises_sets_its_rows_aside,
    small_commits_that_are_all_refused_stop_too,
    many_rows_are_copied_in_parts,
    a_lack_of_permission_stops_the_commit,
);
