//! No token reads or writes another tenant's devices, by any endpoint.

use crate::process::Daemon;
use crate::registry::Site;
use crate::support::database::Kind;
use crate::world::get;
use serde_json::{Value, json};
use std::net::SocketAddr;
use weir::registry::TokenHash;

/// A device of both tenants, and one that only the second has.
const SHARED: &str = "24e124136b502217";
const FOREIGN: &str = "24e124136b50ffff";

/// Every way in, with the body of an uplink of `device` that brings `value`.
fn uplinks(device: &str, value: i64, sent: u32) -> [(&'static str, Value); 3] {
    let at = format!("2026-11-22T10:00:{sent:02}Z");
    [
        ("/v1/uplinks", json!({ "device": device, "id": format!("{value}-{sent}"), "time": at, "fields": { "own": value } })),
        (
            "/v1/ttn",
            json!({
                "end_device_ids": { "device_id": "pump", "dev_eui": device.to_uppercase() }, "received_at": at,
                "uplink_message": {
                    "f_port": 1, "f_cnt": sent, "frm_payload": "AQ==", "decoded_payload": { "ttn": value }, "received_at": at
                },
            }),
        ),
        (
            "/v1/chirpstack?event=up",
            json!({
                "deduplicationId": format!("{value}-{sent}"), "time": at, "deviceInfo": { "devEui": device }, "fPort": 1,
                "fCnt": sent, "data": "AQ==", "object": { "chirpstack": value },
            }),
        ),
    ]
}

async fn post(address: SocketAddr, (path, body): (&str, Value), token: &str) -> u16 {
    let request = reqwest::Client::new().post(format!("http://{address}{path}")).bearer_auth(token).json(&body);
    request.send().await.unwrap().status().as_u16()
}

/// Two tenants with a device of the same name; the second has another one too. Tokens are named for tenant and use.
async fn two_tenants() -> Site {
    let site = Site::new(Kind::Plain).await;
    let more = format!(
        "INSERT INTO tenant (name) VALUES ('brewery'); \
         INSERT INTO device (tenant_no, id, template_no) VALUES (1, '{SHARED}', 1), (2, '{SHARED}', 1), (2, '{FOREIGN}', 1)"
    );
    site.client.batch_execute(&more).await.unwrap();
    for (text, tenant, writes) in [("write-1", 1, true), ("read-1", 1, false), ("write-2", 2, true), ("read-2", 2, false)] {
        let sql = "INSERT INTO api_token (token_hash, tenant_no, name, may_write, may_read) VALUES ($1, $2, $3, $4, NOT $4)";
        site.client.execute(sql, &[&TokenHash::of(text).0.as_slice(), &tenant, &text, &writes]).await.unwrap();
    }
    site
}

/// Waits until the daemon knows the last token.
async fn known(site: &Site, daemon: &Daemon) {
    site.caught_up(daemon).await;
    let address = daemon.address().await;
    while get(address, "/v1/latest", "read-2").await.0 == 401 {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn daemon_no_token_reaches_another_tenants_devices() {
    let site = two_tenants().await;
    let daemon = site.start("a");
    known(&site, &daemon).await;
    let address = daemon.address().await;
    let mut sent = 0;
    let mut next = || {
        sent += 1;
        sent
    };
    for way in 0..3 {
        for (token, value) in [("write-1", 1), ("write-2", 2)] {
            assert_eq!(post(address, uplinks(SHARED, value, next())[way].clone(), token).await, 200, "{way}");
        }
        // Of a device that the tenant does not have, whoever else has one of that name.
        assert_eq!(post(address, uplinks(FOREIGN, 1, next())[way].clone(), "write-1").await, 200, "{way}");
        for (token, code) in [("read-1", 403), ("nobody", 401)] {
            assert_eq!(post(address, uplinks(SHARED, 9, next())[way].clone(), token).await, code, "{way} {token}");
        }
    }
    site.caught_up(&daemon).await;

    let rows = "SELECT concat_ws(' ', s.tenant_no, s.device, s.field, m.value) FROM series s JOIN measurement m USING (series_id) \
                ORDER BY s.tenant_no, s.field COLLATE \"C\"";
    let expected = [1, 2].map(|tenant| ["chirpstack", "own", "ttn"].map(|field| format!("{tenant} {SHARED} {field} {tenant}")));
    assert_eq!(site.texts(rows).await, expected.concat());
    let set_aside = "SELECT concat_ws(' ', tenant_no, device, reason) FROM quarantine";
    assert_eq!(site.texts(set_aside).await, vec![format!("1 {FOREIGN} unknown_device"); 3]);

    for path in ["/v1/latest?device=", "/v1/query?from=2026-11-22&to=2026-11-23&device="] {
        for tenant in [1, 2] {
            let (code, answer) = get(address, &format!("{path}{SHARED}"), &format!("read-{tenant}")).await;
            assert_eq!(code, 200, "{answer}");
            let answer = answer.to_string();
            let other = format!(",{}.0]", 3 - tenant);
            assert!(answer.contains("chirpstack") && !answer.contains(&other), "{answer}");
            if path.contains("latest") {
                assert!(answer.contains(&format!("\"value\":{tenant}.0")), "{answer}");
            }
        }
        for (token, code) in [("read-1", 404), ("write-2", 403), ("nobody", 401)] {
            assert_eq!(get(address, &format!("{path}{FOREIGN}"), token).await.0, code, "{path} {token}");
        }
    }
    daemon.terminate().await.well();
}
