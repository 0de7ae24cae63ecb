//! What is committed is what is read.

use crate::fixture::{DAY, Fixture, LOG, PARTITION, after, bad_value, commit, numbers, partial, placed, series, stored};
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{
    BucketLevel, CatalogueDevice, ClassNo, Counts, DAY_US, Device, DeviceId, DeviceNo, HOUR_US, LogTime, Offset, Outputs,
    Partition, Quarantined, TemplateNo, TenantNo, ValueKind,
};
use weir::store::{Advance, Checkpoint, Commit, CommitError, Commits, Landing};

async fn every_table_takes_its_rows(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let id = DeviceId::parse("pump-7").unwrap();
    let device = Device {
        no: DeviceNo::provisioned(PARTITION, 5).unwrap(),
        tenant: TenantNo(1),
        id: id.clone(),
        template: TemplateNo(1),
        variables: [("model".to_owned(), "x\"1".to_owned())].into(),
        zone: None,
        provisioned: true,
    };
    let quarantined = Quarantined { device: id, field: Some("flow".into()), record: vec![0, 255], ..bad_value("NaN") };
    let outputs = Outputs {
        devices: vec![placed(0, CatalogueDevice(device))],
        series: vec![
            placed(0, series(0, "pressure", ValueKind::Number)),
            placed(0, series(1, "state", ValueKind::Text)),
            placed(0, series(2, "place", ValueKind::Location)),
        ],
        numbers: vec![placed(1, stored(0, DAY + 1, 2.5)), placed(0, stored(0, DAY, 1.5))],
        texts: vec![placed(0, stored(1, DAY, "on".into()))],
        locations: vec![
            placed(0, stored(2, DAY, (52.5, 13.25, Some(34.0)))),
            placed(1, stored(2, DAY + 1, (-52.5, -13.25, None))),
        ],
        partials: vec![
            placed(1, partial(BucketLevel::Hour, DAY, (DAY, 0, 1.5), (DAY + 1, 1, 2.5))),
            placed(1, partial(BucketLevel::Day, DAY, (DAY, 0, 1.5), (DAY + 1, 1, 2.5))),
        ],
        quarantined: vec![placed(1, quarantined)],
        released: vec![],
    };
    let committed = fixture.committer().await.commit(Commits(&[&commit(taken, 2, outputs)])).await.unwrap();
    assert_eq!((committed.rows, committed.refused.len()), (12, 0));
    assert!(committed.bytes > 300, "{committed:?}");

    let check = async |sql: &str, expected: &[&str]| assert_eq!(fixture.texts(sql).await, expected, "{sql}");
    check(
        "SELECT concat_ws(' ', device_no, tenant_no, id, template_no, variables, zone, provisioned) FROM device",
        &["1099561959429 1 pump-7 1 {\"model\": \"x\\\"1\"} t"],
    )
    .await;
    check(
        "SELECT concat_ws(' ', series_id, tenant_no, device_no, device, field, kind, unit, class_no) FROM series ORDER BY series_id",
        &["458752 1 7 pump-7 pressure number bar 0", "458753 1 7 pump-7 state text bar 0", "458754 1 7 pump-7 place location bar 0"],
    )
    .await;
    check(
        "SELECT concat_ws(' ', tenant_no, device, field, ts, value, unit) FROM measurement_named ORDER BY ts",
        &["1 pump-7 pressure 2026-11-22 00:00:00+00 1.5 bar", "1 pump-7 pressure 2026-11-22 00:00:00.000001+00 2.5 bar"],
    )
    .await;
    check("SELECT concat_ws(' ', ts, series_id, value) FROM measurement_text", &["2026-11-22 00:00:00+00 458753 on"]).await;
    check(
        "SELECT concat_ws(' ', latitude, longitude, coalesce(altitude::text, 'unknown')) FROM measurement_location ORDER BY ts",
        &["52.5 13.25 34", "-52.5 -13.25 unknown"],
    )
    .await;
    let merged =
        "\"2026-11-22 00:00:00+00\",458752,2,4,1.5,2.5,1.5,\"2026-11-22 00:00:00+00\",0,2.5,\"2026-11-22 00:00:00.000001+00\",1";
    check("SELECT m::text FROM rollup_1h_merged m", &[&format!("({merged})")]).await;
    check("SELECT m::text FROM rollup_1d_merged m", &[&format!("({merged},\"2026-11-23 00:00:00+00\")")]).await;
    check(
        "SELECT concat_ws(' ', log_time, \"partition\", \"offset\", tenant_no, device, field, reason, detail, record) FROM quarantine",
        &["2026-11-22 00:00:00+00 3 1 1 pump-7 flow bad_value NaN \\x00ff"],
    )
    .await;
    check(
        "SELECT concat_ws(' ', \"partition\", \"offset\", owner_epoch, owner, counts->>'uplinks', refused) FROM progress",
        &["3 2 1 a 2 0"],
    )
    .await;
}

