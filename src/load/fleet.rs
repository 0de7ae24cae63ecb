//! Owns who is in the fleet: each device's name, kind and network, all of it from the seed.

use super::random::{Random, mix};
use super::{FleetSpec, FleetUplink, Kind, Schedule, Shape, SpecError};
use dataflows::model::{DeviceId, Reception, TenantNo, Uplink};

/// How many gateways the fleet's networks have.
const GATEWAYS: u64 = 24;

/// The randomness of a device's properties is not that of its uplinks.
const PROPERTIES: u64 = 1 << 32;

/// A simulated fleet.
#[derive(Debug)]
pub struct Fleet {
    spec: FleetSpec,
    members: Vec<Member>,
    /// The gateways' names, by their numbers.
    gateways: Vec<String>,
}

/// A device of the fleet.
#[derive(Debug)]
pub struct Member {
    /// Its DevEUI.
    pub id: DeviceId,
    /// What it is.
    pub kind: Kind,
    /// The network that it is in.
    pub shape: Shape,
}

impl Fleet {
    /// Makes the fleet.
    ///
    /// Errors: a spec that cannot be kept, see [`SpecError`].
    pub fn new(spec: FleetSpec) -> Result<Self, SpecError> {
        spec.check()?;
        let members = (0..spec.devices).map(|device| Member::new(&spec, device)).collect();
        let gateways = (0..GATEWAYS as u16).map(|gateway| format!("0016c001f153{gateway:04x}")).collect();
        Ok(Self { spec, members, gateways })
    }

    /// Gives what the fleet is like.
    pub fn spec(&self) -> &FleetSpec {
        &self.spec
    }

    /// Gives the devices, in the order of their numbers.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Gives the device that an uplink is from.
    ///
    /// Panics: when the uplink is of another fleet that is larger.
    pub fn member(&self, device: u32) -> &Member {
        &self.members[device as usize]
    }

    /// Gives all uplinks in the order in which they are due; the schedule has no end.
    ///
    /// State: some 80 bytes a device, and the copies and the delayed uplinks that are still to come.
    pub fn schedule(&self) -> Schedule<'_> {
        Schedule::new(self, self.spec.devices)
    }

    /// Gives the uplinks of the probes alone, as they come in [`Self::schedule`].
    pub fn probe_schedule(&self) -> Schedule<'_> {
        Schedule::new(self, self.spec.probes.min(self.spec.devices))
    }

    /// Gives the gateways that received a copy, one to three, strongest first. The same gateway may
    /// carry several copies, as it does.
    pub fn receptions(&self, uplink: &FleetUplink) -> impl Iterator<Item = GatewayCopy> + use<> {
        let copy = (u64::from(uplink.fcnt) << 8) | u64::from(uplink.copy);
        let mut random = Random::new(mix(self.spec.seed) ^ copy, u64::from(uplink.device));
        let count = 1 + random.below(3);
        (0..count).map(move |nth| GatewayCopy {
            gateway: random.below(GATEWAYS) as u16,
            rssi_dbm: -(40 + 20 * nth as i16 + random.below(20) as i16),
            snr_tenths_db: 120 - 60 * nth as i16 - random.below(60) as i16,
        })
    }

    /// Gives the name of the gateway that received a copy.
    pub fn gateway(&self, copy: &GatewayCopy) -> &str {
        &self.gateways[usize::from(copy.gateway)]
    }

    /// Gives an uplink as the log holds it, for loads that go past the envelopes.
    pub fn record(&self, uplink: &FleetUplink, tenant: TenantNo) -> Uplink {
        let receptions = self.receptions(uplink).map(|copy| Reception {
            gateway: self.gateway(&copy).into(),
            rssi_dbm: Some(f32::from(copy.rssi_dbm)),
            snr_db: Some(f32::from(copy.snr_tenths_db) / 10.0),
        });
        Uplink {
            tenant,
            device: self.member(uplink.device).id.clone(),
            received_at: uplink.received_at,
            fport: Some(uplink.kind.spec().fport),
            fcnt: Some(uplink.fcnt),
            message_id: None,
            frame: uplink.frame.as_slice().to_vec(),
            decoded: None,
            receptions: receptions.collect(),
        }
    }
}

impl Member {
    fn new(spec: &FleetSpec, device: u32) -> Self {
        let mut random = Random::new(spec.seed, PROPERTIES | u64::from(device));
        // `mix` is a bijection, so two devices of a fleet never share a DevEUI.
        let dev_eui = mix(mix(spec.seed).wrapping_add(u64::from(device)));
        Self {
            id: DeviceId::parse(&format!("{dev_eui:016x}")).expect("16 hex digits are a DevEUI"),
            kind: spec.kinds[random.pick(spec.kinds.iter().map(|(_, weight)| *weight))].0,
            shape: spec.shapes[random.pick(spec.shapes.iter().map(|(_, weight)| *weight))].0,
        }
    }
}

/// What one gateway says of its copy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GatewayCopy {
    gateway: u16,
    /// Received signal strength. Unit: dBm.
    pub rssi_dbm: i16,
    /// Signal-to-noise ratio. Unit: tenths of a dB.
    pub snr_tenths_db: i16,
}
