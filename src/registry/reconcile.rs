//! The difference between what is wanted and what is in effect, as registry records. Pure.

use super::effect::{DeviceKey, InEffect, key};
use super::tables::BadRow;
use super::{Quotas, Token, TokenHash};
use dataflows::model::{
    Device, DeviceNo, Devices, Offset, Partition, Record, RegistryChange, Template, TemplateNo, Tenant, TenantNo,
};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

/// What the tables hold, read in one snapshot.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Wanted {
    /// By number.
    pub tenants: BTreeMap<TenantNo, Tenant>,
    /// By number; only those whose decoder is here.
    pub templates: BTreeMap<TemplateNo, Template>,
    /// By tenant and name.
    pub devices: Devices,
    /// By hash.
    pub tokens: BTreeMap<TokenHash, Token>,
    /// By tenant.
    pub quotas: Quotas,
    /// How far each partition's rows go in the same snapshot.
    pub progress: BTreeMap<Partition, Offset>,
    /// Tenants whose row cannot be used: what is in effect for them stays.
    pub kept_tenants: BTreeSet<TenantNo>,
    /// Tenants whose quotas cannot be used: those in force stay.
    pub kept_quotas: BTreeSet<TenantNo>,
    /// Templates whose row cannot be used: what is in effect for them stays.
    pub kept_templates: BTreeSet<TemplateNo>,
    /// Devices whose row cannot be used: what is in effect for them stays.
    pub kept_devices: BTreeSet<DeviceKey>,
    /// The logs from which the tables have rows, by `progress`.
    pub logs: BTreeSet<Uuid>,
    /// The log whose registry these tables are, as was noted when they were first read for it.
    pub registry_of: Option<Uuid>,
}

impl Wanted {
    /// Whether nobody has written anything into the registry's tables, or somebody has emptied them.
    pub fn is_empty(&self) -> bool {
        let Self { tenants, templates, devices, kept_tenants, kept_templates, kept_devices, .. } = self;
        tenants.is_empty()
            && templates.is_empty()
            && devices.is_empty()
            && kept_tenants.is_empty()
            && kept_templates.is_empty()
            && kept_devices.is_empty()
    }

    /// Leaves aside devices whose number is in effect for another device: series are known by it, so
    /// both stay as they are in effect until somebody decides. Gives their rows.
    pub fn leave_clashes(&mut self, effect: &InEffect) -> Vec<BadRow> {
        let numbered_anew =
            self.devices.beside(&effect.devices).filter(|(device, known)| known.is_none_or(|known| known.no != device.no));
        // In a fleet that did not change, nobody.
        let claimants: Vec<&Arc<Device>> = numbered_anew.map(|(device, _)| device).collect();
        let claimed: HashSet<DeviceNo> = claimants.iter().map(|device| device.no).collect();
        let holders = effect.devices.iter().filter(|device| claimed.contains(&device.no));
        let holders: HashMap<DeviceNo, &Arc<Device>> = holders.map(|device| (device.no, device)).collect();
        let clash = |device: &Arc<Device>| Some((Arc::clone(device), Arc::clone(holders.get(&device.no)?)));
        let clashes: Vec<_> = claimants.into_iter().filter_map(clash).collect();
        let mut bad = Vec::with_capacity(clashes.len());
        for (device, holder) in clashes {
            let problem = format!(
                "its device_no {} is in effect for device {} of tenant {}: remove the row and add it without a device_no",
                device.no, holder.id, holder.tenant
            );
            bad.push(BadRow { table: "device", key: device.id.to_string(), problem });
            self.devices.remove(device.tenant, &device.id);
            self.kept_devices.extend([key(&device), key(&holder)]);
        }
        bad
    }
}

