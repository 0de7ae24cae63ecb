//! A listening socket with its routes: opened, closed with patience, and cut off when that ends.
//!
//! Invariant: no peer can hold more than its share. Connections are counted, one whose request does not come is
//! closed, as is one that does not take its answer, and more than [`Bounds::connections_max`] wait in the socket's
//! queue until one ends.

use super::stream::Impatient;
use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// How long requests that are under way may take when the daemon ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connections may take to end when their requests were cut off.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long who has just connected may take for the first request when the daemon ends.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// Wait after the system gave no connection, mostly for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What peers may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Connections at once.
    pub connections_max: usize,
    /// In which a request's headers must have come, counted from the connection or the request before; and in which
    /// the peer must have taken a bit more of an answer.
    pub idle_timeout: Duration,
}

/// The running server.
pub(super) struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    close: oneshot::Sender<()>,
    cut_off: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves what comes to `listener`, which is bound to `address`.
    pub(super) fn start(listener: TcpListener, address: SocketAddr, router: Router, bounds: Bounds) -> Self {
        let (close, closed) = oneshot::channel::<()>();
        let (cut_off, cut) = watch::channel(false);
        let router = router.layer(from_fn_with_state(cut, until_cut_off));
        let task = tokio::spawn(serve(listener, router, bounds, closed));
        Self { address, close, cut_off, task }
    }

    /// Lets requests that are under way finish for a while, and ends.
    pub(super) async fn close(self) {
        self.close_within(CLOSE_TIMEOUT).await;
    }

    async fn close_within(mut self, patience: Duration) {
        // A server that has ended already needs no telling.
        let _ = self.close.send(());
        if tokio::time::timeout(patience, &mut self.task).await.is_ok() {
            return;
        }
        tracing::warn!("some requests were cut off");
        self.cut_off.send_replace(true);
        if tokio::time::timeout(CUT_TIMEOUT, &mut self.task).await.is_err() {
            // What is left are connections without a request, whose peers do not hear.
            self.task.abort();
        }
    }
}

/// Takes connections until it is told to close, then waits for those that are there.
async fn serve(listener: TcpListener, router: Router, bounds: Bounds, mut closed: oneshot::Receiver<()>) {
    let room = Arc::new(Semaphore::new(bounds.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let (close, closing) = watch::channel(false);
    // Dropped with this task, which ends what it holds.
    let mut connections = JoinSet::new();
    loop {
        let (stream, place) = tokio::select! {
            // Dropping the other end means the same.
            _ = &mut closed => break,
            Some(_) = connections.join_next() => continue,
            accepted = accept(&listener, &room) => accepted,
        };
        let connection = connection(stream, router.clone(), bounds.idle_timeout, closing.clone());
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection ended");
            }
            drop(place);
        });
    }
    drop(listener);
    close.send_replace(true);
    while connections.join_next().await.is_some() {}
}

/// Answers the requests of one connection until its peer goes or, when all is `closing`, until the one that is
/// under way is answered. Who has connected and not asked yet may still ask once.
async fn connection(
    stream: TcpStream,
    router: Router,
    idle_timeout: Duration,
    mut closing: watch::Receiver<bool>,
) -> hyper::Result<()> {
    // Answers are small and complete: holding them back for more only delays them.
    let _ = stream.set_nodelay(true);
    let (has_asked, mut asked) = watch::channel(false);
    let routes = TowerToHyperService::new(router);
    let peer = stream.peer_addr().ok().map(ConnectInfo);
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        has_asked.send_replace(true);
        if let Some(peer) = peer {
            request.extensions_mut().insert(peer);
        }
        routes.call(request)
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(idle_timeout);
    let connection = http.serve_connection(TokioIo::new(Impatient::new(stream, idle_timeout)), service);
    tokio::pin!(connection);
    let told = async {
        // Neither sender goes before this connection.
        let _ = closing.wait_for(|closing| *closing).await;
        let _ = tokio::time::timeout(FIRST_REQUEST, asked.wait_for(|asked| *asked)).await;
    };
    tokio::select! {
        ended = &mut connection => return ended,
        () = told => {}
    }
    connection.as_mut().graceful_shutdown();
    connection.await
}

