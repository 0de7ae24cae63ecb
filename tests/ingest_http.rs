//! The ingest routes over HTTP, with a stand-in for the log behind them.

use dataflows::model::{DeviceId, EventTime, TenantNo, Uplink};
use reqwest::{RequestBuilder, StatusCode};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use weir::ingest::{Accepted, Access, Intake, IntakeError, Limits, router};

/// A log in memory. `fsyncs` holds one permit for each append that may become durable.
struct FakeLog {
    appended: Mutex<Vec<Vec<Uplink>>>,
    fails: Option<IntakeError>,
    /// The sender is not to send at all.
    refuses: Option<IntakeError>,
    /// How many uplinks of a request are within the quota.
    within_quota: usize,
    entered: Semaphore,
    fsyncs: Semaphore,
}

impl Default for FakeLog {
    fn default() -> Self {
        let (entered, fsyncs) = (Semaphore::new(0), Semaphore::new(1000));
        Self { appended: Mutex::default(), fails: None, refuses: None, within_quota: usize::MAX, entered, fsyncs }
    }
}

impl Intake for FakeLog {
    fn authenticate(&self, token: &str) -> Option<Access> {
        let may_write = match token {
            "writer" | "other" => true,
            "reader" => false,
            _ => return None,
        };
        let tenant = TenantNo(if token == "other" { 8 } else { 7 });
        Some(Access { tenant, may_write, may_read: !may_write, provision: None, name: token.into() })
    }

    fn decodes(&self, access: &Access, device: &DeviceId) -> bool {
        assert_eq!(access.tenant, TenantNo(7));
        device.as_str() == "decodes"
    }

    fn admits(&self, _access: &Access) -> Result<(), IntakeError> {
        self.refuses.map_or(Ok(()), Err)
    }

    async fn accept(&self, _access: &Access, uplinks: Vec<Uplink>) -> Result<Accepted, IntakeError> {
        self.entered.add_permits(1);
        self.fsyncs.acquire().await.expect("the semaphore stays open").forget();
        if let Some(error) = self.fails {
            return Err(error);
        }
        self.appended.lock().unwrap().push(uplinks);
        Ok(Accepted { within_quota: self.within_quota })
    }
}

struct Server {
    log: Arc<FakeLog>,
    address: std::net::SocketAddr,
    client: reqwest::Client,
}

async fn serve_with(log: FakeLog, limits: Limits) -> Server {
    let log = Arc::new(log);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = router(log.clone(), limits, Arc::new(|| EventTime(1_795_352_400_000_000)));
    let routes = router.into_make_service_with_connect_info::<std::net::SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Server { log, address, client: reqwest::Client::new() }
}

async fn serve() -> Server {
    serve_with(FakeLog::default(), Limits::default()).await
}

impl Server {
    fn post(&self, path: &str) -> RequestBuilder {
        self.client.post(format!("http://{}{path}", self.address)).bearer_auth("writer")
    }

    fn appended(&self) -> Vec<Vec<String>> {
        let names = |uplinks: &Vec<Uplink>| uplinks.iter().map(|uplink| uplink.device.to_string()).collect();
        self.log.appended.lock().unwrap().iter().map(names).collect()
    }
}

async fn answer(request: RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

/// Checks a response that is only a problem.
async fn problem(request: RequestBuilder, status: u16, code: &str) -> reqwest::header::HeaderMap {
    let response = request.send().await.unwrap();
    let (got, headers) = (response.status().as_u16(), response.headers().clone());
    let body: Value = response.json().await.unwrap();
    assert_eq!((got, body["code"].as_str()), (status, Some(code)), "{body}");
    assert_eq!(headers["content-type"], "application/problem+json");
    assert_eq!(body["type"], format!("urn:weir:problem:{code}"));
    assert_eq!(body["status"], status);
    assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()));
    assert!(body["detail"].as_str().is_some_and(|detail| detail.len() > 15));
    headers
}

fn own(device: &str) -> Value {
    json!({"device": device, "payload_hex": "00"})
}