async fn a_commit_may_be_empty(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    assert_eq!(committer.commit(Commits(&[&commit(taken, 5, Outputs::default())])).await.unwrap().rows, 0);
    assert_eq!(committer.commit(Commits(&[&commit(after(taken, 5), 6, Outputs::default())])).await.unwrap().rows, 0);
    let progress = fixture.store.progress().await.unwrap();
    assert_eq!((progress.len(), progress[0].offset, progress[0].log), (1, Offset(6), LOG));
    assert_eq!(progress[0].counts, Counts { uplinks: 6, ..Counts::default() });
    assert_eq!(progress[0].log_time, Some(LogTime(DAY + 6)));
}

async fn a_series_changes_its_class_and_its_tables(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    // The class comes while the committer is at work.
    fixture.client.batch_execute("INSERT INTO retention_class (class_no, name) VALUES (2, 'long')").await.unwrap();
    let mut moved = series(0, "pressure", ValueKind::Number);
    moved.class = ClassNo(2);
    let mut later = stored(0, DAY + 1, 2.0);
    later.class = ClassNo(2);
    let outputs = Outputs {
        series: vec![placed(0, series(0, "pressure", ValueKind::Number)), placed(1, moved)],
        numbers: vec![placed(0, stored(0, DAY, 1.0)), placed(1, later)],
        ..Outputs::default()
    };
    committer.commit(Commits(&[&commit(taken, 2, outputs)])).await.unwrap();
    assert_eq!(fixture.texts("SELECT value::text FROM measurement").await, ["1"]);
    assert_eq!(fixture.texts("SELECT value::text FROM measurement_long").await, ["2"]);
    assert_eq!(fixture.texts("SELECT class_no::text FROM series").await, ["2"]);
    assert_eq!(fixture.texts("SELECT value::text FROM measurement_named ORDER BY ts").await, ["1", "2"]);
}

async fn days_far_apart_find_their_partitions(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    let days = [0, 1, 40, 4000];
    let numbers = days.map(|day| placed(0, stored(0, DAY - day * DAY_US, day as f64))).to_vec();
    let outputs = Outputs { numbers, ..Outputs::default() };
    let committed = committer.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    assert_eq!((committed.rows, committed.refused), (4, vec![]));
    // Somebody drops one; it is made again.
    let drop = match kind {
        Kind::Plain => "DROP TABLE measurement__20261121",
        Kind::Timescale | Kind::Community => "SELECT drop_chunks('measurement', older_than => timestamptz '2026-11-22')",
    };
    fixture.client.batch_execute(drop).await.unwrap();
    let outputs = Outputs { numbers: vec![placed(1, stored(0, DAY - HOUR_US, 9.0))], ..Outputs::default() };
    committer.commit(Commits(&[&commit(after(taken, 1), 2, outputs)])).await.unwrap();
    assert!(fixture.texts("SELECT value::text FROM measurement ORDER BY ts").await.contains(&"9".into()));
}

