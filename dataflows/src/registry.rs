//! Owns what is in effect for each partition. Invariant: a change takes effect exactly at its
//! offset, and setting again what is set already changes nothing.

use crate::element::Retired;
use crate::model::{Device, DeviceId, DeviceNo, Devices, RegistryChange, Template, TemplateNo, Tenant, TenantNo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The tenants, templates and devices in effect for one partition.
///
/// State: one entry for each; what is removed is gone.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct InEffect {
    tenants: BTreeMap<TenantNo, Arc<Tenant>>,
    templates: BTreeMap<TemplateNo, Arc<Template>>,
    devices: Devices,
}

/// One row of one of the three relations.
#[derive(Clone, Debug)]
pub(crate) enum Fact {
    Tenant(Arc<Tenant>),
    Template(Arc<Template>),
    Device(Arc<Device>),
}

/// What a change takes away from the relations and adds to them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Difference {
    pub(crate) old: Option<Fact>,
    pub(crate) new: Option<Fact>,
}

impl Difference {
    /// Gives the device that is to be closed: taken away, or replaced by one with another number.
    pub(crate) fn closed(&self) -> Option<DeviceNo> {
        let Some(Fact::Device(old)) = &self.old else { return None };
        match &self.new {
            Some(Fact::Device(new)) if new.no == old.no => None,
            _ => Some(old.no),
        }
    }

    /// Gives the device that a first uplink made and that is new with this change.
    pub(crate) fn provisioned(&self) -> Option<&Arc<Device>> {
        match &self.new {
            Some(Fact::Device(new)) if new.provisioned => Some(new),
            _ => None,
        }
    }
}

impl InEffect {
    /// Puts a change into effect and gives the difference that it makes: nothing and nothing if
    /// its content is in effect already.
    pub(crate) fn apply(&mut self, change: RegistryChange) -> Difference {
        match change {
            RegistryChange::Tenant(tenant) => set(&mut self.tenants, tenant.no, tenant, Fact::Tenant),
            RegistryChange::Template(template) => set(&mut self.templates, template.no, template, Fact::Template),
            RegistryChange::Device(device) => {
                if self.devices.get(device.tenant, &device.id) == Some(&device) {
                    return Difference::default();
                }
                let old = self.devices.insert(device.clone());
                Difference { old: old.map(Fact::Device), new: Some(Fact::Device(device)) }
            }
            RegistryChange::TenantRemoved(no) => removed(self.tenants.remove(&no).map(Fact::Tenant)),
            RegistryChange::TemplateRemoved(no) => removed(self.templates.remove(&no).map(Fact::Template)),
            RegistryChange::DeviceRemoved { tenant, id } => removed(self.devices.remove(tenant, &id).map(Fact::Device)),
        }
    }

    /// Gives what a difference, which is in effect, has left without any use.
    pub(crate) fn retired(&self, difference: &Difference) -> Option<Retired> {
        match (&difference.old, &difference.new) {
            (Some(Fact::Tenant(old)), None) => Some(Retired::Tenant(old.no)),
            (Some(Fact::Template(old)), _) => {
                let is_used = self.templates.values().any(|template| template.decoding == old.decoding);
                (!is_used).then_some(Retired::Decoder(old.decoding))
            }
            _ => None,
        }
    }

    /// Gives everything in effect.
    pub(crate) fn facts(&self) -> impl Iterator<Item = Fact> {
        let tenants = self.tenants.values().cloned().map(Fact::Tenant);
        let templates = self.templates.values().cloned().map(Fact::Template);
        let devices = self.devices.iter().cloned().map(Fact::Device);
        tenants.chain(templates).chain(devices)
    }

    /// Gives all devices.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().map(|device| &**device)
    }

    /// Gives the number of a device.
    pub(crate) fn device_no(&self, tenant: TenantNo, id: &DeviceId) -> Option<DeviceNo> {
        self.devices.get(tenant, id).map(|device| device.no)
    }
}

fn set<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, Arc<V>>, key: K, value: Arc<V>, fact: fn(Arc<V>) -> Fact) -> Difference {
    if map.get(&key) == Some(&value) {
        return Difference::default();
    }
    let old = map.insert(key, value.clone());
    Difference { old: old.map(fact), new: Some(fact(value)) }
}

fn removed(old: Option<Fact>) -> Difference {
    Difference { old, new: None }
}
