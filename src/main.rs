//! The `weir` command.

use libmimalloc_sys::{mi_option_eager_commit_delay, mi_option_set, mi_option_t};
use std::process::ExitCode;

/// The graph makes and drops several small things for each uplink, on threads that hand them on: this
/// allocator takes a fifth of the time and a third of the memory off the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long the allocator keeps pages that are free before the system has them back. Unit: milliseconds. It stands behind
/// this one in the list of options, and the bindings do not name it.
const PURGE_DELAY: mi_option_t = mi_option_eager_commit_delay + 1;

fn main() -> ExitCode {
    // SAFETY: an option may be set at any time; this one takes any number.
    // At once: a tenth of the memory less in a backlog. What is made anew all the time fits into the pages that it keeps.
    unsafe { mi_option_set(PURGE_DELAY, 0) };
    match weir::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {}", weir::cli::told(&error));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PURGE_DELAY;
    use libmimalloc_sys::{mi_option_get, mi_option_use_numa_nodes};

    #[test]
    fn the_option_is_the_one_that_is_meant() {
        assert_eq!(PURGE_DELAY, mi_option_use_numa_nodes - 1, "it stands between the two");
        // SAFETY: reading an option has no effect.
        assert_eq!(unsafe { mi_option_get(PURGE_DELAY) }, 10, "its default, as documented");
    }
}