async fn checkpoints_travel_with_commits(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let mut taken = fixture.take().await;
    let mut committer = fixture.committer().await;
    assert_eq!(fixture.store.load_checkpoints(&[PARTITION], LOG).await.unwrap(), []);
    assert_eq!(fixture.store.checkpoints_kept().await.unwrap(), []);
    for to in [10, 20, 30] {
        let state = vec![to as u8; 100_000];
        let checkpoint = Checkpoint { partition: PARTITION, offset: Offset(to), log: LOG, version: 7, state };
        let commit = Commit { checkpoint: Some(checkpoint), ..commit(taken, to, Outputs::default()) };
        committer.commit(Commits(&[&commit])).await.unwrap();
        taken = after(taken, to);
    }
    let [stored] = &*fixture.store.load_checkpoints(&[PARTITION, Partition(1)], LOG).await.unwrap() else { panic!("not one") };
    assert_eq!((stored.partition, stored.offset, stored.version), (PARTITION, Offset(30), 7));
    assert_eq!(stored.state, vec![30; 100_000]);
    assert!(!stored.precedes_adoption);
    assert_eq!(fixture.store.checkpoints_kept().await.unwrap(), [(PARTITION, Offset(20), Offset(30))], "the last two are kept");
    // The database came back as it was before the last commit, but for the checkpoint's row.
    fixture.client.batch_execute("UPDATE progress SET \"offset\" = 25").await.unwrap();
    assert_eq!(fixture.store.load_checkpoints(&[PARTITION], LOG).await.unwrap()[0].offset, Offset(20));
}

async fn a_checkpoint_alone_is_committed_again(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    let checkpoint = Checkpoint { partition: PARTITION, offset: Offset(0), log: LOG, version: 7, state: vec![1] };
    let commit = Commit { checkpoint: Some(checkpoint), ..commit(taken, 0, Outputs::default()) };
    // The answer to the first try was lost; nothing in the progress tells whether it arrived.
    let progress = fixture.store.progress().await.unwrap();
    assert_eq!(Commits(&[&commit]).landing(&progress), Landing::Missed);
    let mut committer = fixture.committer().await;
    committer.commit(Commits(&[&commit])).await.unwrap();
    committer.commit(Commits(&[&commit])).await.unwrap();
    assert_eq!(fixture.number("SELECT count(*) FROM checkpoint").await, 1);
}

async fn two_committers_work_at_once(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let partitions = [Partition(0), Partition(1)].map(|partition| (partition, Offset(1000)));
    let taken = fixture.store.take("a", LOG, &partitions).await.unwrap();
    // Both begin on empty tables, so both need the same new partitions.
    let work = async |taken: weir::store::Taken| {
        let mut committer = fixture.committer().await;
        for from in 0..20 {
            let mut outputs = numbers(from, &[1.0, 2.0, 3.0]);
            outputs.numbers.iter_mut().for_each(|row| row.partition = taken.partition);
            let mut commit = commit(after(taken, from), from + 1, outputs);
            loop {
                match committer.commit(Commits(&[&commit])).await {
                    Ok(_) => break,
                    Err(weir::store::CommitError::Retry(_)) => commit.advances.truncate(1),
                    Err(error) => panic!("{error}"),
                }
            }
        }
    };
    tokio::join!(work(taken[0]), work(taken[1]));
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 120);
}

async fn partitions_advance_together(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let partitions = [Partition(9), Partition(1)].map(|partition| (partition, Offset(1000)));
    let taken = fixture.store.take("a", LOG, &partitions).await.unwrap();
    assert_eq!(taken.iter().map(|t| t.partition.0).collect::<Vec<_>>(), [1, 9]);
    let mut both = commit(taken[1], 4, Outputs::default());
    both.advances.extend(commit(taken[0], 2, Outputs::default()).advances);
    fixture.committer().await.commit(Commits(&[&both])).await.unwrap();
    let offsets: Vec<Offset> = fixture.store.progress().await.unwrap().iter().map(|p| p.offset).collect();
    assert_eq!(offsets, [Offset(2), Offset(4)]);
}

