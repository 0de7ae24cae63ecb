//! Peers that send too much, or nonsense, or too slowly, or never listen: each is answered or closed, memory stays
//! bounded, and a sender beside them is never refused.

use crate::process::{Daemon, PATIENCE};
use crate::registry::{Site, TOKEN};
use crate::support::database::Kind;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::io::Write;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

/// More than a body may have, which is 8 MiB.
const TOO_LARGE: usize = 10 << 20;
/// What hostile peers may add to the daemon's memory; they send many times as much.
const GROWTH_MAX: u64 = 256 << 20;

/// A way to be hostile: what is sent, piece by piece, and what may come back, as status and code.
type Attack = (&'static str, Box<dyn Iterator<Item = Vec<u8>>>, &'static [(u16, &'static str)]);

/// The head of a request to store uplinks, with further headers.
fn head(more: &str) -> Vec<u8> {
    format!("POST /v1/uplinks HTTP/1.1\r\nhost: weir\r\nauthorization: Bearer {TOKEN}\r\nconnection: close\r\n{more}\r\n\r\n")
        .into()
}

fn whole(more: &str, body: Vec<u8>) -> Box<dyn Iterator<Item = Vec<u8>>> {
    let head = head(format!("content-length: {}\r\n{more}", body.len()).trim_end());
    Box::new([head, body].into_iter())
}

/// A body of which nobody knows how long it is, of the same piece again and again.
fn endless(more: &str, piece: Vec<u8>) -> Box<dyn Iterator<Item = Vec<u8>>> {
    let chunk = [format!("{:x}\r\n", piece.len()).into_bytes(), piece, b"\r\n".to_vec()].concat();
    Box::new(std::iter::once(head(&format!("{more}transfer-encoding: chunked"))).chain(std::iter::repeat(chunk)))
}

fn gzipped(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

fn nested(depth: usize) -> Vec<u8> {
    format!(r#"{{"device":"pump","fields":{}1{}}}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth)).into()
}

fn attacks() -> Vec<Attack> {
    const TOO_LARGE_BODY: &[(u16, &str)] = &[(413, "body_too_large")];
    const MALFORMED: &[(u16, &str)] = &[(400, "malformed_json")];
    let line = b"{\"device\":\"stranger\",\"fields\":{\"pressure\":1}}\n";
    let ndjson = "content-type: application/x-ndjson\r\n";
    let raw = |bytes: Vec<u8>| -> Box<dyn Iterator<Item = Vec<u8>>> { Box::new(std::iter::once(bytes)) };
    let header = |name: usize, len: usize| format!("x-{name}: {}\r\n", "a".repeat(len));
    vec![
        ("a long body", whole("", vec![b' '; TOO_LARGE]), TOO_LARGE_BODY),
        ("a body without end", endless("", vec![b' '; 64 << 10]), TOO_LARGE_BODY),
        ("lines without end", endless(ndjson, line.repeat(1000)), TOO_LARGE_BODY),
        ("a line without end", endless(ndjson, vec![b'{'; 64 << 10]), TOO_LARGE_BODY),
        ("many lines", whole(ndjson, b"{}\n".repeat(10_001)), &[(413, "too_many_items")]),
        ("a gzip bomb", whole("content-encoding: gzip", gzipped(&vec![b' '; 64 << 20])), TOO_LARGE_BODY),
        ("no gzip", whole("content-encoding: gzip", vec![7; 1 << 20]), &[(400, "unreadable_body")]),
        ("deep arrays", whole("", vec![b'['; 4 << 20]), MALFORMED),
        ("long and deep fields", whole("", nested(100_000)), &[(413, "too_long")]),
        ("deep fields", whole("", nested(10_000)), &[(400, "malformed_json"), (422, "unusable")]),
        ("deep fields, less so", whole("", nested(100)), &[(400, "malformed_json"), (422, "unusable")]),
        ("no UTF-8", whole("", b"{\"device\":\"\xff\xfe\"}".to_vec()), &[(400, "not_utf8")]),
        ("nothing", whole("", vec![]), MALFORMED),
        ("zeros", whole("", vec![0; 1 << 20]), MALFORMED),
        // These never become a request, so there is no problem to be read, only a status.
        ("many headers", raw(head(&(0..5000).map(|nth| header(nth, 8)).collect::<String>())), &[(431, "")]),
        ("a long header", raw(head(&header(0, 2 << 20))), &[(431, "")]),
        ("a long path", raw(format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(100_000)).into()), &[(414, ""), (431, "")]),
        ("a length that is none", raw(head("content-length: 99999999999999999999999")), &[(400, "")]),
        ("another protocol", raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec()), &[(400, "")]),
    ]
}

/// Sends until the daemon has had enough, and gives what it has said when it closes.
async fn told(stream: TcpStream, pieces: impl Iterator<Item = Vec<u8>>) -> String {
    let (mut reader, mut writer) = stream.into_split();
    let mut said = Vec::new();
    let send = async {
        for piece in pieces {
            if writer.write_all(&piece).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    };
    let hear = async {
        // A connection that is closed in the midst of a body is reset behind the answer.
        let _ = reader.read_to_end(&mut said).await;
    };
    tokio::pin!(hear);
    let heard = async {
        tokio::select! {
            () = &mut hear => return,
            () = send => {}
        }
        hear.await;
    };
    timeout(PATIENCE, heard).await.expect("the daemon answers, or closes");
    String::from_utf8_lossy(&said).into_owned()
}

/// Gives an answer's status, and the code of the problem that it holds.
fn parsed(answer: &str) -> Option<(u16, String)> {
    let status = answer.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let is_problem = answer.to_ascii_lowercase().contains("content-type: application/problem+json");
    assert_eq!(problem["code"].is_string(), is_problem, "{answer}");
    Some((status, problem["code"].as_str().unwrap_or_default().to_owned()))
}

/// Sends one uplink after the other, each on a connection of its own, while the others are at it.
///
/// Panics: when one is refused.
async fn beside<T>(daemon: &Daemon, sent: &mut i64, others: impl Future<Output = T>) -> T {
    let url = format!("http://{}/v1/uplinks", daemon.address().await);
    let normal = async {
        loop {
            *sent += 1;
            let uplink = json!({ "device": "pump", "fcnt": *sent, "fields": { "pressure": *sent } });
            let request = reqwest::Client::new().post(&url).bearer_auth(TOKEN).json(&uplink).timeout(PATIENCE);
            let answer = request.send().await.unwrap_or_else(|error| panic!("{error:?}\n{}", daemon.log().join("\n")));
            assert_eq!(answer.status(), 200, "{}", answer.text().await.unwrap());
        }
    };
    tokio::select! {
        never = normal => never,
        done = others => done,
    }
}

/// The most memory that the daemon has had. Unit: bytes.
fn memory_max(daemon: &Daemon) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    kib.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// Panics: unless all that was acknowledged is stored. What was on its way when `beside` ended may be, too.
async fn assert_stored(site: &Site, daemon: Daemon, sent: i64, abandoned: i64) {
    site.caught_up(&daemon).await;
    daemon.terminate().await.well();
    let stored = site.number("SELECT count(*) FROM measurement").await;
    assert!((sent - abandoned..=sent).contains(&stored), "{stored} of {sent}");
}

#[tokio::test]
async fn daemon_answers_hostile_bodies_and_harms_nobody() {
    let site = Site::new(Kind::Plain).await;
    let daemon = site.start("a");
    let address = daemon.address().await;
    site.caught_up(&daemon).await;
    let before = memory_max(&daemon);
    let mut sent = 0;
    let attack = |(name, pieces, expected): Attack| async move {
        let answer = told(TcpStream::connect(address).await.unwrap(), pieces).await;
        let ended = parsed(&answer);
        let is_expected = ended.as_ref().is_some_and(|(status, code)| expected.contains(&(*status, code.as_str())));
        assert!(is_expected, "{name}: {ended:?} instead of {expected:?}: {answer}");
    };
    let rounds = [(); 3].map(|()| attacks().into_iter().map(attack));
    beside(&daemon, &mut sent, join_all(rounds.into_iter().flatten())).await;
    let grown = memory_max(&daemon) - before;
    assert!(grown < GROWTH_MAX, "{} MiB more", grown >> 20);
    assert!(sent > 1);
    assert_stored(&site, daemon, sent, 1).await;
}

/// Writes a byte every now and then until the daemon closes, and gives what it has said.
async fn drips(address: SocketAddr, begin: Vec<u8>, drop: u8) -> String {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut reader, mut writer) = stream.into_split();
    writer.write_all(&begin).await.unwrap();
    let drip = async {
        while writer.write_all(&[drop]).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        std::future::pending::<()>().await;
    };
    let mut said = Vec::new();
    let hear = async { _ = reader.read_to_end(&mut said).await };
    let closed = async {
        tokio::select! {
            () = hear => {}
            () = drip => {}
        }
    };
    timeout(PATIENCE, closed).await.expect("who is too slow is closed");
    String::from_utf8_lossy(&said).into_owned()
}

/// Asks again and again and never reads an answer, until the daemon closes.
async fn never_reads(address: SocketAddr) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let requests = b"GET /metrics HTTP/1.1\r\nhost: weir\r\n\r\n".repeat(100);
    let ask = async { while stream.write_all(&requests).await.is_ok() {} };
    timeout(PATIENCE, ask).await.expect("who never listens is closed");
}

#[tokio::test]
async fn daemon_closes_slow_peers_and_harms_nobody() {
    /// Places, of which each kind of peer takes a quarter.
    const PLACES: usize = 40;
    let site = Site::new(Kind::Plain).await;
    let settings = [("WEIR_HTTP_CONNECTIONS_MAX", "40"), ("WEIR_HTTP_IDLE_TIMEOUT", "2 s"), ("WEIR_HTTP_BODY_TIMEOUT", "2 s")];
    let daemon = Daemon::start_with(&site.database.url(), &site.dir("a"), 1, &settings);
    let address = daemon.address().await;
    site.caught_up(&daemon).await;
    let mut sent = 0;
    let before = memory_max(&daemon);
    let slow_heads = join_all((0..PLACES / 4).map(|_| drips(address, b"GET /healthz HTTP/1.1\r\nx: ".to_vec(), b'a')));
    let slow_bodies = join_all((0..PLACES / 4).map(|_| drips(address, head("content-length: 100000"), b' ')));
    let deaf = join_all((0..PLACES / 4).map(|_| never_reads(address)));
    let slow = async { tokio::join!(slow_heads, slow_bodies, deaf) };
    let (heads, bodies, _) = beside(&daemon, &mut sent, slow).await;
    for answer in heads {
        assert!(answer.is_empty() || parsed(&answer).is_some_and(|(status, _)| status == 408), "{answer}");
    }
    for answer in bodies {
        assert_eq!(parsed(&answer), Some((408, "slow_body".into())), "{answer}");
    }
    let grown = memory_max(&daemon) - before;
    assert!(grown < GROWTH_MAX, "{} MiB more", grown >> 20);
    assert!(sent > 1);

    // Silent peers hold all places and more wait: a sender behind them waits for a place, and is served.
    let silent = join_all((0..2 * PLACES).map(|_| TcpStream::connect(address))).await;
    let before = sent;
    let closed = async {
        for peer in silent {
            let closed = timeout(PATIENCE, peer.unwrap().read_u8()).await.expect("who says nothing is closed");
            assert!(closed.is_err());
        }
    };
    beside(&daemon, &mut sent, closed).await;
    // The last one may still wait.
    assert!(sent > before);
    assert_stored(&site, daemon, sent, 2).await;
}
