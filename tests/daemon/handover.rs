//! A daemon takes over from the one that runs: nobody who connects is refused, and nothing is lost.

use crate::process::Daemon;
use crate::support::database::Kind;
use crate::world::{World, commits};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Connects, asks and is answered, again and again, each time anew. Gives how often.
///
/// Panics: when a connection is refused, reset, or closed without an answer.
async fn knock(address: SocketAddr, stop: watch::Receiver<bool>) -> usize {
    let mut answered = 0;
    while !*stop.borrow() {
        let mut stream = TcpStream::connect(address).await.expect("nobody is refused");
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: weir\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.ends_with("ok"), "{answer:?}");
        answered += 1;
    }
    answered
}

#[tokio::test]
async fn daemon_hands_its_socket_to_its_successor() {
    let mut world = World::new(Kind::Timescale, 21, Duration::from_secs(3)).await;
    let mut daemon = world.start(2);
    world.caught_up(&daemon).await;
    let address = daemon.address().await;
    let (stop, stopped) = watch::channel(false);
    let knocking = tokio::spawn(knock(address, stopped.clone()));
    for workers in [1, 4] {
        world.send(address, Duration::from_millis(500)).await;
        let successor = Daemon::take_over(address, &world.database.url(), &world.dir("a"), workers);
        daemon.ended().await.well();
        assert_eq!(successor.address().await, address);
        daemon = successor;
        world.send(address, Duration::from_millis(500)).await;
        commits(&daemon).await;
    }
    stop.send_replace(true);
    assert!(knocking.await.unwrap() > 10);
    daemon.terminate().await.well();
    world.assert_tables().await;
}

#[tokio::test]
async fn daemon_takes_over_where_none_runs() {
    let mut world = World::new(Kind::Plain, 22, Duration::from_secs(3)).await;
    let nobody = SocketAddr::from(([127, 0, 0, 1], 0));
    let daemon = Daemon::take_over(nobody, &world.database.url(), &world.dir("a"), 2);
    world.caught_up(&daemon).await;
    world.send(daemon.address().await, Duration::from_millis(500)).await;
    daemon.terminate().await.well();
    world.assert_tables().await;
}