async fn commits_of_several_workers_go_together(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let partitions = [Partition(1), Partition(9)].map(|partition| (partition, Offset(1000)));
    let taken = fixture.store.take("a", LOG, &partitions).await.unwrap();
    // Each with every other series, their catalogue, what was set aside and a checkpoint.
    let of_worker = |nth: usize| {
        let taken = taken[nth];
        let fields: Vec<u16> = (0..20).filter(|field| usize::from(field % 2) == nth).collect();
        let outputs = Outputs {
            series: fields.iter().map(|field| placed(0, series(*field, &format!("f{field}"), ValueKind::Number))).collect(),
            numbers: fields.iter().map(|field| placed(0, stored(*field, DAY, f64::from(*field)))).collect(),
            quarantined: vec![placed(0, bad_value(&format!("worker {nth}")))],
            ..Outputs::default()
        };
        let checkpoint = Checkpoint { partition: taken.partition, offset: Offset(1), log: LOG, version: 7, state: vec![1] };
        let mut commit = Commit { checkpoint: Some(checkpoint), ..commit(taken, 1, outputs) };
        let Outputs { series, numbers, quarantined, .. } = &mut commit.outputs;
        let places = series.iter_mut().map(|row| &mut row.partition).chain(numbers.iter_mut().map(|row| &mut row.partition));
        places.chain(quarantined.iter_mut().map(|row| &mut row.partition)).for_each(|place| *place = taken.partition);
        commit
    };
    let (one, other) = (of_worker(0), of_worker(1));
    let mut committer = fixture.committer().await;
    let stale = Commit { advances: vec![Advance { from: Offset(5), to: Offset(6), ..other.advances[0] }], ..Commit::default() };
    let fenced = committer.commit(Commits(&[&one, &stale])).await;
    assert!(matches!(fenced, Err(CommitError::Fenced { partition: Partition(9) })), "{fenced:?}");
    assert_eq!(fixture.number("SELECT count(*) FROM measurement").await, 0, "one is fenced, so nothing is written");

    let committed = committer.commit(Commits(&[&one, &other])).await.unwrap();
    assert_eq!(committed.rows, 42);
    assert_eq!(fixture.number("SELECT count(*) FROM series").await, 20);
    assert_eq!(fixture.number("SELECT count(*) FROM checkpoint").await, 2);
    assert_eq!(fixture.texts("SELECT detail FROM quarantine ORDER BY 1").await, ["worker 0", "worker 1"]);
    let progress = fixture.store.progress().await.unwrap();
    assert_eq!(progress.iter().map(|p| p.offset).collect::<Vec<_>>(), [Offset(1); 2]);
    assert_eq!(Commits(&[&one, &other]).landing(&progress), Landing::Landed);
    assert_eq!(Commits(&[&one, &stale]).landing(&progress), Landing::Elsewhere);
    // All rows lie in the order of the index, whoever brought them.
    let disorder =
        "SELECT count(*) FROM (SELECT series_id < lag(series_id) OVER (ORDER BY ctid) AS back FROM measurement) r WHERE back";
    assert_eq!(fixture.number(disorder).await, 0);
}

async fn a_wide_commit_is_whole(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let taken = fixture.take().await;
    // Several send buffers' worth, in the order in which devices report: interleaved series.
    let row = |i: i64| placed(0, stored((i % 50) as u16, DAY + i * 1_000_000, i as f64));
    let outputs = Outputs { numbers: (0..50_000).map(row).collect(), ..Outputs::default() };
    let committed = fixture.committer().await.commit(Commits(&[&commit(taken, 1, outputs)])).await.unwrap();
    assert_eq!(committed.rows, 50_000);
    assert_eq!(fixture.number("SELECT count(DISTINCT (series_id, ts)) FROM measurement").await, 50_000);
    assert_eq!(fixture.number("SELECT sum(value)::bigint FROM measurement").await, 49_999 * 25_000);
    // Within a partition, rows lie in the order of the index.
    let disorder = "SELECT count(*) FROM (SELECT series_id < lag(series_id) OVER (ORDER BY ctid) AS back FROM measurement \
                    WHERE ts < timestamptz '2026-11-22' + interval '1 day') r WHERE back";
    assert_eq!(fixture.number(disorder).await, 0);
}

on_every_server!(
    every_table_takes_its_rows,
    a_commit_may_be_empty,
    a_series_changes_its_class_and_its_tables,
    days_far_apart_find_their_partitions,
    checkpoints_travel_with_commits,
    a_checkpoint_alone_is_committed_again,
    two_committers_work_at_once,
    partitions_advance_together,
    commits_of_several_workers_go_together,
    a_wide_commit_is_whole,
);
