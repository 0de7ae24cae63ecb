//! Stands between weir and a server, and cuts the line where it hurts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A TCP proxy that can lose the answer to a COMMIT: it forwards the COMMIT, waits until the server
/// has answered, and closes both sides without passing the answer on.
pub(crate) struct Proxy {
    address: SocketAddr,
    armed: Arc<AtomicBool>,
    /// Dropped with the proxy, which ends its task.
    _stop: tokio::sync::oneshot::Sender<()>,
}

impl Proxy {
    /// Listens on a free port of the loopback and forwards to `server` (`host:port`).
    pub(crate) async fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let armed = Arc::new(AtomicBool::new(false));
        let (stop, mut stopped) = tokio::sync::oneshot::channel();
        let (server, arm) = (server.to_owned(), Arc::clone(&armed));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = &mut stopped => break,
                    accepted = listener.accept() => {
                        let client = accepted.unwrap().0;
                        let server = TcpStream::connect(&server).await.unwrap();
                        tokio::spawn(forward(client, server, Arc::clone(&arm)));
                    }
                }
            }
        });
        Self { address, armed, _stop: stop }
    }

    /// Loses the answer to the next COMMIT, once.
    pub(crate) fn lose_next_commit_answer(&self) {
        self.armed.store(true, Ordering::SeqCst);
    }

    /// Gives a database's URL with the proxy in place of `server`.
    pub(crate) fn url(&self, url: &str, server: &str) -> String {
        url.replace(server, &self.address.to_string())
    }
}

async fn forward(mut client: TcpStream, mut server: TcpStream, armed: Arc<AtomicBool>) {
    let (mut up, mut down) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let read = read.unwrap_or(0);
                if read == 0 || server.write_all(&up[..read]).await.is_err() {
                    return;
                }
                // A simple query is `Q`, its length, its text, 0. The client sends it by itself.
                let commit = up[..read].ends_with(b"COMMIT\0");
                if commit && armed.swap(false, Ordering::SeqCst) {
                    // The answer has come, so the commit is done; nobody hears of it.
                    let _ = server.read(&mut down).await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let read = read.unwrap_or(0);
                if read == 0 || client.write_all(&down[..read]).await.is_err() {
                    return;
                }
            }
        }
    }
}
