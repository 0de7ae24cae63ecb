//! What stands in the log.

use super::{DeviceId, EventTime, LogTime, Offset, OverQuota, Partition, RegistryChange, Retry, ShortText, TenantNo};
use serde::{Deserialize, Serialize};

/// One record of a partition.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub enum Record {
    /// A message of a device.
    Uplink(Box<Uplink>),
    /// A change of what is in effect, with its content.
    Registry(Box<RegistryChange>),
    /// Nothing but the passing of log time, in a partition without traffic.
    Tick,
    /// The watchdog ended the decoding of the uplink, however it came, or the retry of one, at `uplink`, an earlier
    /// offset of this partition: that uplink is quarantined, now and at every replay.
    Verdict {
        /// The uplink whose decoding was ended.
        uplink: Offset,
    },
    /// An uplink that was set aside is tried again. No quota applies to it.
    Retry(Box<Retry>),
    /// A message of a device, over a quota of its tenant.
    OverQuota(Box<OverQuota>),
}

/// A record where the log holds it.
#[derive(Clone, PartialEq, Debug)]
pub struct Entry {
    /// The partition that holds it.
    pub partition: Partition,
    /// Its place there.
    pub offset: Offset,
    /// When the log took it in.
    pub log_time: LogTime,
    /// For an uplink or a retry: whether a [`Record::Verdict`] on it follows in the log. The reader finds
    /// verdicts ahead of replaying, so that a decoder that once had to be killed is not run again.
    pub condemned: bool,
    /// What it says.
    pub record: Record,
}

/// A message of a device, as its network delivered it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Uplink {
    /// Whose token sent it.
    pub tenant: TenantNo,
    /// Which device it is from.
    pub device: DeviceId,
    /// When the network received it: the event time of measurements that carry none.
    pub received_at: EventTime,
    /// LoRaWAN port. Absent where the network omits zero.
    pub fport: Option<u8>,
    /// LoRaWAN frame counter. Absent where the network omits zero or there is none.
    pub fcnt: Option<u32>,
    /// The sender's own identity of the message, where it is stable over retries.
    pub message_id: Option<ShortText>,
    /// The application payload, decrypted.
    #[serde(with = "serde_bytes")]
    pub frame: Vec<u8>,
    /// Fields that were decoded before weir, as a JSON text: an object, or a list of
    /// `{field, value, timestamp?}`. Kept only where the template does not decode.
    pub decoded: Option<String>,
    /// The copies that the network had merged already.
    pub receptions: Vec<Reception>,
}

/// One gateway's copy of an uplink.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Reception {
    /// The gateway's name.
    pub gateway: ShortText,
    /// Received signal strength. Unit: dBm.
    pub rssi_dbm: Option<f32>,
    /// Signal-to-noise ratio. Unit: dB.
    pub snr_db: Option<f32>,
}
