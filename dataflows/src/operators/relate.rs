//! Joins devices ⋈ templates ⋈ tenants to what is in effect for each device, and arranges it.
//! Invariant: the arrangement holds what is in effect, not what was.
//!
//! Keys carry the partition: the same tenant may be set at another offset in each.

use crate::element::{Context, ContextKey, DeviceKey, Epoch};
use crate::model::{Device, Partition, Template, TemplateNo, Tenant, TenantNo};
use crate::registry::{Difference, Fact};
use differential_dataflow::VecCollection;
use differential_dataflow::input::InputSession;
use differential_dataflow::operators::arrange::arrangement::arrange_core;
use differential_dataflow::operators::arrange::{Arranged, TraceAgent};
use differential_dataflow::trace::ExertionLogic;
use differential_dataflow::trace::implementations::{ValBatcher, ValSpine};
use std::sync::Arc;
use timely::WorkerConfig;
use timely::dataflow::Scope;
use timely::dataflow::channels::pact::Pipeline;

/// The arrangement's store.
pub(crate) type ContextTrace = TraceAgent<ValSpine<ContextKey, Arc<Context>, Epoch, isize>>;
/// The arrangement.
pub(crate) type Contexts<'scope> = Arranged<'scope, ContextTrace>;

/// Rows that an arrangement merges in one activation while nothing changes.
const MERGED_IDLE: usize = 1000;

/// Sees to it that arrangements finish the merges that they began, also while nothing changes: rows
/// of a merge that is half done are held twice. None is begun for it, so a merge costs what it would
/// have.
pub(crate) fn finish_merges(config: &mut WorkerConfig) {
    let exert: ExertionLogic = Arc::new(|layers| layers.iter().any(|&(_, batches, _)| batches > 1).then_some(MERGED_IDLE));
    config.set("differential/default_exert_logic".into(), exert);
}

type Relation<K, V> = InputSession<Epoch, (K, Arc<V>), isize>;

/// The three relations that are joined, to be changed from outside.
pub(crate) struct Relations {
    devices: Relation<(Partition, TemplateNo), Device>,
    templates: Relation<(Partition, TemplateNo), Template>,
    tenants: Relation<(Partition, TenantNo), Tenant>,
}

impl Relations {
    /// Makes empty relations.
    pub(crate) fn new() -> Self {
        Self { devices: InputSession::new(), templates: InputSession::new(), tenants: InputSession::new() }
    }

    /// Changes the relations as of the present epoch.
    pub(crate) fn change(&mut self, partition: Partition, difference: Difference) {
        if let Some(old) = difference.old {
            self.update(partition, old, -1);
        }
        if let Some(new) = difference.new {
            self.update(partition, new, 1);
        }
    }

    /// Adds a row as of the present epoch, or takes it away.
    pub(crate) fn update(&mut self, partition: Partition, fact: Fact, by: isize) {
        match fact {
            Fact::Tenant(tenant) => self.tenants.update(((partition, tenant.no), tenant), by),
            Fact::Template(template) => self.templates.update(((partition, template.no), template), by),
            Fact::Device(device) => self.devices.update(((partition, device.template), device), by),
        }
    }

    /// Closes all epochs before `epoch`: their capabilities are released here.
    pub(crate) fn advance_to(&mut self, epoch: Epoch) {
        self.devices.advance_to(epoch);
        self.devices.flush();
        self.templates.advance_to(epoch);
        self.templates.flush();
        self.tenants.advance_to(epoch);
        self.tenants.flush();
    }
}

/// Joins the relations and arranges the result by [`ContextKey`].
///
/// State: one row for each device in effect, in the result and in two intermediate arrangements.
pub(crate) fn relate<'scope>(scope: Scope<'scope, Epoch>, relations: &mut Relations) -> Contexts<'scope> {
    let devices = arrange(relations.devices.to_collection(scope), "Devices");
    let templates = arrange(relations.templates.to_collection(scope), "Templates");
    let tenants = arrange(relations.tenants.to_collection(scope), "Tenants");
    let modelled = devices.join_core(templates, |&(partition, _), device, template| {
        Some(((partition, device.tenant), (device.clone(), template.clone())))
    });
    let contexts = arrange(modelled, "Modelled devices").join_core(tenants, |&(partition, _), (device, template), tenant| {
        let context = Context { device: device.clone(), template: template.clone(), tenant: tenant.clone() };
        Some((ContextKey::new(partition, DeviceKey::of(tenant.no, &device.id)), Arc::new(context)))
    });
    arrange(contexts, "Contexts")
}

fn arrange<'scope, K: Ord + Clone + 'static, V: Ord + Clone + 'static>(
    collection: VecCollection<'scope, Epoch, (K, V), isize>,
    name: &str,
) -> Arranged<'scope, TraceAgent<ValSpine<K, V, Epoch, isize>>> {
    arrange_core::<_, _, ValBatcher<K, V, Epoch, isize>, _>(collection.inner, Pipeline, name, ValBatcher::new)
}
