//! Who reads: the token of a request and the tenant that it stands for. Everything after sees that tenant only.

use super::problem::Problem;
use axum::http::{HeaderMap, header};
use dataflows::model::TenantNo;

/// Knows the tokens.
pub trait Readers: Send + Sync + 'static {
    /// Gives what a token may do; `None` for one that is not known.
    fn authenticate(&self, token: &str) -> Option<ReadAccess>;
}

/// What a token may do here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReadAccess {
    /// Whose devices it reads.
    pub tenant: TenantNo,
    /// Whether it may read at all.
    pub may_read: bool,
}

/// Finds the tenant that a request may read.
///
/// Errors: without a known bearer token, or with one that may not read.
pub(super) fn authenticate(readers: &impl Readers, headers: &HeaderMap) -> Result<TenantNo, Problem> {
    let access = bearer(headers).and_then(|token| readers.authenticate(token)).ok_or(Problem::Unauthenticated)?;
    if access.may_read { Ok(access.tenant) } else { Err(Problem::Forbidden) }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}
