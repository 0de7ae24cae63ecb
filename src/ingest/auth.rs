//! Reads the token of a request. Pure.

use super::problem::Problem;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Gives the token: the one of `Bearer`, or the password of `Basic` for senders that can only put
/// it into the address.
///
/// Errors: there is none.
pub(super) fn token(headers: &HeaderMap) -> Result<String, Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or(Problem::NoToken)?;
    let (scheme, rest) = value.trim().split_once(' ').ok_or(Problem::NoToken)?;
    let token = if scheme.eq_ignore_ascii_case("bearer") {
        Some(rest.trim().to_owned())
    } else if scheme.eq_ignore_ascii_case("basic") {
        basic_password(rest.trim())
    } else {
        None
    };
    token.filter(|token| !token.is_empty()).ok_or(Problem::NoToken)
}

fn basic_password(credentials: &str) -> Option<String> {
    let text = String::from_utf8(STANDARD.decode(credentials).ok()?).ok()?;
    text.split_once(':').map(|(_, password)| password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_a_bearer_or_the_password_of_basic() {
        let check = |value: Option<&str>, expected: Option<&str>| {
            let headers = value.map(|value| (header::AUTHORIZATION, value.parse().unwrap())).into_iter().collect();
            assert_eq!(token(&headers).ok().as_deref(), expected, "{value:?}");
        };
        check(Some("Bearer abc"), Some("abc"));
        check(Some("bearer  abc "), Some("abc"));
        // "weir:abc", ":a:b" and "abc".
        check(Some("Basic d2VpcjphYmM="), Some("abc"));
        check(Some("Basic OmE6Yg=="), Some("a:b"));
        check(Some("Basic YWJj"), None);
        check(Some("Basic !"), None);
        check(Some("Bearer "), None);
        check(Some("abc"), None);
        check(Some("Digest abc"), None);
        check(None, None);
    }
}
