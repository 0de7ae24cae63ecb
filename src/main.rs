//! The `weir` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    match weir::cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weir: {error:#}");
            ExitCode::FAILURE
        }
    }
}