/// Waits for a place, then for who takes it.
async fn accept(listener: &TcpListener, room: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let place = Arc::clone(room).acquire_owned().await.expect("the places are never closed");
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            Err(error) => {
                tracing::warn!(%error, "no connection could be taken; is the limit of open files too low?");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

/// Answers a request, or ends it where it stands: it was acknowledged nothing.
async fn until_cut_off(State(mut cut): State<watch::Receiver<bool>>, request: Request, next: Next) -> Response {
    tokio::select! {
        response = next.run(request) => response,
        // When the server is dropped unclosed, nobody is left to cut it off.
        Ok(_) = cut.wait_for(|cut| *cut) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::Notify;

    const BOUNDS: Bounds = Bounds { connections_max: 8, idle_timeout: Duration::from_secs(60) };

    async fn listening() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[tokio::test]
    async fn a_request_that_does_not_end_is_cut_off() {
        let (listener, address) = listening().await;
        let (begun, held) = (Arc::new(Notify::new()), Arc::new(()));
        let (tell, its) = (Arc::clone(&begun), Arc::clone(&held));
        let endless = async move || {
            let _held = its;
            tell.notify_one();
            std::future::pending::<()>().await;
        };
        let router = Router::new().route("/endless", get(endless)).route("/", get(async || "ok"));
        let server = Server::start(listener, address, router, BOUNDS);
        let answered = reqwest::get(format!("http://{address}/")).await.unwrap();
        assert_eq!(answered.text().await.unwrap(), "ok");

        let request = tokio::spawn(reqwest::get(format!("http://{address}/endless")));
        begun.notified().await;
        server.close_within(Duration::from_millis(10)).await;
        assert_eq!(request.await.unwrap().unwrap().status(), 503);
        assert_eq!(Arc::strong_count(&held), 1, "nothing of it is left");
    }

    #[tokio::test]
    async fn who_sends_no_request_is_closed() {
        let (listener, address) = listening().await;
        let bounds = Bounds { idle_timeout: Duration::from_millis(50), ..BOUNDS };
        let _server = Server::start(listener, address, Router::new().route("/", get(async || "ok")), bounds);
        for slow in ["", "GET / HTTP/1.1\r\nhost: w", "GET / HTTP/1.1\r\nhost: weir\r\n\r\n"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(slow.as_bytes()).await.unwrap();
            let mut answer = String::new();
            // Comes to its end when the server closes, also behind an answer.
            stream.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer.contains("200 OK"), slow.ends_with("\r\n\r\n"), "{slow:?}: {answer}");
        }
    }

    #[tokio::test]
    async fn who_takes_no_answer_is_closed() {
        let (listener, address) = listening().await;
        let bounds = Bounds { connections_max: 1, idle_timeout: Duration::from_millis(200) };
        // More than the buffers of both sides hold.
        let long = async || vec![b'x'; 64 << 20];
        let router = Router::new().route("/long", get(long)).route("/", get(async || "ok"));
        let _server = Server::start(listener, address, router, bounds);
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(b"GET /long HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
        // There is one place, which the other must have left.
        assert_eq!(reqwest::get(format!("http://{address}/")).await.unwrap().text().await.unwrap(), "ok");
        // Who reads gets it all, however long it takes.
        let long = reqwest::get(format!("http://{address}/long")).await.unwrap().bytes().await.unwrap();
        assert_eq!(long.len(), 64 << 20);
        drop(deaf);
    }

    #[tokio::test]
    async fn who_has_just_connected_is_still_answered() {
        let (listener, address) = listening().await;
        let server = Server::start(listener, address, Router::new().route("/", get(async || "ok")), BOUNDS);
        let mut early = TcpStream::connect(address).await.unwrap();
        // The next one is answered, so the first one is taken.
        assert_eq!(reqwest::get(format!("http://{address}/")).await.unwrap().status(), 200);
        let closing = tokio::spawn(server.close());
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        early.write_all(b"GET / HTTP/1.1\r\nhost: weir\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        early.read_to_string(&mut answer).await.unwrap();
        assert!(answer.contains("200 OK"), "{answer}");
        closing.await.unwrap();
    }

    #[tokio::test]
    async fn more_connections_than_there_may_be_wait() {
        let (listener, address) = listening().await;
        let bounds = Bounds { connections_max: 1, ..BOUNDS };
        let _server = Server::start(listener, address, Router::new().route("/", get(async || "ok")), bounds);
        let mut first = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nhost: weir\r\n\r\n";
        let mut answer = [0; 12];
        first.write_all(request).await.unwrap();
        first.read_exact(&mut answer).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(request).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(100), second.read_exact(&mut answer)).await;
        assert!(early.is_err(), "it waits for its place");
        drop(first);
        second.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
}
