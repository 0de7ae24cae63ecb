//! The sender against a daemon that behaves as told.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use dataflows::model::{EventTime, LogTime};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use weir::load::sender::{Live, Pace, SendOptions, SendReport, Sender, Target};
use weir::load::{Due, Fleet, FleetSpec, Shape};

/// What the daemon answers to its `nth` request, given the body's lines.
type Answer = fn(nth: usize, lines: &[&str]) -> Response;

struct Daemon {
    answer: Answer,
    /// Where each request went, what it said, and how many lines it had.
    requests: Mutex<Vec<(String, String, usize)>>,
    /// Only the first request waits.
    first_delay: Duration,
    /// Told by the first request, if at all.
    stop: Option<watch::Sender<bool>>,
}

async fn answer(State(daemon): State<Arc<Daemon>>, uri: Uri, headers: HeaderMap, body: String) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let lines: Vec<&str> = body.lines().collect();
    assert_eq!(header("authorization"), "Bearer secret");
    let nth = {
        let mut requests = daemon.requests.lock().unwrap();
        requests.push((uri.to_string(), header("content-type"), lines.len()));
        requests.len() - 1
    };
    if nth == 0 {
        daemon.stop.iter().for_each(|stop| stop.send(true).unwrap());
        tokio::time::sleep(daemon.first_delay).await;
    }
    (daemon.answer)(nth, &lines)
}

/// The fleet: everything that is due within `span_ms`, from 50 devices that send each second.
struct Case {
    answer: Answer,
    options: SendOptions,
    first_delay: Duration,
    shapes: Vec<(Shape, u32)>,
    span_ms: u64,
    /// All of it is due at the start.
    at_once: bool,
    /// The first request stops the sender.
    stopped: bool,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            answer: |_, _| StatusCode::OK.into_response(),
            options: SendOptions { connections: 4, timeout: Duration::from_secs(5), ..SendOptions::default() },
            first_delay: Duration::ZERO,
            shapes: Shape::ALL.map(|shape| (shape, 1)).into(),
            span_ms: 1_000,
            at_once: false,
            stopped: false,
        }
    }
}

impl Case {
    fn fleet(&self) -> Arc<Fleet> {
        let spec = FleetSpec {
            devices: 50,
            period_us: 1_000_000,
            start: EventTime(0),
            shapes: self.shapes.clone(),
            ..FleetSpec::default()
        };
        Arc::new(Fleet::new(spec).unwrap())
    }

    fn uplinks(&self) -> u64 {
        self.fleet().schedule().take_while(|due| due.due_us < self.span_ms * 1_000).count() as u64
    }

    fn sender(&self, address: &str) -> Sender {
        Sender {
            fleet: self.fleet(),
            target: Target::new(address, "secret").unwrap(),
            options: self.options,
            live: Arc::new(Live::default()),
            clock: Arc::new(|| LogTime(0)),
        }
    }

    /// Sends to an address.
    async fn send(&self, address: &str, stopped: watch::Receiver<bool>) -> SendReport {
        let fleet = self.fleet();
        let schedule = fleet.schedule().take_while(|due| due.due_us < self.span_ms * 1_000);
        let schedule = schedule.map(|due| Due { due_us: if self.at_once { 0 } else { due.due_us }, ..due });
        self.sender(address).send(schedule, stopped).await
    }