#[tokio::test]
async fn each_route_takes_its_shape() {
    let server = serve().await;
    let check = async |path: &str, body: &str, expected: Value| {
        let request = server.post(path).header("content-type", "application/json; charset=utf-8").body(body.to_owned());
        assert_eq!(answer(request).await, (StatusCode::OK, expected), "{path}");
    };
    let (accepted, skipped) = (json!({"status": "accepted"}), json!({"status": "skipped"}));
    check("/v1/ttn", include_str!("formats/ttn_v3_uplink.json"), accepted.clone()).await;
    check("/v1/ttn", include_str!("formats/ttn_v3_join.json"), skipped.clone()).await;
    check("/v1/chirpstack?event=up", include_str!("formats/chirpstack_v4_up.json"), accepted.clone()).await;
    check("/v1/chirpstack", include_str!("formats/chirpstack_v4_up.json"), accepted.clone()).await;
    check("/v1/chirpstack?event=join", include_str!("formats/chirpstack_v4_join.json"), skipped.clone()).await;
    check("/v1/chirpstack", include_str!("formats/chirpstack_v4_status.json"), skipped.clone()).await;
    check("/v1/uplinks", include_str!("formats/own_record_batch.json"), accepted).await;
    let expected = [["0004a30b001c0530"], ["0101010101010101"], ["0101010101010101"], ["ABC123"]];
    assert_eq!(server.appended(), expected);
    assert_eq!(server.log.appended.lock().unwrap()[0][0].tenant, TenantNo(7));
}

#[tokio::test]
async fn a_token_opens_the_door() {
    let server = serve().await;
    let url = format!("http://{}/v1/uplinks", server.address);
    let plain = || server.client.post(&url).json(&own("a"));
    assert_eq!(problem(plain(), 401, "no_token").await["www-authenticate"], "Bearer realm=\"weir\"");
    problem(plain().bearer_auth("stranger"), 401, "unknown_token").await;
    problem(plain().bearer_auth("reader"), 403, "read_only_token").await;
    assert!(server.appended().is_empty());
    assert_eq!(answer(plain().basic_auth("anyone", Some("writer"))).await.0, StatusCode::OK);
    // The password of HTTP Basic may stand in the address.
    let address = url.replace("http://", "http://weir:writer@");
    assert_eq!(answer(server.client.post(address).json(&own("b"))).await.0, StatusCode::OK);
    assert_eq!(server.appended(), [["a"], ["b"]]);
}

#[tokio::test]
async fn what_is_wrong_is_told_as_a_problem() {
    let server = serve().await;
    let uplinks = || server.post("/v1/uplinks");
    problem(uplinks().body("{"), 400, "malformed_json").await;
    problem(uplinks().body("[{},"), 400, "malformed_json").await;
    problem(uplinks().body(vec![b'"', 0xff]), 400, "not_utf8").await;
    problem(uplinks().header("content-encoding", "gzip").body("{}"), 400, "unreadable_body").await;
    problem(server.post("/v2/uplinks"), 404, "not_found").await;
    let get = server.client.get(format!("http://{}/v1/ttn", server.address));
    assert_eq!(problem(get, 405, "method_not_allowed").await["allow"], "POST");
    problem(uplinks().json(&json!({"device": "a", "payload_hex": "0".repeat(10_000)})), 413, "too_long").await;
    problem(uplinks().header("content-type", "application/octet-stream").body("{}"), 415, "media_type").await;
    problem(uplinks().header("content-encoding", "br").body("{}"), 415, "content_encoding").await;
    problem(uplinks().json(&json!({"device": "a"})), 422, "unusable").await;
    assert!(server.appended().is_empty());
}

#[tokio::test]
async fn a_refusing_log_asks_the_sender_to_come_back() {
    let check = async |error, code, retry_after_s| {
        let server = serve_with(FakeLog { fails: Some(error), ..FakeLog::default() }, Limits::default()).await;
        let headers = problem(server.post("/v1/uplinks").json(&own("a")), 503, code).await;
        assert_eq!(headers["retry-after"], retry_after_s);
        problem(server.post("/v1/uplinks").json(&[own("a"), own("b")]), 503, code).await;
    };
    check(IntakeError::Full, "log_full", "60").await;
    check(IntakeError::Busy, "log_busy", "1").await;
    check(IntakeError::Clock, "clock_jumped", "60").await;
    check(IntakeError::Stopping, "stopping", "5").await;
}