/// Gives the changes that make `effect` what is `wanted`, in an order in which no device ever
/// names a tenant or template that is not in effect.
pub fn changes(wanted: &Wanted, effect: &InEffect) -> Vec<RegistryChange> {
    let mut changes = Vec::new();
    changes.extend(set(&wanted.tenants, &effect.tenants).map(|tenant| RegistryChange::Tenant(tenant.into())));
    changes.extend(set(&wanted.templates, &effect.templates).map(|template| RegistryChange::Template(template.into())));
    let new = wanted.devices.beside(&effect.devices).filter(|(device, known)| *known != Some(device));
    changes.extend(new.map(|(device, _)| RegistryChange::Device(device.clone())));
    let gone = effect.devices.beside(&wanted.devices).filter(|(_, wanted)| wanted.is_none()).map(|(device, _)| key(device));
    let gone = gone.filter(|key| !wanted.kept_devices.contains(key) && !is_on_its_way(key, wanted, effect));
    changes.extend(gone.map(|(tenant, id)| RegistryChange::DeviceRemoved { tenant, id }));
    changes.extend(removed(&wanted.templates, &wanted.kept_templates, &effect.templates).map(RegistryChange::TemplateRemoved));
    changes.extend(removed(&wanted.tenants, &wanted.kept_tenants, &effect.tenants).map(RegistryChange::TenantRemoved));
    changes
}

/// Names the row that a change came from: its table and its key.
pub fn name(change: &RegistryChange) -> (&'static str, String) {
    match change {
        RegistryChange::Tenant(tenant) => ("tenant", tenant.no.to_string()),
        RegistryChange::TenantRemoved(no) => ("tenant", no.to_string()),
        RegistryChange::Template(template) => ("template", template.name.clone()),
        RegistryChange::TemplateRemoved(no) => ("template", no.to_string()),
        RegistryChange::Device(device) => ("device", device.id.to_string()),
        RegistryChange::DeviceRemoved { id, .. } => ("device", id.to_string()),
    }
}

/// Gives the records of a change: a device's stands in its own partition, all others in every one.
pub fn records(change: RegistryChange, partitions: u16) -> Vec<(Partition, Record)> {
    let owner = match &change {
        RegistryChange::Device(device) => Some(Partition::of(&device.id, partitions)),
        RegistryChange::DeviceRemoved { id, .. } => Some(Partition::of(id, partitions)),
        _ => None,
    };
    let record = Record::Registry(Box::new(change));
    match owner {
        Some(partition) => vec![(partition, record)],
        None => (0..partitions).map(|p| (Partition(p), record.clone())).collect(),
    }
}

fn set<'a, K: Ord, V: PartialEq + Clone>(wanted: &'a BTreeMap<K, V>, effect: &'a BTreeMap<K, V>) -> impl Iterator<Item = V> + 'a {
    wanted.iter().filter(|(key, value)| effect.get(*key) != Some(*value)).map(|(_, value)| value.clone())
}

fn removed<'a, K: Ord + Clone, V>(
    wanted: &'a BTreeMap<K, V>,
    kept: &'a BTreeSet<K>,
    effect: &'a BTreeMap<K, V>,
) -> impl Iterator<Item = K> + 'a {
    effect.keys().filter(|key| !wanted.contains_key(*key) && !kept.contains(*key)).cloned()
}

