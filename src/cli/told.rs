//! How an error is told: with its causes, and each of them once.

/// Gives the error and its causes in one line. A cause that the error before it tells already is left out: some
/// of the errors say it in their own words, for those who print no causes.
pub fn told(error: &anyhow::Error) -> String {
    let mut told = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if told.is_empty() {
            told = cause;
        } else if !told.contains(&cause) {
            told.push_str(": ");
            told.push_str(&cause);
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[derive(Debug, thiserror::Error)]
    #[error("the file cannot be read ({0}): write another")]
    struct Telling(#[source] std::io::Error);

    #[test]
    fn no_cause_is_told_twice() {
        let cause = || std::io::Error::other("disk on fire");
        assert_eq!(told(&Telling(cause()).into()), "the file cannot be read (disk on fire): write another");
        let silent = anyhow!(cause()).context("the file cannot be read");
        assert_eq!(told(&silent), "the file cannot be read: disk on fire");
        let both = anyhow!(Telling(cause())).context("no start");
        assert_eq!(told(&both), "no start: the file cannot be read (disk on fire): write another");
    }
}
