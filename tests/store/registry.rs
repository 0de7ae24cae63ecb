//! The registry's tables: numbers are given once, names are not guessed.

use crate::fixture::Fixture;
use crate::on_every_server;
use crate::support::database::Kind;
use dataflows::model::{DeviceNo, MINUTE_US, Partition, TenantNo, Treatment};
use weir::registry::admin::{self, AdminError, NewClass, NewToken};
use weir::registry::{Quota, tables};

async fn a_device_number_is_given_once(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let number = async |sql: &str| fixture.number(&format!("{sql} RETURNING device_no")).await;
    assert_eq!(number("INSERT INTO device (tenant_no, id, template_no) VALUES (1, 'a', 1)").await, 1);
    assert_eq!(number("UPDATE device SET name = 'well 1' WHERE id = 'a'").await, 1);
    assert_eq!(number("UPDATE device SET id = 'b' WHERE id = 'a'").await, 2);
    fixture.client.batch_execute("INSERT INTO tenant (tenant_no, name) VALUES (2, 'harbour')").await.unwrap();
    assert_eq!(number("UPDATE device SET tenant_no = 2 WHERE id = 'b'").await, 3);
    fixture.client.batch_execute("DELETE FROM device").await.unwrap();
    let by_hand = |no: u64| format!("INSERT INTO device (device_no, tenant_no, id, template_no) VALUES ({no}, 1, 'd{no}', 1)");
    // A number that was in use is replaced, any other is taken as it comes; the sequence passes it over.
    assert_eq!(number(&by_hand(3)).await, 4);
    assert_eq!(number(&by_hand(5)).await, 5);
    assert_eq!(number("INSERT INTO device (tenant_no, id, template_no) VALUES (1, 'e', 1)").await, 6);
    fixture.client.batch_execute("TRUNCATE device").await.unwrap();
    assert_eq!(number(&by_hand(5)).await, 7);
    for no in [0, DeviceNo::MAX + 1] {
        assert!(fixture.client.batch_execute(&by_hand(no)).await.is_err(), "{no}");
    }
    // A row that came past the triggers.
    let past = format!("SET session_replication_role = replica; {}", by_hand(1));
    fixture.client.batch_execute(&past).await.unwrap();
    let mut client = fixture.database.client().await;
    let read = tables::read(&mut client, |_| true).await.unwrap();
    assert_eq!(read.wanted.devices.len(), 1);
    assert!(read.bad[0].to_string().contains("device_no 1 stood for another device before"), "{}", read.bad[0]);
}

async fn numbers_that_partitions_gave_are_read_back(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let no = |partition, nth| DeviceNo::provisioned(Partition(partition), nth).unwrap().0;
    let rows = format!(
        "INSERT INTO device (device_no, tenant_no, id, template_no) VALUES (1, 1, 'x', 1), ({}, 1, 'a', 1), ({}, 1, 'b', 1); \
         DELETE FROM device WHERE id = 'b'; \
         INSERT INTO series VALUES ({} << 16 | 3, 1, {}, 'c', 'f', 'number', NULL, 0), (1 << 16, 1, 1, 'x', 'f', 'number', NULL, 0)",
        no(3, 4),
        no(3, 9),
        no(15, 70_000),
        no(15, 70_000),
    );
    fixture.client.batch_execute(&rows).await.unwrap();
    let counts = tables::provisioned(&fixture.client).await.unwrap();
    assert_eq!(counts.into_iter().collect::<Vec<_>>(), [(Partition(3), 10), (Partition(15), 70_001)]);
}

