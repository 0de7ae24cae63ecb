//! What is in effect for a partition's devices: the relations that the graph joins.

use super::{ClassNo, DecoderHash, DeviceId, DeviceNo, FieldName, HOUR_US, MINUTE_US, TemplateNo, TenantNo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A change of what is in effect, with its whole content: an insert, a replacement or a removal.
/// Whoever puts it into effect shares the content.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum RegistryChange {
    /// Sets a tenant by its number.
    Tenant(Arc<Tenant>),
    /// Takes a tenant away; its devices become unknown.
    TenantRemoved(TenantNo),
    /// Sets a template by its number.
    Template(Arc<Template>),
    /// Takes a template away; its devices become unknown.
    TemplateRemoved(TemplateNo),
    /// Sets a device by its tenant and id.
    Device(Arc<Device>),
    /// Takes a device away. Its series are forgotten with their numbers, so it must not come back
    /// under the device number that it had.
    DeviceRemoved {
        /// Whose device.
        tenant: TenantNo,
        /// Which device.
        id: DeviceId,
    },
}

/// A customer of the platform. Tenants do not see each other.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Tenant {
    /// Its number.
    pub no: TenantNo,
    /// What is stored of its devices, and how.
    pub policy: Policy,
}

/// What is stored, and how.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Policy {
    /// IANA name of the time zone in which days begin; a device may have its own.
    pub zone: String,
    /// How far behind the newest event time of its series a measurement may arrive and still be
    /// put in order. Unit: microseconds.
    pub lateness_horizon_us: i64,
    /// Longest silence of a series that is unchanged; 0 stores only changes. Unit: microseconds.
    pub heartbeat_us: i64,
    /// The tables that take the rows.
    pub class: ClassNo,
    /// Measurements older than this, against log time, are quarantined. Unit: microseconds.
    pub raw_retention_us: Option<i64>,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            zone: "UTC".into(),
            lateness_horizon_us: 10 * MINUTE_US,
            heartbeat_us: HOUR_US,
            class: ClassNo(0),
            raw_retention_us: None,
        }
    }
}

/// A device model: how its uplinks are decoded and its fields stored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Template {
    /// Its number.
    pub no: TemplateNo,
    /// Its name, such as `milesight-am307`.
    pub name: String,
    /// Who decodes.
    pub decoding: Decoding,
    /// What is known of its fields, by name. Fields that are not named here are stored too.
    pub fields: BTreeMap<FieldName, FieldSpec>,
}

/// Who makes measurements of an uplink.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub enum Decoding {
    /// The network did: its decoded fields are taken.
    Upstream,
    /// A JavaScript source, run by the engine in wasm.
    JavaScript(DecoderHash),
    /// A wasm module with weir's decoder ABI.
    Wasm(DecoderHash),
}

/// What a template says of one field.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct FieldSpec {
    /// Unit symbol, such as `°C`; a change of it makes a new series.
    pub unit: Option<String>,
    /// A number is unchanged while it is no more than this from the last stored one.
    /// Kept as the bits of a non-negative `f64`, so that templates can be compared.
    pub deadband_bits: u64,
    /// Overrides [`Policy::heartbeat_us`]. Unit: microseconds.
    pub heartbeat_us: Option<i64>,
}

impl FieldSpec {
    /// Gives the deadband, in the field's unit.
    pub fn deadband(&self) -> f64 {
        f64::from_bits(self.deadband_bits)
    }
}

/// A device of a tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Device {
    /// Its number, never used for another device.
    pub no: DeviceNo,
    /// Whose it is.
    pub tenant: TenantNo,
    /// Its name in the network.
    pub id: DeviceId,
    /// Its model.
    pub template: TemplateNo,
    /// Variables that its decoder is given.
    pub variables: BTreeMap<String, String>,
    /// Overrides [`Policy::zone`].
    pub zone: Option<String>,
    /// It was made by its first uplink, and its catalogue row is still to be written.
    pub provisioned: bool,
}
