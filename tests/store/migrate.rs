//! The schema: made once, the same when made again, refused when it is for others.

use crate::fixture::Fixture;
use crate::on_every_server;
use crate::support::database::{Kind, TestDatabase};
use weir::store::{Level, Store, StoreConfig, StoreError};

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
    the_registry_announces_its_changes,
    a_class_is_kept_for_good,
);
