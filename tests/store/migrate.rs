//! The schema: made once, the same when made again, refused when it is for others.

use crate::fixture::{Fixture, LOG, PARTITION, commit, numbers};
use crate::on_every_server;
use crate::support::database::{Kind, TestDatabase};
use dataflows::model::{Counts, Offset};
use refinery::{Migration, Runner};
use weir::store::{Commits, Committer, Level, Store, StoreConfig, StoreError};

async fn migrating_twice_changes_nothing(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let columns = "SELECT format('%s.%s %s', table_name, column_name, data_type) FROM information_schema.columns \
                   WHERE table_schema = 'public' ORDER BY table_name, ordinal_position";
    let before = fixture.texts(columns).await;
    fixture.store.migrate(16).await.unwrap();
    assert_eq!(fixture.texts(columns).await, before);
    assert!(before.iter().any(|column| column == "measurement.value double precision"), "{before:?}");
    assert_eq!(fixture.store.partitions().await.unwrap(), 16);
    let expected = match kind {
        Kind::Plain => Level::Postgres,
        Kind::Timescale => Level::TimescaleApache,
        Kind::Community => Level::TimescaleCommunity,
    };
    assert_eq!(fixture.store.level(), expected);
}

async fn daemons_that_start_together_take_turns(kind: Kind) {
    let database = TestDatabase::create(kind).await;
    let mut one = Store::connect(StoreConfig::new(database.url())).await.unwrap();
    let mut two = one.clone();
    let (one, two) = tokio::join!(one.migrate(16), two.migrate(16));
    one.unwrap();
    two.unwrap();
}

async fn another_number_of_partitions_is_refused(kind: Kind) {
    let mut fixture = Fixture::new(kind).await;
    let error = fixture.store.migrate(8).await.unwrap_err();
    assert!(matches!(error, StoreError::PartitionCount { database: 16, asked: 8 }), "{error}");
    assert!(matches!(fixture.store.migrate(0).await, Err(StoreError::PartitionRange(0))));
}

async fn an_empty_database_says_what_to_do(kind: Kind) {
    let database = TestDatabase::create(kind).await;
    let store = Store::connect(StoreConfig::new(database.url())).await.unwrap();
    let error = store.partitions().await.unwrap_err();
    assert!(error.to_string().contains("weir migrate"), "{error}");
    let error = weir::store::Committer::connect(&store).await.err().unwrap();
    assert!(error.to_string().contains("weir migrate"), "{error}");
}

async fn a_database_stays_as_it_was_laid_out(kind: Kind) {
    // The extension is added or taken away behind weir's back.
    let fixture = Fixture::new(kind).await;
    match kind {
        Kind::Plain => {}
        Kind::Timescale | Kind::Community => {
            fixture.client.batch_execute("UPDATE settings SET value = 'partitions' WHERE key = 'layout'").await.unwrap();
            let store = Store::connect(StoreConfig::new(fixture.database.url())).await.unwrap();
            assert_eq!(store.level(), Level::Postgres);
            return;
        }
    }
    fixture.client.batch_execute("UPDATE settings SET value = 'hypertables' WHERE key = 'layout'").await.unwrap();
    let error = Store::connect(StoreConfig::new(fixture.database.url())).await.unwrap_err();
    assert!(matches!(error, StoreError::ExtensionGone), "{error}");
}

