//! `[http]`

use super::reader::Reader;
use super::setting::Bytes;
use crate::ingest::Limits;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

/// The listening socket and the bounds of requests.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Http {
    /// `listen`: address and port of ingest, query, metrics and health. Default: 127.0.0.1:8080.
    pub listen: SocketAddr,
    /// `connections_max`: connections at once; more wait until one ends. Default: 4096.
    pub connections_max: usize,
    /// `idle_timeout`: longest time in which a request's headers must have arrived, for which a connection may
    /// rest between two requests, and for which a peer may take nothing of its answer. Default: 60 s.
    pub idle_timeout: Duration,
    /// `body_bytes_max`: largest body, after decompression. Default: 8 MiB.
    pub body_bytes_max: u64,
    /// `body_timeout`: longest time in which a body must have arrived. Default: 30 s.
    pub body_timeout: Duration,
    /// `batch_items_max`: most uplinks in one request. Default: 10000.
    pub batch_items_max: usize,
}

impl Http {
    pub(super) fn read(mut reader: Reader<'_>) -> Self {
        let limits = Limits::default();
        Self {
            listen: reader.or("listen", SocketAddr::from((Ipv4Addr::LOCALHOST, 8080))),
            connections_max: reader.or("connections_max", 4096),
            idle_timeout: reader.or("idle_timeout", Duration::from_secs(60)),
            body_bytes_max: reader.or("body_bytes_max", Bytes(limits.body_bytes_max as u64)).0,
            body_timeout: reader.or("body_timeout", limits.body_timeout),
            batch_items_max: reader.or("batch_items_max", limits.items_max),
        }
    }

    /// Gives the same for ingest.
    pub fn limits(&self) -> Limits {
        Limits {
            body_bytes_max: self.body_bytes_max as usize,
            body_timeout: self.body_timeout,
            items_max: self.batch_items_max,
            ..Limits::default()
        }
    }
}
