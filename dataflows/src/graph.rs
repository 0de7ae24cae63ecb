//! The door of the graph: records in, rows out. Invariant: batch boundaries never show in the rows.
//!
//! Every worker thread has a [`Graph`] of its own, a timely cluster of one worker. Partitions never
//! talk to each other, so workers share no frontier, and a slow one stalls nobody.
//!
//! The graph's time counts epochs. A run opens one, and a registry change opens one if an uplink of
//! its partition has gone before in the present one: so a change takes effect exactly at its offset.

use crate::decode::Decode;
use crate::element::{Arrived, Body, Cause, DeviceKey, Element, Epoch};
use crate::model::{
    BucketLevel, Counts, DeviceId, Entry, EventTime, Excess, FieldName, Offset, Outputs, OverQuota, Partial, Partition, Record,
    RegistryChange, Retry, SeriesId, TenantNo, Uplink, Value,
};
use crate::operators::decode::decode;
use crate::operators::dedup::{Seen, dedup};
use crate::operators::keep::{Kept, keep};
use crate::operators::lookup::lookup;
use crate::operators::relate::{ContextTrace, Relations, finish_merges, relate};
use crate::operators::thin::{Passed, thin};
use crate::operators::{Builder, Shared};
use crate::registry::InEffect;
use crate::series::device::series;
use crate::series::fleet::Fleet;
pub use crate::state::{PartitionState, StateOfVersion2};
pub use crate::suspension::Suspended;
use crate::suspension::Suspensions;
pub use crate::tally::Metered;
use crate::tally::Tally;
use differential_dataflow::trace::TraceReader;
use differential_dataflow::trace::implementations::spine_fueled::SpineBatch;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use timely::WorkerConfig;
use timely::communication::Allocator;
use timely::dataflow::operators::{Input, Probe};
use timely::dataflow::{InputHandle, ProbeHandle};
use timely::worker::Worker;

/// One worker's graph, with the state of the partitions that it owns.
///
/// It stays on the thread that made it.
pub struct Graph {
    entrance: InputHandle<Epoch, Builder<Element<Arrived>>>,
    relations: Relations,
    contexts: ContextTrace,
    probe: ProbeHandle<Epoch>,
    epoch: Epoch,
    in_effect: BTreeMap<Partition, InEffect>,
    seen: Shared<Seen>,
    passed: Shared<Passed>,
    suspensions: Shared<Suspensions>,
    kept: Shared<Kept>,
    /// Where the rows of a run go.
    rows: Rc<RefCell<Outputs>>,
    worker: Worker,
}

/// The newest measurement of a series by event time.
#[derive(Clone, PartialEq, Debug)]
pub struct Latest {
    /// The series.
    pub series: SeriesId,
    /// The field's name.
    pub field: FieldName,
    /// The unit, where the template names one.
    pub unit: Option<String>,
    /// The event time.
    pub at: EventTime,
    /// The value.
    pub value: Value,
}

/// How much a graph holds, for gauges and for those who doubt that it is bounded.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Held {
    /// Devices that were heard within the dedup window, or little more.
    pub devices_seen: usize,
    /// Devices that passed within the longest interval although they were over a quota, or little more.
    pub devices_thinned: usize,
    /// Devices with series.
    pub devices_tracked: usize,
    /// Updates in the arrangement of what is in effect for each device.
    pub context_updates: usize,
}

impl Graph {
    /// Builds the graph around a decoder. It owns no partition yet.
    pub fn new(decoder: Box<dyn Decode>) -> Self {
        let allocator = Allocator::Thread(Default::default());
        let mut config = WorkerConfig::default();
        finish_merges(&mut config);
        let mut worker = Worker::new(config, allocator, None);
        let (seen, passed) = (Shared::<Seen>::default(), Shared::<Passed>::default());
        let (suspensions, kept) = (Shared::<Suspensions>::default(), Shared::<Kept>::default());
        let rows = Rc::<RefCell<Outputs>>::default();
        let mut entrance = InputHandle::new_with_builder();
        let mut relations = Relations::new();
        let probe = ProbeHandle::new();
        let contexts = worker.dataflow_named("weir", |scope| {
            let contexts = relate(scope, &mut relations);
            let trace = contexts.trace.clone();
            let known = lookup(scope.input_from(&mut entrance), contexts);
            let first = thin(dedup(known, seen.clone()), passed.clone());
            let decoded = decode(first, decoder, suspensions.clone());
            keep(decoded, kept.clone(), rows.clone()).probe_with(&probe);
            trace
        });
        let (epoch, in_effect) = (0, BTreeMap::new());
        Self { entrance, relations, contexts, probe, epoch, in_effect, seen, passed, suspensions, kept, rows, worker }
    }