async fn an_old_database_with_rows_is_brought_up_to_date(kind: Kind) {
    let database = TestDatabase::create(kind).await;
    let mut client = database.client().await;
    let of_old = ["V1__registry", "V2__progress"].map(|name| {
        let sql = std::fs::read_to_string(format!("{}/migrations/{name}.sql", env!("CARGO_MANIFEST_DIR"))).unwrap();
        Migration::unapplied(name, &sql).unwrap()
    });
    Runner::new(&of_old).run_async(&mut client).await.unwrap();
    let counts = serde_json::to_string(&Counts { uplinks: 20, ..Counts::default() }).unwrap();
    let rows = format!(
        "INSERT INTO tenant (name) VALUES ('waterworks'); INSERT INTO template (name, decoding) VALUES ('pump', 'upstream'); \
         INSERT INTO device (tenant_no, id, template_no) SELECT 1, 'pump-' || n, 1 FROM generate_series(1, 2000) n; \
         INSERT INTO series (series_id, tenant_no, device_no, device, field, kind, class_no) \
         SELECT device_no * 65536, 1, device_no, id, 'pressure', 'number', 0 FROM device; \
         DELETE FROM device WHERE device_no = 1999; \
         INSERT INTO progress (\"partition\", \"offset\", owner_epoch, owner, log_id, counts) \
         SELECT p, 20, 3, 'old', '{LOG}', '{counts}' FROM generate_series(0, 15) p; \
         INSERT INTO checkpoint (\"partition\", \"offset\", log_id, version, state) \
         SELECT p, o, '{LOG}', 1, '\\x00' FROM generate_series(0, 15) p, (VALUES (10), (20)) v (o)"
    );
    client.batch_execute(&rows).await.unwrap();

    let mut store = Store::connect(StoreConfig::new(database.url())).await.unwrap();
    store.migrate(16).await.unwrap();
    let progress = store.progress().await.unwrap();
    assert!(progress.len() == 16 && progress.iter().all(|p| (p.offset, p.counts.uplinks) == (Offset(20), 20)), "{progress:?}");
    assert_eq!(store.numbered_series().await.unwrap().len(), 2000);
    let stored = store.load_checkpoints(&[PARTITION], LOG).await.unwrap();
    assert!(stored[0].offset == Offset(20) && stored[0].version == 1 && !stored[0].precedes_adoption, "{stored:?}");
    // The number of the device that went before numbers were remembered is given to nobody.
    let added = "INSERT INTO device (device_no, tenant_no, id, template_no) VALUES (1999, 1, 'new', 1) RETURNING device_no";
    assert_eq!(client.query_one(added, &[]).await.unwrap().get::<_, i64>(0), 2001);
    // It goes on.
    let taken = store.take("new", LOG, &[(PARTITION, Offset(30))]).await.unwrap()[0];
    assert_eq!((taken.offset, taken.owner_epoch, taken.begins), (Offset(20), 4, Offset(0)));
    let mut committer = Committer::connect(&store).await.unwrap();
    committer.commit(Commits(&[&commit(taken, 21, numbers(20, &[1.0]))])).await.unwrap();
}

async fn the_registry_announces_its_changes(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let config: tokio_postgres::Config = fixture.database.url().parse().unwrap();
    let (client, mut connection) = config.connect(tokio_postgres::NoTls).await.unwrap();
    let (heard, mut hear) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let tokio_postgres::AsyncMessage::Notification(notification) = message {
                heard.send(notification.payload().to_owned()).unwrap();
            }
        }
    });
    client.batch_execute("LISTEN weir_registry").await.unwrap();
    for (sql, table) in [
        ("UPDATE tenant SET zone = 'Europe/Berlin'", "tenant"),
        ("INSERT INTO device (tenant_no, id, template_no) VALUES (1, 'x', 1)", "device"),
        ("INSERT INTO retention_class (class_no, name) VALUES (1, 'long')", "retention_class"),
        ("DELETE FROM device", "device"),
    ] {
        fixture.client.batch_execute(sql).await.unwrap();
        assert_eq!(hear.recv().await.unwrap(), table, "{sql}");
    }
}

async fn a_class_is_kept_for_good(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let check = async |sql: &str, allowed: bool| {
        assert_eq!(fixture.client.batch_execute(sql).await.is_ok(), allowed, "{sql}");
    };
    check("UPDATE retention_class SET raw_retention = '30 days'", true).await;
    check("UPDATE retention_class SET name = 'other'", false).await;
    check("DELETE FROM retention_class", false).await;
    check("INSERT INTO retention_class (class_no, name) VALUES (1, 'text')", false).await;
    check("INSERT INTO retention_class (class_no, name) VALUES (1, 'a_b')", false).await;
}

on_every_server!(
    migrating_twice_changes_nothing,
    daemons_that_start_together_take_turns,
    another_number_of_partitions_is_refused,
    an_empty_database_says_what_to_do,
    a_database_stays_as_it_was_laid_out,
    an_old_database_with_rows_is_brought_up_to_date,
    the_registry_announces_its_changes,
    a_class_is_kept_for_good,
);
