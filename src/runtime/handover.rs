//! Hands the listening socket to the next daemon, so that nobody who connects in between is refused.
//!
//! A daemon waits at a Unix socket in its data directory. Its successor (`weir serve --take-over`) asks there,
//! is given the listening socket, and waits for the other's end, which closes the connection: only then is the log
//! free. Who connects meanwhile waits in the socket's queue.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use std::io::{self, IoSlice, IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// What goes along with the socket, for a message cannot be empty.
const GREETING: &[u8] = b"weir";

fn path(dir: &Path) -> PathBuf {
    dir.join("successor.sock")
}

/// A listening socket for who asks.
pub(super) struct Offer {
    door: UnixListener,
    listener: TcpListener,
}

/// The connection to a successor, which waits for its end.
pub(super) struct Successor {
    _connection: UnixStream,
}

impl Offer {
    /// Waits for a successor from now on. Where a daemon ended without a word, its place is taken.
    ///
    /// Errors: the data directory takes no socket.
    pub(super) fn new(dir: &Path, listener: TcpListener) -> io::Result<Self> {
        let path = path(dir);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(Self { door: UnixListener::bind(path)?, listener }),
        }
    }

    /// Waits until a successor has the socket. The log must be free when what this gives is dropped.
    pub(super) async fn taken(self) -> Successor {
        loop {
            match self.hand_over().await {
                Ok(successor) => return successor,
                Err(error) => tracing::warn!(%error, "a successor asked for the listening socket in vain"),
            }
        }
    }

    async fn hand_over(&self) -> io::Result<Successor> {
        let (stream, _) = self.door.accept().await?;
        let (asker, ours) = (stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw());
        if asker != ours && asker != 0 {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("it runs as user {asker}, not {ours}")));
        }
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        let sockets = [self.listener.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut along = SendAncillaryBuffer::new(&mut space);
        along.push(SendAncillaryMessage::ScmRights(&sockets));
        sendmsg(&stream, &[IoSlice::new(GREETING)], &mut along, SendFlags::empty())?;
        Ok(Successor { _connection: stream })
    }
}

/// Asks the daemon of this data directory for its listening socket and waits until it has ended. Gives none where no
/// daemon runs.
///
/// Errors: the other daemon refuses, or ends before it has answered.
pub(super) async fn take_over(dir: &Path) -> io::Result<Option<TcpListener>> {
    let path = path(dir);
    tokio::task::spawn_blocking(move || ask(&path)).await.expect("asking does not panic")
}

fn ask(path: &Path) -> io::Result<Option<TcpListener>> {
    let mut stream = match UnixStream::connect(path) {
        Ok(stream) => stream,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut along = RecvAncillaryBuffer::new(&mut space);
    let mut greeting = [0; GREETING.len()];
    recvmsg(&stream, &mut [IoSliceMut::new(&mut greeting)], &mut along, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = along.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    let socket: Option<OwnedFd> = sockets.find_map(|mut sockets| sockets.next());
    let Some(socket) = socket else {
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the running daemon did not hand its listening socket over"));
    };
    // Comes to its end with the other daemon.
    stream.read_to_end(&mut Vec::new())?;
    Ok(Some(TcpListener::from(socket)))
}

/// Gives the socket to listen on: one that was handed over by another daemon or by the service manager, or a new one.
///
/// Errors: the address cannot be listened on.
pub(super) fn listener(address: SocketAddr, handed_over: Option<TcpListener>) -> io::Result<TcpListener> {
    let from_manager = || listenfd::ListenFd::from_env().take_tcp_listener(0);
    let fits = |listener: &TcpListener| listener.local_addr().is_ok_and(|given| address.port() == 0 || given == address);
    let listener = match handed_over.filter(fits) {
        Some(listener) => listener,
        None => match from_manager()? {
            Some(listener) => listener,
            None => TcpListener::bind(address)?,
        },
    };
    listener.set_nonblocking(true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    #[tokio::test]
    async fn who_connects_in_between_is_not_refused() {
        let dir = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let offer = Offer::new(dir.path(), listener.try_clone().unwrap()).unwrap();
        let asked = tokio::spawn({
            let dir = dir.path().to_owned();
            async move { take_over(&dir).await }
        });
        let successor = offer.taken().await;
        drop(listener);
        let early = TcpStream::connect(address).unwrap();
        assert!(!asked.is_finished(), "it waits for the end of the other");
        drop(successor);
        let taken = asked.await.unwrap().unwrap().unwrap();
        assert_eq!(taken.local_addr().unwrap(), address);
        let (_, peer) = taken.accept().unwrap();
        assert_eq!(peer, early.local_addr().unwrap());
    }

    #[tokio::test]
    async fn where_nobody_is_nothing_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        assert!(take_over(dir.path()).await.unwrap().is_none());
        // A daemon that was killed leaves its socket behind.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        drop(Offer::new(dir.path(), listener.try_clone().unwrap()).unwrap());
        assert!(take_over(dir.path()).await.unwrap().is_none());
        Offer::new(dir.path(), listener).unwrap();
    }

    #[test]
    fn a_socket_for_another_address_is_not_used() {
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(listener(free, Some(other)).unwrap().local_addr().unwrap(), free);
    }
}