    /// Takes over a partition with its state; the default state is that of a fresh one.
    ///
    /// Panics: when the graph owns the partition already.
    pub fn adopt(&mut self, partition: Partition, state: PartitionState) {
        assert!(!self.in_effect.contains_key(&partition), "partition {partition} is adopted twice");
        let PartitionState { log_time, counts, registry, seen, fleet, passed, suspensions } = state;
        for fact in registry.facts() {
            self.relations.update(partition, fact, 1);
        }
        self.in_effect.insert(partition, registry);
        self.seen.borrow_mut().insert(partition, Seen::restore(seen));
        self.passed.borrow_mut().insert(partition, Passed::restore(passed));
        self.suspensions.borrow_mut().insert(partition, suspensions);
        let kept = Kept { log_time, counts, fleet: Fleet::restore(fleet), tally: Tally::default() };
        self.kept.borrow_mut().insert(partition, kept);
        self.finish_epoch();
    }

    /// Forgets a partition. Nothing happens if the graph does not own it.
    pub fn release(&mut self, partition: Partition) {
        for fact in self.in_effect.remove(&partition).unwrap_or_default().facts() {
            self.relations.update(partition, fact, -1);
        }
        self.seen.borrow_mut().remove(&partition);
        self.suspensions.borrow_mut().remove(&partition);
        self.passed.borrow_mut().remove(&partition);
        self.kept.borrow_mut().remove(&partition);
        self.finish_epoch();
    }

    /// Feeds records of owned partitions, each partition's in the order of offsets, runs the graph
    /// until all is done, and gives the rows.
    ///
    /// Panics: when a record belongs to a partition that the graph does not own.
    pub fn run(&mut self, entries: Vec<Entry>) -> Outputs {
        let mut rows = Outputs::default();
        self.run_into(entries, &mut rows);
        rows
    }

    /// As [`Graph::run`]; adds the rows to `rows`, behind those that are there.
    ///
    /// Panics: when a record belongs to a partition that the graph does not own.
    pub fn run_into(&mut self, entries: impl IntoIterator<Item = Entry>, rows: &mut Outputs) {
        std::mem::swap(rows, &mut self.rows.borrow_mut());
        let mut with_uplinks = BTreeSet::new();
        for entry in entries {
            let Entry { partition, offset, log_time, condemned, record } = entry;
            assert!(self.in_effect.contains_key(&partition), "partition {partition} is not owned: adopt it first");
            let (mut retried, mut charged) = (None, None);
            let mut arrived = |uplink: Box<Uplink>, excess: Option<Excess>| {
                with_uplinks.insert(partition);
                let key = DeviceKey::of(uplink.tenant, &uplink.device);
                Body::Uplink(Arrived { key, uplink, condemned, excess: excess.map(Box::new) })
            };
            let body = match record {
                Record::Uplink(uplink) => {
                    charged = Some(uplink.tenant);
                    arrived(uplink, None)
                }
                Record::Retry(retry) => {
                    let Retry { last, uplink } = *retry;
                    retried = Some(Box::new(last));
                    arrived(Box::new(uplink), None)
                }
                Record::OverQuota(over) => {
                    let OverQuota { excess, uplink } = *over;
                    arrived(Box::new(uplink), Some(excess))
                }
                Record::Registry(change) => {
                    if with_uplinks.contains(&partition) {
                        self.open_epoch();
                        with_uplinks.clear();
                    }
                    self.change(partition, *change)
                }
                Record::Tick | Record::Verdict { .. } => Body::Nothing,
            };
            self.entrance.send(Element { cause: Cause { partition, offset, log_time }, retried, charged, body });
        }
        self.finish_epoch();
        std::mem::swap(rows, &mut self.rows.borrow_mut());
    }

    /// Puts a change into effect and gives what it means for the rest of the graph.
    fn change(&mut self, partition: Partition, change: RegistryChange) -> Body<Arrived> {
        let in_effect = self.in_effect.get_mut(&partition).expect("the partition is owned, as was checked");
        let difference = in_effect.apply(change);
        let closed = difference.closed();
        let body = match (difference.provisioned(), closed) {
            (Some(device), closed) => Body::Provisioned { device: device.clone(), closed },
            (None, Some(closed)) => Body::Closed(closed),
            (None, None) => in_effect.retired(&difference).map_or(Body::Nothing, Body::Retired),
        };
        self.relations.change(partition, difference);
        body
    }

    /// Opens the next epoch: the capabilities of the present one are released here.
    fn open_epoch(&mut self) {
        self.epoch += 1;
        self.entrance.advance_to(self.epoch);
        self.relations.advance_to(self.epoch);
    }

