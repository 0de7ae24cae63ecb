//! A way to the database that can be shut.

use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Forwards connections while it is open; shutting it cuts those that there are.
pub(crate) struct Gate {
    address: SocketAddr,
    open: watch::Sender<bool>,
}

impl Gate {
    /// Starts shut, in front of `server` (`host:port`).
    pub(crate) async fn shut(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, is_open) = watch::channel(false);
        let server = server.to_owned();
        tokio::spawn(async move {
            let ended = || is_open.has_changed().is_err();
            while let Ok((client, _)) = listener.accept().await {
                if ended() {
                    return;
                }
                if *is_open.borrow() {
                    tokio::spawn(forward(client, server.clone(), is_open.clone()));
                }
            }
        });
        Self { address, open }
    }

    /// Gives its port.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Opens or shuts it.
    pub(crate) fn set_open(&self, open: bool) {
        self.open.send_replace(open);
    }

    /// Gives a database's URL with the gate in place of `server`.
    pub(crate) fn url(&self, url: &str, server: &str) -> String {
        url.replace(server, &self.address.to_string())
    }
}

async fn forward(mut client: TcpStream, server: String, mut is_open: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(&server).await else { return };
    tokio::select! {
        // However it ends, both sides are closed.
        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
        _ = is_open.wait_for(|open| !open) => {}
    }
}
