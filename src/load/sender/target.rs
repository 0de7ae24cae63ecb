//! Owns where the uplinks go: a daemon's address and the token that it knows the fleet by.

use hyper::Uri;
use hyper::header::{HeaderValue, InvalidHeaderValue};
use std::fmt;

/// A daemon.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    /// Host and port.
    pub(super) authority: String,
    pub(super) authorization: HeaderValue,
}

/// Why an address cannot be sent to.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The address is none, or not of plain HTTP.
    #[error("{0:?} is no address to send to: give one such as http://127.0.0.1:8080")]
    Address(String),
    /// The token has characters that no header can carry.
    #[error("the token cannot be sent: {0}: give it as it was made, without line feeds")]
    Token(#[from] InvalidHeaderValue),
}

impl Target {
    /// Takes the address of a daemon, as in `http://127.0.0.1:8080`, and a token that may write.
    ///
    /// Errors: an address without host or of another scheme; a token that no header can carry.
    pub fn new(address: &str, token: &str) -> Result<Self, TargetError> {
        let unusable = || TargetError::Address(address.to_owned());
        let uri: Uri = address.trim_end_matches('/').parse().map_err(|_| unusable())?;
        let host = uri.host().filter(|_| uri.scheme_str() == Some("http") && uri.path() == "/").ok_or_else(unusable)?;
        let mut authorization = HeaderValue::try_from(format!("Bearer {token}"))?;
        authorization.set_sensitive(true);
        Ok(Self { authority: format!("{host}:{}", uri.port_u16().unwrap_or(80)), authorization })
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_or_refused() {
        let check = |address: &str, expected: Option<&str>| {
            let target = Target::new(address, "secret");
            assert_eq!(target.ok().map(|target| target.authority).as_deref(), expected, "{address}");
        };
        check("http://127.0.0.1:8080", Some("127.0.0.1:8080"));
        check("http://localhost:8080/", Some("localhost:8080"));
        check("http://weir.example", Some("weir.example:80"));
        check("http://[::1]:8080", Some("[::1]:8080"));
        check("https://127.0.0.1:8080", None);
        check("http://127.0.0.1:8080/v1/ttn", None);
        check("127.0.0.1:8080", None);
        check("", None);
    }

    #[test]
    fn a_token_is_not_shown() {
        let target = Target::new("http://127.0.0.1:8080", "secret").unwrap();
        assert!(!format!("{target:?} {:?}", target.authorization).contains("secret"));
        assert!(matches!(Target::new("http://127.0.0.1:8080", "a\nb"), Err(TargetError::Token(_))));
    }
}
