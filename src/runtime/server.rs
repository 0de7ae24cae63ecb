//! A listening socket with its routes: opened, closed with patience, and cut off when that ends.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How long requests that are under way may take when the daemon ends.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long connections may take to end when their requests were cut off.
const CUT_TIMEOUT: Duration = Duration::from_secs(1);

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
    pub(super) fn start(listener: TcpListener, address: SocketAddr, router: Router) -> Self {
        let (close, closed) = oneshot::channel::<()>();
        let (cut_off, cut) = watch::channel(false);
        let router = router.layer(from_fn_with_state(cut, until_cut_off));
        let task = tokio::spawn(async move {
            let served = axum::serve(listener, router).with_graceful_shutdown(async {
                // Dropping the other end means the same.
                let _ = closed.await;
            });
            if let Err(error) = served.await {
                tracing::error!(%error, "the HTTP server ended");
            }
        });
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
    use std::sync::Arc;
    use tokio::sync::Notify;

    #[tokio::test]
    async fn a_request_that_does_not_end_is_cut_off() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (begun, held) = (Arc::new(Notify::new()), Arc::new(()));
        let (tell, its) = (Arc::clone(&begun), Arc::clone(&held));
        let endless = async move || {
            let _held = its;
            tell.notify_one();
            std::future::pending::<()>().await;
        };
        let router = Router::new().route("/endless", get(endless)).route("/", get(async || "ok"));
        let server = Server::start(listener, address, router);
        let answered = reqwest::get(format!("http://{address}/")).await.unwrap();
        assert_eq!(answered.text().await.unwrap(), "ok");

        let request = tokio::spawn(reqwest::get(format!("http://{address}/endless")));
        begun.notified().await;
        server.close_within(Duration::from_millis(10)).await;
        assert_eq!(request.await.unwrap().unwrap().status(), 503);
        assert_eq!(Arc::strong_count(&held), 1, "nothing of it is left");
    }
}
