//! Who may send and read. Tokens are kept as SHA-256 only: they are random, so a plain hash is enough.

use dataflows::model::{TemplateNo, TenantNo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// SHA-256 of a token's text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenHash(pub [u8; 32]);

impl TokenHash {
    /// Hashes a token's text.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }
}

/// What the bearer of a token may do.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Token {
    /// The tenant whose devices it speaks for.
    pub tenant: TenantNo,
    /// The name under which it is listed.
    pub name: String,
    /// It may send uplinks.
    pub may_write: bool,
    /// It may query.
    pub may_read: bool,
    /// Devices that are not known yet are made with this template.
    pub provision: Option<TemplateNo>,
}

/// The tokens of `now` that are still wanted, with what both say that they may do.
pub(super) fn narrowed(now: &BTreeMap<TokenHash, Token>, wanted: &BTreeMap<TokenHash, Token>) -> BTreeMap<TokenHash, Token> {
    let both = |(hash, token): (&TokenHash, &Token)| {
        let wanted = wanted.get(hash).filter(|wanted| wanted.tenant == token.tenant)?;
        let (may_write, may_read) = (token.may_write && wanted.may_write, token.may_read && wanted.may_read);
        let provision = token.provision.filter(|_| wanted.provision.is_some());
        Some((*hash, Token { may_write, may_read, provision, ..token.clone() }))
    };
    now.iter().filter_map(both).collect()
}
