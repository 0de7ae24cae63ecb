//! What took effect: the sum of all registry records of the log, for the shell's own use.

use dataflows::model::{Device, DeviceId, Devices, Offset, Partition, RegistryChange, Template, TemplateNo, Tenant, TenantNo};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Whose device, by which name.
pub(super) type DeviceKey = (TenantNo, DeviceId);

/// Gives the key of a device.
pub(super) fn key(device: &Device) -> DeviceKey {
    (device.tenant, device.id.clone())
}

/// What is in effect in the log as far as it was read.
///
/// State: one entry per tenant, template and device.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct InEffect {
    /// By number.
    pub tenants: BTreeMap<TenantNo, Tenant>,
    /// By number.
    pub templates: BTreeMap<TemplateNo, Template>,
    /// By tenant and name.
    pub devices: Devices,
    /// Devices that their first uplink made, with the record that did: their row in the table
    /// appears only when `progress` has passed it.
    pub provisioned: BTreeMap<DeviceKey, (Partition, Offset)>,
    /// For each partition, the count of devices that it ever provisioned: numbers are not used again.
    pub provisioned_count: BTreeMap<Partition, u32>,
}

impl InEffect {
    /// Takes in one registry record. Tenants and templates stand in every partition; taking them in
    /// again changes nothing.
    pub fn apply(&mut self, partition: Partition, offset: Offset, change: RegistryChange) {
        match change {
            RegistryChange::Tenant(tenant) => {
                self.tenants.insert(tenant.no, Arc::unwrap_or_clone(tenant));
            }
            RegistryChange::TenantRemoved(no) => {
                self.tenants.remove(&no);
            }
            RegistryChange::Template(template) => {
                self.templates.insert(template.no, Arc::unwrap_or_clone(template));
            }
            RegistryChange::TemplateRemoved(no) => {
                self.templates.remove(&no);
            }
            RegistryChange::Device(device) => {
                let known = self.devices.get(device.tenant, &device.id);
                if device.provisioned && known.is_none_or(|known| known.no != device.no) {
                    self.provisioned.insert(key(&device), (partition, offset));
                }
                if let Some((provisioner, nth)) = device.no.provisioner() {
                    self.never_again(provisioner, nth + 1);
                }
                self.devices.insert(device);
            }
            RegistryChange::DeviceRemoved { tenant, id } => {
                self.devices.remove(tenant, &id);
                self.provisioned.remove(&(tenant, id));
            }
        }
    }

    /// Takes notice that a partition has provisioned at least so many devices.
    pub fn never_again(&mut self, partition: Partition, count: u32) {
        let known = self.provisioned_count.entry(partition).or_default();
        *known = (*known).max(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::DeviceNo;

    #[test]
    fn numbers_of_provisioned_devices_are_not_used_again() {
        let partition = Partition(3);
        let id = DeviceId::parse("pump").unwrap();
        let no = DeviceNo::provisioned(partition, 4).unwrap();
        let device = Device {
            no,
            tenant: TenantNo(1),
            id: id.clone(),
            template: TemplateNo(1),
            variables: BTreeMap::new(),
            zone: None,
            provisioned: true,
        };
        let mut effect = InEffect::default();
        effect.apply(partition, Offset(10), RegistryChange::Device(device.clone().into()));
        // Its row was written back by hand under a name that lives in another partition.
        let moved = Device {
            no: DeviceNo::provisioned(Partition(1), 8).unwrap(),
            id: DeviceId::parse("valve").unwrap(),
            ..device.clone()
        };
        effect.apply(partition, Offset(11), RegistryChange::Device(moved.clone().into()));
        effect.apply(partition, Offset(11), RegistryChange::DeviceRemoved { tenant: TenantNo(1), id: moved.id });
        assert_eq!(effect.provisioned_count[&Partition(1)], 9, "a number tells who gave it");
        effect.apply(partition, Offset(12), RegistryChange::Device(device.into()));
        assert_eq!(effect.provisioned[&(TenantNo(1), id.clone())], (partition, Offset(10)), "the first record made it");
        effect.apply(partition, Offset(14), RegistryChange::DeviceRemoved { tenant: TenantNo(1), id });
        assert_eq!(effect.provisioned_count[&partition], 5);
        assert!(effect.devices.is_empty() && effect.provisioned.is_empty());
    }
}
