//! Rows that the database refuses go to quarantine; all beside them go on.

use crate::fixture::{DAY, Fixture, after, commit, numbers, placed, series, stored};
use crate::on_both_servers;
use crate::support::database::Kind;
use dataflows::model::{Outputs, ValueKind};
use weir::store::{CommitError, StopReason};

async fn a_check_of_the_user_sets_single_rows_aside(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    fixture.client.batch_execute("ALTER TABLE measurement ADD CONSTRAINT sane CHECK (value < 1000)").await.unwrap();
    let mut outputs = numbers(4, &[1.0, 2.0, 5000.0, 3.0, 4.0, 7000.0, 5.0]);
    outputs.series = vec![placed(4, series(0, "pressure", ValueKind::Number))];
    outputs.texts = vec![placed(4, stored(1, DAY, "on".into()))];
    let mut committer = fixture.committer().await;
    let committed = committer.commit(&commit(taken, 5, outputs)).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (7, 2));
    assert_eq!(fixture.texts("SELECT value::text FROM measurement ORDER BY ts").await, ["1", "2", "3", "4", "5"]);
    assert_eq!(fixture.texts("SELECT value FROM measurement_text").await, ["on"]);
    let quarantine = "SELECT concat_ws(' ', \"partition\", \"offset\", tenant_no, device, field, reason) FROM quarantine";
    assert_eq!(fixture.texts(quarantine).await, ["3 4 1 pump-7 pressure row_refused"; 2]);
    let details = fixture.texts("SELECT detail FROM quarantine ORDER BY detail").await;
    assert!(details[0].starts_with("the table measurement refused 5000 at 2026-11-22T00:02:00Z: "), "{details:?}");
    assert!(details[0].contains("\"sane\"") || details[0].contains("_sane"), "{details:?}");
    assert_eq!(fixture.number("SELECT refused FROM progress").await, 2);
    // It is a matter of that commit alone.
    committer.commit(&commit(after(taken, 5), 6, numbers(5, &[6.0]))).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 6);
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
    let committed = fixture.committer().await.commit(&commit(taken, 1, outputs)).await.unwrap();
    assert_eq!(committed.refused.iter().map(|refused| &*refused.table).collect::<Vec<_>>(), ["series"]);
    assert_eq!(fixture.texts("SELECT field FROM series").await, ["pressure"]);
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 1);
}

async fn a_time_that_no_timestamp_holds_is_set_aside(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut outputs = numbers(0, &[1.0, 2.0]);
    outputs.numbers.push(placed(0, stored(0, i64::MIN + 1, 3.0)));
    let committed = fixture.committer().await.commit(&commit(taken, 1, outputs)).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (2, 1));
    assert!(committed.refused[0].detail.contains("22008"), "{committed:?}");
    assert_eq!(fixture.texts("SELECT value::text FROM measurement ORDER BY ts").await, ["1", "2"]);
}

async fn tables_that_refuse_most_rows_stop_the_commit(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    fixture.client.batch_execute("ALTER TABLE measurement ADD CONSTRAINT sane CHECK (value < 0)").await.unwrap();
    let mut committer = fixture.committer().await;
    let error = committer.commit(&commit(taken, 1, numbers(0, &[1.0; 150]))).await.unwrap_err();
    let CommitError::Stop(StopReason::TooManyRefused { refused: 101, rows: 150, .. }) = error else { panic!("{error}") };
    assert_eq!(fixture.number("SELECT \"offset\" FROM progress").await, 0);
    assert_eq!(fixture.number("SELECT count(*) FROM quarantine").await, 0);
    // Few rows are set aside, also when they are all of them.
    assert_eq!(committer.commit(&commit(taken, 1, numbers(0, &[1.0; 9]))).await.unwrap().refused.len(), 9);
}

async fn a_quarantine_that_refuses_stops_the_commit(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let checks = "ALTER TABLE measurement ADD CHECK (value < 0); ALTER TABLE quarantine ADD CHECK (reason = 'other')";
    fixture.client.batch_execute(checks).await.unwrap();
    let error = fixture.committer().await.commit(&commit(taken, 1, numbers(0, &[1.0]))).await.unwrap_err();
    assert!(matches!(error, CommitError::Stop(StopReason::QuarantineRefuses(_))), "{error}");
}

async fn a_series_that_means_something_else_stops_the_commit(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    let of = |name| Outputs { series: vec![placed(0, series(0, name, ValueKind::Number))], ..Outputs::default() };
    committer.commit(&commit(taken, 1, of("pressure"))).await.unwrap();
    // Replayed, it may come again.
    let mut again = of("pressure");
    again.series[0].offset.0 = 1;
    committer.commit(&commit(after(taken, 1), 2, again)).await.unwrap();
    let mut other = of("flow");
    other.series[0].offset.0 = 2;
    let error = committer.commit(&commit(after(taken, 2), 3, other)).await.unwrap_err();
    assert!(
        error.to_string().contains("is pressure (number, bar) of device pump-7 of tenant 1 in the table, and flow"),
        "{error}"
    );
}

async fn a_lack_of_permission_stops_the_commit(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    fixture.client.batch_execute("ALTER TABLE measurement RENAME TO elsewhere").await.unwrap();
    let error = committer.commit(&commit(taken, 1, numbers(0, &[1.0]))).await.unwrap_err();
    assert!(matches!(error, CommitError::Stop(StopReason::Database(_))), "{error}");
    assert!(error.to_string().contains("\"measurement\" does not exist"), "{error}");
    fixture.client.batch_execute("ALTER TABLE elsewhere RENAME TO measurement").await.unwrap();
    committer.commit(&commit(taken, 1, numbers(0, &[1.0]))).await.unwrap();
}

on_both_servers!(
    a_check_of_the_user_sets_single_rows_aside,
    a_deferred_constraint_is_caught_too,
    a_time_that_no_timestamp_holds_is_set_aside,
    tables_that_refuse_most_rows_stop_the_commit,
    a_quarantine_that_refuses_stops_the_commit,
    a_series_that_means_something_else_stops_the_commit,
    a_lack_of_permission_stops_the_commit,
);
