//! Running other programs, quietly: what they print is shown only when they fail.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

/// Runs `command` to its end and returns its standard output.
///
/// # Errors
///
/// The program cannot be started or fails; the error has the command line and what the program printed.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", line(command)))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({})\n{}", line(command), output.status, tail(&format!("{stdout}{stderr}"), 20));
    }
    Ok(stdout)
}

/// The command as one would type it, for messages.
fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| without_password(&word.to_string_lossy())).collect::<Vec<_>>().join(" ")
}

/// `word` with the password hidden, if it is the address of a database.
fn without_password(word: &str) -> String {
    let hidden = word.split_once("://").and_then(|(scheme, rest)| {
        let (user, host) = rest.split_once('@')?;
        let (name, _password) = user.split_once(':')?;
        Some(format!("{scheme}://{name}:***@{host}"))
    });
    match (hidden, word.find("password=")) {
        (Some(hidden), None) => hidden,
        (None, None) => word.to_owned(),
        (_, Some(_)) => "(an address with a password)".to_owned(),
    }
}

/// The last `lines_max` lines of `text`.
pub(crate) fn tail(text: &str, lines_max: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(lines_max)..].join("\n")
}

/// Whether a program of this name is on the `PATH`.
pub(crate) fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::{is_installed, output, tail, without_password};

    #[test]
    fn a_failure_shows_the_command_and_what_it_printed() {
        let error = output(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"])).unwrap_err().to_string();
        for expected in ["sh -c", "exit status: 3", "out", "err"] {
            assert!(error.contains(expected), "{expected:?} is not in {error:?}");
        }
        assert_eq!(output(Command::new("echo").arg("fine")).unwrap(), "fine\n");
    }

    #[test]
    fn passwords_are_not_shown() {
        assert_eq!(without_password("postgres://me:secret@host/db"), "postgres://me:***@host/db");
        assert_eq!(without_password("host=h password=secret"), "(an address with a password)");
        assert_eq!(without_password("postgres://h/db?password=secret"), "(an address with a password)");
        assert_eq!(without_password("postgres://me@host:5432/db"), "postgres://me@host:5432/db");
        assert_eq!(without_password("--quiet"), "--quiet");
    }

    #[test]
    fn a_tail_keeps_the_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a", 2), "a");
        assert_eq!(tail("", 2), "");
    }

    #[test]
    fn programs_are_looked_up_on_the_path() {
        assert!(is_installed("sh"));
        assert!(!is_installed("no-such-program-anywhere"));
    }
}
