//! Tasks that the world polls when it likes. A task that waits for something else is polled again; that it was not
//! ready costs nothing.

use super::random::Fate;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

/// A task.
pub(super) type Task<T> = Pin<Box<dyn Future<Output = T>>>;

/// Lets a task do what it can; gives its end, if it comes to that.
pub(super) fn poll<T>(task: &mut Task<T>) -> Option<T> {
    match task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(end) => Some(end),
        Poll::Pending => None,
    }
}

/// Waits until the world comes by again.
pub(super) async fn turn() {
    let mut waited = false;
    poll_fn(|_| if std::mem::replace(&mut waited, true) { Poll::Ready(()) } else { Poll::Pending }).await;
}

/// Waits for a turn or two, or not at all: something takes its time.
pub(super) async fn turns(fate: &Fate) {
    for _ in 0..fate.one_of(&[0, 0, 1, 2]) {
        turn().await;
    }
}