    /// Closes the present epoch and works until all of it is done.
    fn finish_epoch(&mut self) {
        self.open_epoch();
        let (probe, epoch) = (&self.probe, &self.epoch);
        self.worker.step_while(|| probe.less_than(epoch));
        let now = [self.epoch];
        let now = timely::progress::frontier::AntichainRef::new(&now);
        self.contexts.set_logical_compaction(now);
        self.contexts.set_physical_compaction(now);
    }

    /// Gives the state of an owned partition.
    ///
    /// Panics: when the graph does not own the partition.
    pub fn snapshot(&self, partition: Partition) -> PartitionState {
        let (seen, passed, kept) = (self.seen.borrow(), self.passed.borrow(), self.kept.borrow());
        let owned = "only an owned partition has a state";
        let kept = kept.get(&partition).expect(owned);
        PartitionState {
            log_time: kept.log_time,
            counts: kept.counts,
            registry: self.in_effect.get(&partition).expect(owned).clone(),
            seen: seen.get(&partition).expect(owned).save(),
            fleet: kept.fleet.save(),
            passed: passed.get(&partition).expect(owned).save(),
            suspensions: self.suspensions.borrow().get(&partition).expect(owned).clone(),
        }
    }

    /// Begins to meter the partition's uplinks at an offset; none are before. Nothing happens if it is not owned.
    pub fn meter_from(&mut self, partition: Partition, from: Offset) {
        if let Some(kept) = self.kept.borrow_mut().get_mut(&partition) {
            kept.tally = Tally::from(from);
        }
    }

    /// Gives what the uplinks within quotas came to since it was asked last, by tenant.
    pub fn take_metered(&self, partition: Partition) -> BTreeMap<TenantNo, Metered> {
        self.kept.borrow_mut().get_mut(&partition).map(|kept| kept.tally.take()).unwrap_or_default()
    }

    /// Gives what went which way since the partition's log began; nothing if it is not owned.
    pub fn counts(&self, partition: Partition) -> Counts {
        self.kept.borrow().get(&partition).map(|kept| kept.counts).unwrap_or_default()
    }

    /// Gives the decoders of the partition that are suspended, by tenant and decoder; nothing if it is not owned.
    ///
    /// Cost: no allocation while there are none.
    pub fn suspended(&self, partition: Partition) -> Vec<Suspended> {
        self.suspensions.borrow().get(&partition).map(|suspensions| suspensions.suspended().collect()).unwrap_or_default()
    }

    /// Whether some bucket of the partition is open, so that log time has to pass in it.
    pub fn has_open_state(&self, partition: Partition) -> bool {
        self.kept.borrow().get(&partition).is_some_and(|kept| kept.fleet.has_open())
    }

    /// Gives the newest measurement of each series of a device, in the order of series; nothing if
    /// the device is not in effect in an owned partition.
    pub fn latest(&self, tenant: TenantNo, device: &DeviceId) -> Vec<Latest> {
        let found =
            self.in_effect.iter().find_map(|(partition, in_effect)| Some((partition, in_effect.device_no(tenant, device)?)));
        let Some((partition, device)) = found else { return Vec::new() };
        let kept = self.kept.borrow();
        let slots = kept.get(partition).map_or(&[][..], |kept| kept.fleet.slots(device)).iter().enumerate();
        slots
            .filter_map(|(place, slot)| {
                let (at, value) = slot.newest()?;
                let unit = slot.terms.unit.as_deref().map(Into::into);
                Some(Latest { series: series(device, place), field: slot.terms.field.clone(), unit, at, value })
            })
            .collect()
    }

    /// Gives the partials that are not emitted yet, in the order asked for and by start. A day is
    /// given merged with those of its hours that are open.
    pub fn open_partials(&self, series: &[SeriesId], level: BucketLevel) -> Vec<Partial> {
        let mut kept = self.kept.borrow_mut();
        let mut partials = Vec::new();
        for &series in series {
            partials.extend(kept.values_mut().flat_map(|kept| kept.fleet.open_partials(series, level)));
        }
        partials
    }

    /// Gives how much the graph holds.
    pub fn held(&self) -> Held {
        let mut held = Held::default();
        self.seen.borrow().values().for_each(|seen| held.devices_seen += seen.device_count());
        self.passed.borrow().values().for_each(|passed| held.devices_thinned += passed.device_count());
        self.kept.borrow().values().for_each(|kept| held.devices_tracked += kept.fleet.device_count());
        self.contexts.map_spans(|span| held.context_updates += span.inner.as_ref().map_or(0, SpineBatch::len));
        held
    }
}