async fn quotas_are_read_and_what_cannot_be_one_leaves_those_in_force(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let rows = "INSERT INTO tenant (tenant_no, name, measurements_per_second_max, over_quota) VALUES (2, 'brewery', 50, 'thin'), \
                (3, 'harbour', NULL, 'thin'); \
                INSERT INTO tenant (tenant_no, name, measurements_per_day_max) VALUES (4, 'airport', 7)";
    fixture.client.batch_execute(rows).await.unwrap();
    let mut client = fixture.database.client().await;
    let read = tables::read(&mut client, |_| true).await.unwrap();
    let quota = |tenant: &str, per_second_max, per_day_max, treatment| Quota {
        tenant: tenant.into(),
        per_second_max,
        per_day_max,
        treatment,
    };
    let thin = Treatment::Thin { interval_us: 15 * MINUTE_US };
    let expected = [
        (TenantNo(2), quota("brewery", Some(50), None, thin)),
        (TenantNo(4), quota("airport", None, Some(7), Treatment::Quarantine)),
    ];
    assert_eq!(read.wanted.quotas, expected.into());
    for bad in ["measurements_per_second_max = 0", "over_quota = 'drop'", "thin_interval = '2 days'"] {
        let refused = fixture.client.batch_execute(&format!("UPDATE tenant SET {bad} WHERE tenant_no = 2")).await.unwrap_err();
        assert!(refused.as_db_error().is_some_and(|error| error.constraint().is_some()), "{bad}: {refused}");
    }
    // Somebody has dropped the checks.
    let checks = "SELECT conname FROM pg_constraint WHERE conrelid = 'tenant'::regclass AND contype = 'c'";
    for check in fixture.client.query(checks, &[]).await.unwrap() {
        let drop = format!("ALTER TABLE tenant DROP CONSTRAINT {}", check.get::<_, &str>(0));
        fixture.client.batch_execute(&drop).await.unwrap();
    }
    let bad = "UPDATE tenant SET thin_interval = '2 days' WHERE tenant_no = 2; \
               UPDATE tenant SET measurements_per_day_max = -1 WHERE tenant_no = 4";
    fixture.client.batch_execute(bad).await.unwrap();
    let read = tables::read(&mut client, |_| true).await.unwrap();
    assert!(read.wanted.quotas.is_empty() && read.wanted.tenants.len() == 4);
    assert_eq!(read.wanted.kept_quotas, [TenantNo(2), TenantNo(4)].into());
    let told: Vec<_> = read.bad.iter().map(ToString::to_string).collect();
    assert!(told[0].contains("thin_interval") && told[1].contains("measurements_per_day_max"), "{told:?}");
}

async fn a_name_that_several_tenants_have_is_not_guessed(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let client = &fixture.client;
    client.batch_execute("INSERT INTO tenant (tenant_no, name) VALUES (2, 'harbour')").await.unwrap();
    let add = async |tenant: &str, text: &str| {
        let new = NewToken { name: "main".into(), tenant: tenant.into(), may_write: true, may_read: false, provision: None };
        admin::add_token(client, &new, text).await
    };
    add("waterworks", "one").await.unwrap();
    let again = add("waterworks", "two").await.unwrap_err();
    assert!(matches!(again, AdminError::Exists { what: "token", .. }), "{again}");
    add("harbour", "three").await.unwrap();
    let error = admin::remove(client, admin::Kind::Token, None, "main").await.unwrap_err();
    assert_eq!(error.to_string(), "2 tenants have a token \"main\": name one with --tenant (harbour, waterworks)");
    assert_eq!(fixture.number("SELECT count(*) FROM api_token").await, 2);
    admin::remove(client, admin::Kind::Token, Some("harbour"), "main").await.unwrap();
    admin::remove(client, admin::Kind::Token, None, "main").await.unwrap();
    assert!(matches!(admin::remove(client, admin::Kind::Token, None, "main").await, Err(AdminError::Absent { .. })));
    // A shared template and a tenant's own.
    client
        .batch_execute("INSERT INTO template (template_no, tenant_no, name, decoding) VALUES (2, 2, 'pump', 'upstream')")
        .await
        .unwrap();
    assert!(matches!(admin::remove(client, admin::Kind::Template, None, "pump").await, Err(AdminError::Ambiguous { .. })));
    admin::remove(client, admin::Kind::Template, Some("harbour"), "pump").await.unwrap();
    admin::remove(client, admin::Kind::Template, None, "pump").await.unwrap();
}

async fn classes_are_added_and_listed(kind: Kind) {
    let fixture = Fixture::new(kind).await;
    let new = NewClass {
        name: "brief".into(),
        raw_retention: Some("30 days".into()),
        rollup_retention: None,
        chunk_interval: "6 hours".into(),
        compress_after: Some("1 week".into()),
    };
    assert_eq!(admin::add_class(&fixture.client, &new).await.unwrap(), 1);
    assert!(matches!(admin::add_class(&fixture.client, &new).await, Err(AdminError::Exists { what: "class", .. })));
    let listed = admin::list(&fixture.client, admin::Kind::Class, None, 10).await.unwrap();
    assert_eq!((&listed[0]["name"], &listed[0]["raw_retention"]), (&"brief".into(), &"30 days".into()));
    for kind in [admin::Kind::Class, admin::Kind::Tenant, admin::Kind::Template] {
        let row = &admin::list(&fixture.client, kind, None, 1).await.unwrap()[0];
        let mut columns = kind.columns().to_vec();
        let mut keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).filter(|key| *key != "tenant").collect();
        columns.retain(|column| *column != "tenant");
        columns.sort_unstable();
        keys.sort_unstable();
        assert_eq!(columns, keys, "{kind:?}");
    }
}

on_every_server!(
    a_device_number_is_given_once,
    numbers_that_partitions_gave_are_read_back,
    quotas_are_read_and_what_cannot_be_one_leaves_those_in_force,
    a_name_that_several_tenants_have_is_not_guessed,
    classes_are_added_and_listed,
);