    /// Sends to a daemon, and gives the requests that it saw.
    async fn run(&self) -> (SendReport, Vec<(String, String, usize)>) {
        let (stop, stopped) = watch::channel(false);
        let daemon = Arc::new(Daemon {
            answer: self.answer,
            requests: Mutex::default(),
            first_delay: self.first_delay,
            stop: self.stopped.then(|| stop.clone()),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(daemon.clone());
        let serving = tokio::spawn(async move { axum::serve(listener, router).await });
        let report = self.send(&address, stopped).await;
        serving.abort();
        let requests = daemon.requests.lock().unwrap().clone();
        (report, requests)
    }
}

#[tokio::test]
async fn every_uplink_is_sent_and_acknowledged_once() {
    let case = Case::default();
    let (report, requests) = case.run().await;
    let figures = report.tally.figures();
    assert_eq!(
        (figures.sent, figures.acknowledged, report.tally.acknowledged.len()),
        (case.uplinks(), case.uplinks(), case.uplinks())
    );
    assert_eq!(report.expectation.copies().acknowledged, case.uplinks());
    assert_eq!(requests.len() as u64, case.uplinks());
    assert!(requests.iter().all(|(_, content_type, lines)| content_type == "application/json" && *lines == 1));
    for shape in Shape::ALL {
        assert!(requests.iter().any(|(path, ..)| path == shape.path()), "{shape:?}");
    }
}

#[tokio::test]
async fn what_is_due_together_goes_together() {
    let case = Case {
        answer: |_, lines| {
            let item = |index: usize| format!(r#"{{"index":{index},"status":"accepted"}}"#);
            let items: Vec<String> = (0..lines.len()).map(item).collect();
            format!(r#"{{"items":[{}]}}"#, items.join(",")).into_response()
        },
        options: SendOptions { connections: 1, batch_max: 8, ..SendOptions::default() },
        shapes: vec![(Shape::Own, 1)],
        at_once: true,
        ..Case::default()
    };
    let (report, requests) = case.run().await;
    assert_eq!(
        (report.tally.figures().sent, report.tally.figures().acknowledged),
        (case.uplinks(), case.uplinks()),
        "{:?}",
        report.failures
    );
    assert_eq!(requests.iter().map(|(.., lines)| *lines as u64).sum::<u64>(), case.uplinks());
    assert!(requests.iter().all(|(.., lines)| *lines <= 8));
    assert_eq!(requests[0], ("/v1/uplinks".into(), "application/x-ndjson".into(), 8));
}

#[tokio::test]
async fn refused_and_unanswered_uplinks_are_told_apart() {
    let case = Case {
        answer: |nth, _| match nth % 4 {
            0 => (StatusCode::UNPROCESSABLE_ENTITY, r#"{"detail":"no payload"}"#).into_response(),
            1 => StatusCode::SERVICE_UNAVAILABLE.into_response(),
            2 => (StatusCode::SERVICE_UNAVAILABLE, r#"{"code":"log_busy","detail":"busy"}"#).into_response(),
            _ => StatusCode::OK.into_response(),
        },
        options: SendOptions { connections: 1, ..SendOptions::default() },
        ..Case::default()
    };
    let (report, _) = case.run().await;
    let quarter = report.tally.figures().sent / 4;
    let figures = report.tally.figures();
    assert!(figures.refused.abs_diff(2 * quarter) <= 2 && figures.unanswered.abs_diff(quarter) <= 1, "{figures:?}");
    assert_eq!((report.tally.refused.len(), report.tally.unanswered.len()), (figures.refused, figures.unanswered));
    assert_eq!(
        report.tally.figures().acknowledged + report.tally.figures().refused + report.tally.figures().unanswered,
        report.tally.figures().sent
    );
    assert_eq!(report.expectation.copies().unanswered, report.tally.figures().unanswered);
    let busy = report.failures["503 Service Unavailable: busy"];
    assert_eq!(report.failures["422 Unprocessable Entity: no payload"] + busy, figures.refused);
}

#[tokio::test]
async fn without_a_daemon_everything_is_refused_and_nothing_is_in_doubt() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let case = Case { span_ms: 200, ..Case::default() };
    let (_stop, stopped) = watch::channel(false);
    let report = case.send(&address, stopped).await;
    assert_eq!((report.tally.figures().sent, report.tally.figures().refused), (case.uplinks(), case.uplinks()));
    assert_eq!(report.expectation.copies(), Default::default());
}

#[tokio::test]
async fn an_answer_that_does_not_come_leaves_its_uplink_in_doubt() {
    let case = Case {
        options: SendOptions { connections: 1, timeout: Duration::from_millis(100), ..SendOptions::default() },
        first_delay: Duration::from_secs(60),
        span_ms: 300,
        ..Case::default()
    };
    let (report, _) = case.run().await;
    assert_eq!(
        (report.tally.figures().unanswered, report.tally.figures().acknowledged),
        (1, case.uplinks() - 1),
        "{:?}",
        report.failures
    );
}

#[tokio::test]
async fn latency_counts_from_when_an_uplink_was_due() {
    let case = Case {
        options: SendOptions { connections: 1, ..SendOptions::default() },
        first_delay: Duration::from_millis(400),
        span_ms: 500,
        ..Case::default()
    };
    let (report, _) = case.run().await;
    // While the first one waits, others become due: they wait too, and it shows.
    let waited = report.tally.acknowledged.count_between(100_000, u64::MAX);
    assert!(waited > 5, "only {waited} of {} uplinks show the wait", report.tally.figures().sent);
}

#[tokio::test]
async fn a_sender_stops_when_it_is_told_to() {
    let case = Case::default();
    let fleet = case.fleet();
    let (stop, stopped) = watch::channel(false);
    let sending = case.sender("http://127.0.0.1:9").send(fleet.schedule(), stopped);
    stop.send(true).unwrap();
    let report = tokio::time::timeout(Duration::from_secs(10), sending).await.expect("it stops at once");
    assert_eq!(report.tally.figures().sent, 0);
}

#[tokio::test]
async fn what_waits_for_a_connection_is_left_when_the_sender_stops() {
    let case = Case {
        options: SendOptions { connections: 1, ..SendOptions::default() },
        at_once: true,
        stopped: true,
        ..Case::default()
    };
    let (report, requests) = case.run().await;
    let figures = report.tally.figures();
    assert_eq!((figures.sent, figures.acknowledged, requests.len()), (1, 1, 1));
    // The rest was due, and its age is known.
    assert_eq!((figures.unsent, figures.kept_schedule()), (case.uplinks() - 1, false));
    assert_eq!(report.expectation.copies().acknowledged, 1);
}

#[tokio::test]
async fn a_slow_answer_does_not_hold_up_what_other_connections_can_send() {
    let case = Case {
        options: SendOptions { connections: 2, ..SendOptions::default() },
        first_delay: Duration::from_millis(600),
        span_ms: 500,
        ..Case::default()
    };
    let (report, _) = case.run().await;
    // One request is on its way for long; nothing is queued behind it while the other connection is free.
    assert!(report.tally.acknowledged.value_at_quantile(0.9) < 300_000, "{:?}", report.tally.figures());
}

#[tokio::test]
async fn uplinks_wait_for_their_batch_when_they_are_asked_to() {
    let case = Case {
        answer: |_, lines| {
            let item = |index: usize| format!(r#"{{"index":{index},"status":"accepted"}}"#);
            let items: Vec<String> = (0..lines.len()).map(item).collect();
            format!(r#"{{"items":[{}]}}"#, items.join(",")).into_response()
        },
        options: SendOptions { batch_max: 100, batch_wait: Duration::from_millis(200), ..SendOptions::default() },
        shapes: vec![(Shape::Own, 1)],
        ..Case::default()
    };
    let (report, requests) = case.run().await;
    assert_eq!(report.tally.figures().acknowledged, case.uplinks());
    assert!(requests.len() <= 8, "{} requests", requests.len());
    // The wait is part of the latency.
    assert!(report.tally.acknowledged.max() >= 200_000);
}

#[tokio::test]
async fn a_fast_sender_waits_for_nothing_but_its_connections() {
    let case = Case { options: SendOptions { pace: Pace::Fast, ..SendOptions::default() }, span_ms: 20_000, ..Case::default() };
    let (report, _) = case.run().await;
    assert_eq!(report.tally.figures().acknowledged, case.uplinks());
    assert!(report.elapsed < Duration::from_secs(10), "{:?}", report.elapsed);
}