/// A provisioned device whose row is not committed yet: it is not missing from the tables, it is
/// only not there so far.
fn is_on_its_way(key: &DeviceKey, wanted: &Wanted, effect: &InEffect) -> bool {
    effect
        .provisioned
        .get(key)
        .is_some_and(|(partition, offset)| wanted.progress.get(partition).is_none_or(|committed| offset >= committed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use dataflows::model::{Decoding, DeviceId, DeviceNo, Policy};

    fn tenant(zone: &str) -> Tenant {
        Tenant { no: TenantNo(1), policy: Policy { zone: zone.into(), ..Policy::default() } }
    }

    fn template() -> Template {
        Template { no: TemplateNo(1), name: "t".into(), decoding: Decoding::Upstream, fields: BTreeMap::new() }
    }

    fn device(no: DeviceNo) -> Device {
        Device {
            no,
            tenant: TenantNo(1),
            id: DeviceId::parse("pump").unwrap(),
            template: TemplateNo(1),
            variables: BTreeMap::new(),
            zone: None,
            provisioned: no.0 >= DeviceNo::PROVISIONED,
        }
    }

    fn wanted(devices: &[Device]) -> Wanted {
        Wanted {
            tenants: [(TenantNo(1), tenant("UTC"))].into(),
            templates: [(TemplateNo(1), template())].into(),
            devices: devices.iter().cloned().map(Arc::new).collect(),
            ..Wanted::default()
        }
    }

    /// Applies changes as the log would hold them, from offset 100 on.
    fn take_in(effect: &mut InEffect, changes: Vec<RegistryChange>) {
        for (n, change) in changes.into_iter().enumerate() {
            for (partition, record) in records(change, 4) {
                let Record::Registry(change) = record else { panic!("not a registry record") };
                effect.apply(partition, Offset(100 + n as u64), *change);
            }
        }
    }

    #[test]
    fn the_changes_make_the_effect_what_is_wanted() {
        let mut effect = InEffect::default();
        let wanted = wanted(&[device(DeviceNo(7))]);
        let first = changes(&wanted, &effect);
        assert!(matches!(first.as_slice(), [RegistryChange::Tenant(_), RegistryChange::Template(_), RegistryChange::Device(_)]));
        take_in(&mut effect, first);
        assert_eq!(changes(&wanted, &effect), [], "nothing is left to change");

        let mut moved = wanted.clone();
        moved.tenants.insert(TenantNo(1), tenant("Europe/Paris"));
        assert_eq!(changes(&moved, &effect), [RegistryChange::Tenant(tenant("Europe/Paris").into())]);

        let kept = Wanted {
            kept_devices: wanted.devices.iter().map(|device| key(device)).collect(),
            ..Wanted { devices: Devices::default(), ..wanted.clone() }
        };
        assert_eq!(changes(&kept, &effect), [], "a row that cannot be used takes nothing away");

        let all_gone = changes(&Wanted::default(), &effect);
        assert!(matches!(
            all_gone.as_slice(),
            [RegistryChange::DeviceRemoved { .. }, RegistryChange::TemplateRemoved(_), RegistryChange::TenantRemoved(_)]
        ));
        take_in(&mut effect, all_gone);
        assert_eq!(effect, InEffect::default());
    }

    #[test]
    fn a_provisioned_device_is_not_missing_before_its_row_is_committed() {
        let made = device(DeviceNo::provisioned(Partition(0), 0).unwrap());
        let partition = Partition::of(&made.id, 4);
        let mut effect = InEffect::default();
        take_in(&mut effect, changes(&wanted(&[made]), &InEffect::default()));
        let offset = effect.provisioned.values().next().unwrap().1;

        let mut before = wanted(&[]);
        before.progress.insert(partition, offset);
        assert_eq!(changes(&before, &effect), []);
        let mut after = wanted(&[]);
        after.progress.insert(partition, offset.next());
        assert!(matches!(changes(&after, &effect).as_slice(), [RegistryChange::DeviceRemoved { .. }]));
    }

    #[test]
    fn a_number_in_effect_for_another_device_is_a_bad_row() {
        let mut effect = InEffect::default();
        take_in(&mut effect, changes(&wanted(&[device(DeviceNo(7))]), &InEffect::default()));
        let renamed = Device { id: DeviceId::parse("valve").unwrap(), ..device(DeviceNo(7)) };
        let mut clashing = wanted(std::slice::from_ref(&renamed));
        let bad = clashing.leave_clashes(&effect);
        assert!(bad[0].to_string().contains("valve: its device_no 7 is in effect for device pump of tenant 1"), "{}", bad[0]);
        assert_eq!(changes(&clashing, &effect), [], "both stay as they are, or the next comparison would find the number free");
        // With a number of its own, it replaces the other.
        let mut numbered = wanted(&[Device { no: DeviceNo(8), ..renamed }]);
        assert_eq!(numbered.leave_clashes(&effect), []);
        assert!(matches!(
            changes(&numbered, &effect).as_slice(),
            [RegistryChange::Device(_), RegistryChange::DeviceRemoved { .. }]
        ));
    }
}
