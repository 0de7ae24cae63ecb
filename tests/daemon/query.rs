//! What a daemon answers at once: memory and tables read as one, each tenant for itself.

use crate::support::database::Kind;
use crate::world::{World, get};
use dataflows::model::{BucketLevel, EventTime};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use weir::load::verify::rules;
use weir::registry::QuotaChange;
use weir::registry::admin::{self, NewDevice, NewTenant, NewToken};

#[tokio::test]
async fn daemon_query_sees_open_buckets() {
    let mut world = World::new(Kind::Timescale, 9, Duration::from_secs(20)).await;
    let stranger = other_tenant(&world).await;
    let daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    world.send(address, Duration::from_secs(5)).await;
    // Now the first hour's partials go to the tables; those of the second stay in memory.
    world.bucket_due().await;
    world.send(address, Duration::from_secs(1)).await;
    world.caught_up(&daemon).await;

    let rules = rules(&world.client, world.tenant).await.unwrap();
    let token = world.tokens.read.clone();
    let fleet = world.expectation.fleet().clone();
    let (mut open, mut closed) = (0, 0);
    for (member, device) in fleet.members().iter().zip(0..) {
        let query = format!("/v1/query?device={}&from=-6h&to=now&step=1h&aggregate=count", member.id);
        let (code, answer) = get(address, &query, &token).await;
        assert_eq!(code, 200, "{answer}");
        let (_, latest) = get(address, &format!("/v1/latest?device={}", member.id), &token).await;
        for field in member.kind.spec().fields {
            let expected = world.expectation.buckets(device, field, BucketLevel::Hour, &rules);
            let expected: BTreeMap<_, _> = expected.iter().map(|e| (e.start, e.bucket.count)).collect();
            let series = of_field(&answer["series"], field.name);
            assert_eq!(counts(&series["points"]), expected, "{} of {}: {answer}", field.name, member.id);
            let is_open = series["open"].as_array().map_or(0, Vec::len);
            (open, closed) = (open + is_open, closed + expected.len() - is_open);

            let measured = world.expectation.series(device, field, &rules);
            let (newest, _) = measured.rows.last().expect("every device was heard of");
            let found = of_field(&latest["devices"][0]["fields"], field.name);
            assert_eq!(time(&found["time"]), newest.at, "{latest}");
            let value = found["value"].as_f64().unwrap_or_else(|| f64::from(u8::from(found["value"] == json!(true))));
            assert!((value - newest.value).abs() <= 1e-9 * newest.value.abs(), "{value} instead of {}", newest.value);
        }
    }
    assert!(open > 0 && closed > 0, "{open} open buckets, {closed} closed ones: the test shows nothing");

    let device = &fleet.members()[0].id;
    for path in [format!("/v1/query?device={device}&step=1h"), format!("/v1/latest?device={device}")] {
        assert_eq!(get(address, &path, &stranger).await.0, 404, "{path}");
        assert_eq!(get(address, &path, "nobody's").await.0, 401, "{path}");
    }
    daemon.terminate().await.well();
    world.assert_tables().await;
}

/// Registers another tenant with a device of its own, and gives its token.
async fn other_tenant(world: &World) -> String {
    let tenant = "brewery".to_owned();
    let (heartbeat, lateness_horizon) = ("1 hour".into(), "10 minutes".into());
    let new = NewTenant {
        name: tenant.clone(),
        zone: "UTC".into(),
        heartbeat,
        lateness_horizon,
        class: "standard".into(),
        quota: QuotaChange::default(),
    };
    admin::add_tenant(&world.client, &new).await.unwrap();
    let (id, template) = ("vat-1".into(), "elsys".into());
    let device = NewDevice { id, tenant: tenant.clone(), template, name: None, variables: json!({}), zone: None };
    admin::add_device(&world.client, &device).await.unwrap();
    let token = "weir_brewery".to_owned();
    let new = NewToken { name: "read".into(), tenant, may_write: false, may_read: true, provision: None };
    admin::add_token(&world.client, &new, &token).await.unwrap();
    token
}

fn of_field<'a>(list: &'a Value, field: &str) -> &'a Value {
    let found = list.as_array().and_then(|list| list.iter().find(|one| one["field"] == field));
    found.unwrap_or_else(|| panic!("no {field} in {list}"))
}

fn counts(points: &Value) -> BTreeMap<EventTime, u64> {
    let points = points.as_array().expect("points are a list").iter();
    points.map(|point| (time(&point[0]), point[1].as_u64().expect("a count"))).filter(|(_, count)| *count > 0).collect()
}

fn time(text: &Value) -> EventTime {
    let time: jiff::Timestamp = text.as_str().and_then(|text| text.parse().ok()).expect("times are RFC 3339");
    EventTime(time.as_microsecond())
}