#[tokio::test]
async fn a_bad_item_does_not_spoil_those_beside_it() {
    let server = serve().await;
    let check = async |request: RequestBuilder| {
        let (status, body) = answer(request).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        assert_eq!((&body["accepted"], &body["rejected"]), (&json!(2), &json!(1)));
        assert_eq!(body["items"][0], json!({"index": 0, "status": "accepted"}));
        assert_eq!(body["items"][1]["status"], "rejected");
        assert_eq!(body["items"][1]["problem"]["pointer"], "/device");
        assert_eq!(body["items"][2], json!({"index": 2, "status": "accepted"}));
    };
    let items = [own("a"), own(""), own("b")];
    check(server.post("/v1/uplinks").json(&items)).await;
    let lines: String = items.iter().map(|item| format!("{item}\n")).collect();
    check(server.post("/v1/uplinks").body(lines.clone())).await;
    check(server.post("/v1/uplinks").header("content-type", "application/x-ndjson").body(lines)).await;
    // The good ones of a request go to the log as one list.
    assert_eq!(server.appended(), [["a", "b"], ["a", "b"], ["a", "b"]]);
}

#[tokio::test]
async fn a_batch_without_uplinks_does_not_trouble_the_log() {
    let server = serve().await;
    let (status, body) = answer(server.post("/v1/uplinks").json(&[own(""), json!(1)])).await;
    assert_eq!((status, &body["code"], &body["rejected"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("all_rejected"), &json!(2)));
    assert_eq!(body["items"][1]["problem"]["status"], 422);
    let join = json!({"end_device_ids": {"device_id": "a"}, "join_accept": {}});
    let (status, body) = answer(server.post("/v1/ttn").json(&[join, json!({})])).await;
    assert_eq!((status, &body["skipped"], &body["rejected"]), (StatusCode::OK, &json!(1), &json!(1)));
    let (status, body) = answer(server.post("/v1/uplinks").body("[]")).await;
    assert_eq!((status, body), (StatusCode::OK, json!({"accepted": 0, "skipped": 0, "rejected": 0, "items": []})));
    assert!(server.appended().is_empty());
}

#[tokio::test]
async fn nobody_hears_accepted_before_the_fsync() {
    let server = serve_with(FakeLog { fsyncs: Semaphore::new(0), ..FakeLog::default() }, Limits::default()).await;
    for body in [own("a"), json!([own("a"), own("b")])] {
        let mut response = tokio::spawn(server.post("/v1/uplinks").json(&body).send());
        server.log.entered.acquire().await.unwrap().forget();
        // The log has the uplinks and has not fsynced them: an answer within this time would be a lie.
        let early = tokio::time::timeout(Duration::from_millis(100), &mut response).await;
        assert!(early.is_err(), "answered before the fsync: {early:?}");
        server.log.fsyncs.add_permits(1);
        assert_eq!(response.await.unwrap().unwrap().status(), StatusCode::OK);
    }
}

#[tokio::test]
async fn decoded_fields_are_dropped_where_the_template_decodes() {
    let server = serve().await;
    for device in ["decodes", "upstream"] {
        let body = json!({"device": device, "payload_hex": "00", "fields": {"t": 1}});
        assert_eq!(answer(server.post("/v1/uplinks").json(&body)).await.0, StatusCode::OK);
    }
    let appended = server.log.appended.lock().unwrap();
    let decoded: Vec<_> = appended.iter().flatten().map(|uplink| uplink.decoded.as_deref()).collect();
    assert_eq!(decoded, [None, Some("{\"t\":1}")]);
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn bodies_are_bounded_after_decompression() {
    let limits = Limits { body_bytes_max: 10_000, items_max: 3, ..Limits::default() };
    let server = serve_with(FakeLog::default(), limits).await;
    let uplinks = || server.post("/v1/uplinks");
    let gzipped = |body: &[u8]| uplinks().header("content-encoding", "gzip").body(gzip(body));
    let blank = |bytes: usize| format!("{}{}", own("a"), " ".repeat(bytes - own("a").to_string().len()));

    assert_eq!(answer(uplinks().body(blank(10_000))).await.0, StatusCode::OK);
    problem(uplinks().body(blank(10_001)), 413, "body_too_large").await;
    assert_eq!(answer(gzipped(blank(10_000).as_bytes())).await.0, StatusCode::OK);
    problem(gzipped(blank(10_001).as_bytes()), 413, "body_too_large").await;
    let bomb = gzip(&vec![b' '; 10 << 20]);
    assert!(bomb.len() > 10_000, "the bomb is told by its length alone");
    let chunked = reqwest::Body::from(bomb);
    problem(uplinks().header("content-encoding", "gzip").body(chunked), 413, "body_too_large").await;
    problem(uplinks().json(&[own("a"), own("b"), own("c"), own("d")]), 413, "too_many_items").await;
}

#[tokio::test]
async fn bodies_share_their_room() {
    let limits = Limits { bodies_bytes_max: 60, ..Limits::default() };
    let server = serve_with(FakeLog { fsyncs: Semaphore::new(0), ..FakeLog::default() }, limits).await;
    let large = format!("{}{}", own("a"), " ".repeat(60));
    let headers = problem(server.post("/v1/uplinks").body(large), 503, "crowded").await;
    assert_eq!(headers["retry-after"], "1");
    server.log.fsyncs.add_permits(2);
    for _ in 0..2 {
        // The room of the one before is free again.
        assert_eq!(answer(server.post("/v1/uplinks").json(&own("a"))).await.0, StatusCode::OK);
    }
}

#[tokio::test]
async fn who_floods_the_room_for_bodies_is_told_so_and_others_find_room() {
    let limits = Limits { bodies_bytes_max: 100, ..Limits::default() };
    let server = serve_with(FakeLog::default(), limits).await;
    // A body of which 50 bytes have come, and more is to come.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/uplinks HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer writer\r\ncontent-length: 80\r\n\r\n";
    stream.write_all(format!("{head}{}", " ".repeat(50)).as_bytes()).await.unwrap();
    let flood = async || {
        let response = server.post("/v1/uplinks").json(&own("a")).send().await.unwrap();
        (response.status(), response.headers().get("retry-after").cloned(), response.text().await.unwrap())
    };
    // Until the server has read it, there is room.
    let refused = async {
        loop {
            let answer = flood().await;
            if answer.0 != StatusCode::OK {
                break answer;
            }
        }
    };
    let (status, wait, body) = tokio::time::timeout(Duration::from_secs(60), refused).await.expect("a share has an end");
    assert_eq!((status, wait.unwrap().to_str().unwrap()), (StatusCode::TOO_MANY_REQUESTS, "1"), "{body}");
    assert!(body.contains("urn:weir:problem:above_share"), "{body}");
    let other = server.client.post(format!("http://{}/v1/uplinks", server.address)).bearer_auth("other");
    assert_eq!(answer(other.json(&own("b"))).await.0, StatusCode::OK);
    drop(stream);
    let accepted = async { while flood().await.0 != StatusCode::OK {} };
    tokio::time::timeout(Duration::from_secs(60), accepted).await.expect("its room is free again");
}

#[tokio::test]
async fn a_sender_hears_what_is_over_the_quota() {
    let over = async |within_quota, body: &Value| {
        let server = serve_with(FakeLog { within_quota, ..FakeLog::default() }, Limits::default()).await;
        let (status, told) = answer(server.post("/v1/uplinks").json(body)).await;
        assert_eq!((status, server.appended().len()), (StatusCode::OK, 1), "it is in the log");
        told
    };
    assert_eq!(over(0, &own("a")).await, json!({"status": "accepted", "over_quota": true}));
    assert_eq!(over(1, &own("a")).await, json!({"status": "accepted"}));
    let told = over(1, &json!([own("a"), own(""), own("b"), own("c")])).await;
    assert_eq!((&told["accepted"], &told["over_quota"], &told["rejected"]), (&json!(3), &json!(2), &json!(1)));
    let marked: Vec<_> = told["items"].as_array().unwrap().iter().map(|item| item["over_quota"] == true).collect();
    assert_eq!(marked, [false, false, true, true]);
}

#[tokio::test]
async fn who_abuses_the_quota_is_asked_to_wait_before_the_body_is_read() {
    let abuse = IntakeError::Abuse { wait_s: 9 };
    let server = serve_with(FakeLog { refuses: Some(abuse), ..FakeLog::default() }, Limits::default()).await;
    let headers = problem(server.post("/v1/uplinks").body("no JSON"), 429, "far_over_quota").await;
    assert_eq!(headers["retry-after"], "9");
}

#[tokio::test]
async fn unknown_tokens_are_asked_to_wait_and_known_ones_never_are() {
    let server = serve().await;
    let stranger = || server.client.post(format!("http://{}/v1/uplinks", server.address)).json(&own("a")).bearer_auth("x");
    for _ in 0..100 {
        problem(stranger(), 401, "unknown_token").await;
    }
    let headers = problem(stranger(), 429, "too_many_unknown_tokens").await;
    assert_eq!(headers["retry-after"], "1");
    // From the same address, as behind a proxy.
    assert_eq!(answer(server.post("/v1/uplinks").json(&own("a"))).await.0, StatusCode::OK);
    let forwarded = stranger().header("x-forwarded-for", "10.0.0.7");
    problem(forwarded, 429, "too_many_unknown_tokens").await;
}

#[tokio::test]
async fn a_slow_body_is_given_up() {
    let limits = Limits { body_timeout: Duration::from_millis(50), ..Limits::default() };
    let server = serve_with(FakeLog::default(), limits).await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let head = "POST /v1/uplinks HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer writer\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut response = String::new();
    // The connection is closed too: the rest of the body is not waited for.
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 408 "), "{response}");
    assert!(response.contains("urn:weir:problem:slow_body"), "{response}");
    assert!(server.appended().is_empty());
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_accepted() {
    let server = serve().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    // A whole object, of which more was promised.
    let body = own("a").to_string();
    let length = body.len() + 1;
    let head = format!(
        "POST /v1/uplinks HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer writer\r\ncontent-length: {length}\r\n\r\n{body}"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(!response.starts_with("HTTP/1.1 200"), "{response}");
    assert!(server.appended().is_empty());
}

#[tokio::test]
async fn figures_count_requests_items_and_bytes() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let figures = recorder.handle();
    // The test's runtime has one thread, and the recorder is set for it.
    let _guard = metrics::set_default_local_recorder(&recorder);
    weir::ingest::metrics::describe();
    let server = serve().await;
    let bodies = [json!([own("a"), own(""), own("b")]).to_string(), "{".into(), json!({"end_device_ids": {}}).to_string()];
    for (path, body) in ["/v1/uplinks", "/v1/uplinks", "/v1/ttn"].into_iter().zip(&bodies) {
        answer(server.post(path).body(body.clone())).await;
    }
    let text = figures.render();
    let check = |line: &str| assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    check("weir_ingest_requests_total{route=\"uplinks\",code=\"200\"} 1");
    check("weir_ingest_requests_total{route=\"uplinks\",code=\"400\"} 1");
    check("weir_ingest_requests_total{route=\"ttn\",code=\"200\"} 1");
    check("weir_ingest_uplinks_total{shape=\"own\",outcome=\"accepted\"} 2");
    check("weir_ingest_uplinks_total{shape=\"own\",outcome=\"rejected\"} 2");
    check("weir_ingest_uplinks_total{shape=\"ttn\",outcome=\"skipped\"} 1");
    check("weir_ingest_seconds_count{route=\"uplinks\"} 2");
    check(&format!("weir_ingest_bytes_total {}", bodies.iter().map(String::len).sum::<usize>()));
}
