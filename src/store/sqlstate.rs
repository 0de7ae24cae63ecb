//! What to do about an error of the database: a pure function of its SQLSTATE.

use std::error::Error as _;
use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

/// What to do about an error of the database.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remedy {
    /// It passes by itself: back off, connect again, try again.
    Retry,
    /// Some row is at fault: halve the rows until it stands alone.
    Bisect,
    /// No partition takes a row: make it, try again.
    MakePartition,
    /// A person has to act.
    Stop,
}

/// Judges an error by its SQLSTATE and the constraint that it names.
///
/// The constraint tells a missing partition (which has none) from a row that a check refuses: both
/// have 23514, and the texts are translated.
pub fn classify(state: &SqlState, constraint: Option<&str>) -> Remedy {
    match state.code() {
        "23514" if constraint.is_none() => Remedy::MakePartition,
        // Query cancelled (a timeout), shutting down, crashed, starting up; the database dropped (57P04) is not here.
        "57014" | "57P01" | "57P02" | "57P03" | "57P05" => Remedy::Retry,
        // Not the primary any more.
        "25006" => Remedy::Retry,
        // Kept in a transaction for too long.
        "25P03" | "25P04" => Remedy::Retry,
        // Serialization failure, deadlock, lock timeout, object in use, too many connections.
        "40001" | "40P01" | "55P03" | "55006" | "53300" => Remedy::Retry,
        code => match &code[..2] {
            "08" => Remedy::Retry,
            // Bad data, a constraint; too large for an index or a limit of the program; a view's check
            // option; an exception that a trigger of the user raises.
            "22" | "23" | "54" | "44" => Remedy::Bisect,
            _ if code == "P0001" => Remedy::Bisect,
            _ => Remedy::Stop,
        },
    }
}

/// Judges any error of the client: those without a SQLSTATE by whether the connection is at fault.
pub(super) fn remedy(error: &Error) -> Remedy {
    match error.as_db_error() {
        Some(db) => classify(db.code(), db.constraint()),
        None if connection_lost(error) => Remedy::Retry,
        None => Remedy::Stop,
    }
}

/// Whether the server does not let the statement be done at all, whatever its rows.
pub(super) fn is_forbidden(error: &Error) -> bool {
    error.code().is_some_and(|state| ["0A", "42", "55"].contains(&&state.code()[..2])) && remedy(error) == Remedy::Stop
}

/// Whether the server may have gone on without telling the end.
pub(super) fn answer_lost(error: &Error) -> bool {
    match error.code() {
        Some(state) => state.code().starts_with("08") || state.code().starts_with("57P"),
        None => true,
    }
}

fn connection_lost(error: &Error) -> bool {
    error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>())
}

/// Gives the server's own words, which the client's `Display` leaves to the source.
pub(super) fn words(error: &Error) -> String {
    match error.as_db_error() {
        Some(db) => {
            let mut words = format!("{} ({})", db.message(), db.code().code());
            for more in [db.detail(), db.hint()].into_iter().flatten() {
                words.push_str("; ");
                words.push_str(more.trim_end_matches('.'));
            }
            words
        }
        None => match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_remedy() {
        let check = |code: &str, constraint: Option<&str>, expected: Remedy| {
            assert_eq!(classify(&SqlState::from_code(code), constraint), expected, "{code}");
        };
        for code in ["08000", "08006", "57P01", "57P03", "57014", "53300", "40001", "40P01", "25006", "25P03", "55P03"] {
            check(code, None, Remedy::Retry);
        }
        for code in ["22003", "22008", "22021", "23502", "23503", "23505", "44000", "54000", "P0001"] {
            check(code, None, Remedy::Bisect);
        }
        check("23514", None, Remedy::MakePartition);
        check("23514", Some("value_is_sane"), Remedy::Bisect);
        for code in ["42501", "53100", "53200", "53400", "42P01", "28P01", "57P04", "58030", "XX000", "XX001", "0A000"] {
            check(code, None, Remedy::Stop);
        }
    }
}
