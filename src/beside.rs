//! Work that takes longer than other tasks of its thread should wait.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::block_in_place;

/// Does the work here, and lets the tasks of this thread go on elsewhere meanwhile. Costs a wake of another thread. In a
/// current-thread runtime, as tests have, they wait.
pub(crate) fn beside_others<T>(work: impl FnOnce() -> T) -> T {
    match Handle::try_current() {
        Ok(handle) if handle.runtime_flavor() == RuntimeFlavor::MultiThread => block_in_place(work),
        _ => work(),
    }
}

#[cfg(test)]
mod tests {
    use super::beside_others;
    use std::sync::mpsc;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn the_only_thread_goes_on_with_other_tasks() {
        let (tell, heard) = mpsc::channel();
        let work = tokio::spawn(async move {
            let other = tokio::spawn(async move { tell.send(()).unwrap() });
            let heard = beside_others(|| heard.recv_timeout(Duration::from_secs(30)));
            other.await.unwrap();
            heard
        });
        assert_eq!(work.await.unwrap(), Ok(()), "the other task had not to wait for this one");
    }

    #[tokio::test]
    async fn a_current_thread_runtime_does_it_where_it_is() {
        assert_eq!(beside_others(|| 7), 7);
    }

    #[test]
    fn so_does_who_has_no_runtime() {
        assert_eq!(beside_others(|| 7), 7);
    }
}
