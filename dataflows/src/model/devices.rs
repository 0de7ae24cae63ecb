//! Devices by whose they are and by name. Invariant: there is at most one of each name of a tenant,
//! and its name is kept once: in the device.

use super::{Device, DeviceId, TenantNo};
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

/// Devices in the order of tenants and names.
///
/// State: a pointer for each device, which is shared with whoever else holds it. What is copied is
/// the pointers.
#[derive(Clone, Default)]
pub struct Devices(BTreeSet<Entry>);

impl Devices {
    /// Finds a device.
    pub fn get(&self, tenant: TenantNo, id: &DeviceId) -> Option<&Arc<Device>> {
        self.0.get(&(tenant, id) as &dyn Named).map(|Entry(device)| device)
    }

    /// Whether there is such a device.
    pub fn contains(&self, tenant: TenantNo, id: &DeviceId) -> bool {
        self.get(tenant, id).is_some()
    }

    /// Adds a device and gives the one that it replaces.
    pub fn insert(&mut self, device: Arc<Device>) -> Option<Arc<Device>> {
        self.0.replace(Entry(device)).map(|Entry(old)| old)
    }

    /// Takes a device out.
    pub fn remove(&mut self, tenant: TenantNo, id: &DeviceId) -> Option<Arc<Device>> {
        self.0.take(&(tenant, id) as &dyn Named).map(|Entry(device)| device)
    }

    /// Gives all devices, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Device>> {
        self.0.iter().map(|Entry(device)| device)
    }

    /// Gives each device with the one of its name in `other`. Cost: one walk over both.
    pub fn beside<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = (&'a Arc<Device>, Option<&'a Arc<Device>>)> {
        let mut others = other.iter().peekable();
        self.iter().map(move |device| {
            while others.next_if(|other| other.name() < device.name()).is_some() {}
            (device, others.next_if(|other| other.name() == device.name()))
        })
    }

    /// Counts the devices.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Arc<Device>> for Devices {
    /// Of several with one name the last is kept.
    fn from_iter<I: IntoIterator<Item = Arc<Device>>>(devices: I) -> Self {
        Self(devices.into_iter().map(Entry).collect())
    }
}

impl PartialEq for Devices {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl fmt::Debug for Devices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Serialize for Devices {
    /// As a map from tenant and name to device.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|device| (device.name(), device)))
    }
}

impl<'de> Deserialize<'de> for Devices {
    /// Errors: a device stands under another name than its own.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ByName;
        impl<'de> Visitor<'de> for ByName {
            type Value = Devices;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("devices by tenant and name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Devices, A::Error> {
                let mut devices = Vec::new();
                while let Some(((tenant, id), device)) = map.next_entry::<(TenantNo, DeviceId), Arc<Device>>()? {
                    if device.name() != (tenant, &id) {
                        return Err(de::Error::custom(format_args!("device {id} of tenant {tenant} is another one")));
                    }
                    devices.push(device);
                }
                // All at once: a tree that grows in order is half empty.
                Ok(devices.into_iter().collect())
            }
        }
        deserializer.deserialize_map(ByName)
    }
}

/// A device, compared by tenant and name alone.
#[derive(Clone)]
struct Entry(Arc<Device>);

/// What a device is found by, whether it is there or only its name is.
trait Named {
    fn name(&self) -> (TenantNo, &DeviceId);
}

impl Named for Device {
    fn name(&self) -> (TenantNo, &DeviceId) {
        (self.tenant, &self.id)
    }
}

impl Named for Entry {
    fn name(&self) -> (TenantNo, &DeviceId) {
        self.0.name()
    }
}

impl Named for (TenantNo, &DeviceId) {
    fn name(&self) -> (TenantNo, &DeviceId) {
        *self
    }
}

impl<'a> Borrow<dyn Named + 'a> for Entry {
    fn borrow(&self) -> &(dyn Named + 'a) {
        self
    }
}

impl Ord for dyn Named + '_ {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for dyn Named + '_ {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Named + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Named + '_ {}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(&other.name())
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{DeviceNo, TemplateNo};
    use std::collections::BTreeMap;

    fn device(no: u64, tenant: u32, id: &str) -> Arc<Device> {
        Arc::new(Device {
            no: DeviceNo(no),
            tenant: TenantNo(tenant),
            id: DeviceId::parse(id).unwrap(),
            template: TemplateNo(1),
            variables: BTreeMap::new(),
            zone: None,
            provisioned: false,
        })
    }

    #[test]
    fn a_name_is_one_device_of_its_tenant() {
        let (pump, valve) = (DeviceId::parse("pump").unwrap(), DeviceId::parse("valve").unwrap());
        let mut devices: Devices = [device(3, 2, "pump"), device(2, 1, "valve"), device(1, 1, "pump")].into_iter().collect();
        assert_eq!(devices.iter().map(|device| device.no.0).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(devices.get(TenantNo(2), &pump).map(|device| device.no.0), Some(3));
        assert!(!devices.contains(TenantNo(2), &valve));

        let before = devices.clone();
        assert_eq!(devices.insert(device(4, 1, "pump")), Some(device(1, 1, "pump")));
        assert_ne!(devices, before, "a device is more than its name");
        assert_eq!(devices.remove(TenantNo(1), &pump), Some(device(4, 1, "pump")));
        assert_eq!((devices.remove(TenantNo(1), &pump), devices.len()), (None, 2));
    }

    #[test]
    fn devices_stand_beside_those_of_their_names() {
        let of = |devices: &[Arc<Device>]| devices.iter().cloned().collect::<Devices>();
        let some = of(&[device(2, 1, "a"), device(4, 1, "c"), device(6, 2, "a"), device(8, 2, "c")]);
        let others = of(&[device(1, 0, "a"), device(3, 1, "b"), device(5, 1, "c"), device(7, 2, "b"), device(9, 2, "c")]);
        let beside: Vec<_> = some.beside(&others).map(|(one, other)| (one.no.0, other.map(|other| other.no.0))).collect();
        assert_eq!(beside, [(2, None), (4, Some(5)), (6, None), (8, Some(9))]);
    }

    #[test]
    fn the_bytes_are_those_of_a_map_and_a_device_under_another_name_is_refused() {
        let all = [device(1, 1, "pump"), device(2, 1, "valve"), device(3, 2, "pump")];
        let map: BTreeMap<_, _> = all.iter().map(|device| ((device.tenant, device.id.clone()), device.clone())).collect();
        let bytes = postcard::to_stdvec(&map).unwrap();
        let devices: Devices = all.into_iter().collect();
        assert_eq!(postcard::to_stdvec(&devices).unwrap(), bytes);
        assert_eq!(postcard::from_bytes::<Devices>(&bytes).unwrap(), devices);

        let wrong: BTreeMap<_, _> = map.into_values().map(|device| ((TenantNo(9), device.id.clone()), device)).collect();
        assert!(postcard::from_bytes::<Devices>(&postcard::to_stdvec(&wrong).unwrap()).is_err());
    }
}
