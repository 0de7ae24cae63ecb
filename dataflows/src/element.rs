//! What flows between the operators: every record of a partition, in its order.
//!
//! Invariant: an operator passes one element on for each that it takes, in the same order, so that
//! log time passes at the end of the graph exactly as it does in the log.

use crate::decode::Rejected;
use crate::model::{
    Attempt, Decoding, Device, DeviceId, DeviceNo, EventTime, Excess, FieldName, LogTime, Offset, Partition, Reason, Template,
    Tenant, TenantNo, Uplink, Value,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// The time of the graph: counts the sets of records between which what is in effect may change.
pub(crate) type Epoch = u64;

/// The record to which everything that follows from it is ascribed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cause {
    pub(crate) partition: Partition,
    pub(crate) offset: Offset,
    pub(crate) log_time: LogTime,
}

/// A record on its way, of which uplinks are known as well as `U` says.
#[derive(Clone, Debug)]
pub(crate) struct Element<U> {
    pub(crate) cause: Cause,
    /// Where the record is the retry of an uplink: the attempt that set it aside.
    pub(crate) retried: Option<Box<Attempt>>,
    /// Where the record is an uplink within its tenant's quotas: whose.
    pub(crate) charged: Option<TenantNo>,
    pub(crate) body: Body<U>,
}

/// What a record still means for the rest of the graph.
#[derive(Clone, Debug)]
pub(crate) enum Body<U> {
    /// An uplink.
    Uplink(U),
    /// An uplink that came in before.
    Duplicate,
    /// An uplink over a quota, of a device that may be silent.
    Thinned,
    /// A device is in effect no more, or has another number: what is open of it is closed.
    Closed(DeviceNo),
    /// A device that its first uplink made is in effect; where it replaces one with another
    /// number, that one is closed.
    Provisioned { device: Arc<Device>, closed: Option<DeviceNo> },
    /// Nobody's uplinks are decoded so any more.
    Retired(Retired),
    /// Nothing but that log time has passed.
    Nothing,
}

/// What is in effect no more.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Retired {
    /// A tenant.
    Tenant(TenantNo),
    /// A decoder that no template names any more.
    Decoder(Decoding),
}

impl<U> Element<U> {
    /// Replaces an uplink by what `f` says of it; anything else passes.
    pub(crate) fn map_uplink<V>(self, f: impl FnOnce(&Cause, U) -> V) -> Element<V> {
        let Self { cause, retried, charged, body } = self;
        let body = match body {
            Body::Uplink(uplink) => Body::Uplink(f(&cause, uplink)),
            Body::Duplicate => Body::Duplicate,
            Body::Thinned => Body::Thinned,
            Body::Closed(device) => Body::Closed(device),
            Body::Provisioned { device, closed } => Body::Provisioned { device, closed },
            Body::Retired(retired) => Body::Retired(retired),
            Body::Nothing => Body::Nothing,
        };
        Element { cause, retried, charged, body }
    }
}

/// A device as operators find it: compared without following a pointer. Two names of one tenant may
/// share a key, so whoever finds something by it looks at the name too; two tenants never share one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub(crate) struct DeviceKey {
    tenant: TenantNo,
    name_hash: u64,
}

impl DeviceKey {
    /// Gives the key of a tenant's device.
    pub(crate) fn of(tenant: TenantNo, device: &DeviceId) -> Self {
        Self { tenant, name_hash: xxh3_64(device.as_str().as_bytes()) }
    }
}

/// A device of a partition, in sixteen bytes: the arrangement of what is in effect has one for each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct ContextKey {
    partition: Partition,
    tenant: TenantNo,
    name_hash: u64,
}

impl ContextKey {
    /// Gives the key of a partition's device.
    pub(crate) fn new(partition: Partition, DeviceKey { tenant, name_hash }: DeviceKey) -> Self {
        Self { partition, tenant, name_hash }
    }
}

/// An uplink as the log holds it.
#[derive(Clone, Debug)]
pub(crate) struct Arrived {
    pub(crate) key: DeviceKey,
    pub(crate) uplink: Box<Uplink>,
    pub(crate) condemned: bool,
    /// Where it is over a quota: which, and what is to be done.
    pub(crate) excess: Option<Box<Excess>>,
}

/// What is in effect for a device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Context {
    pub(crate) device: Arc<Device>,
    pub(crate) template: Arc<Template>,
    pub(crate) tenant: Arc<Tenant>,
}

/// An uplink with what is in effect for it, if anything is.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) arrived: Arrived,
    pub(crate) context: Option<Arc<Context>>,
}

/// What became of an uplink.
#[derive(Clone, Debug)]
pub(crate) enum Outcome {
    /// It was decoded.
    Measured(Box<Measured>),
    /// It is set aside whole.
    SetAside { uplink: Box<Uplink>, reason: Reason, detail: String },
}

/// A decoded uplink.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) uplink: Box<Uplink>,
    pub(crate) context: Arc<Context>,
    /// What can be stored as far as value and time go, in the decoder's order.
    pub(crate) accepted: Vec<Accepted>,
    /// What cannot: first what the decoder refused, then what its values or times rule out.
    pub(crate) refused: Vec<Rejected>,
}

/// A measurement with a storable value and a credible event time.
#[derive(Clone, Debug)]
pub(crate) struct Accepted {
    pub(crate) field: FieldName,
    pub(crate) at: EventTime,
    pub(crate) value: Value,
}
