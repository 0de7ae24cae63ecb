//! Who may send and read. Tokens are kept as SHA-256 only: they are random, so a plain hash is enough.

use dataflows::model::{TemplateNo, TenantNo};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

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
