//! Keeps what changed and rolls up the rest: change and rollup, fused on one per-series state.
//! Invariant: every record is counted once, and what is due is emitted before the record's own effect.

use super::{Builder, Elements, Shared, in_groups};
use crate::decode::Rejected;
use crate::element::{Body, Cause, Element, Epoch, Measured, Outcome};
use crate::limits::REFUSED_ROWS_PER_UPLINK_MAX;
use crate::model::{
    Attempt, CatalogueDevice, Counts, LogTime, Outputs, Partition, Placed, Quarantined, Record, Released, Retry, Uplink,
};
use crate::series::fleet::Fleet;
use crate::tally::Tally;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

/// Makes rows of the elements and puts them into the hands of the graph's owner, behind those that are in `rows`.
/// Nothing flows out: the frontier of the output tells of which epochs all rows are there.
///
/// State: [`Kept`], per partition. Cost: one map lookup an uplink, then a few nanoseconds and the
/// row for each measurement.
pub(crate) fn keep<'scope>(
    elements: Elements<'scope, Outcome>,
    kept: Shared<Kept>,
    rows: Rc<RefCell<Outputs>>,
) -> StreamVec<'scope, Epoch, ()> {
    elements.unary::<Builder<()>, _, _, _>(Pipeline, "Keep", move |initial, _info| {
        drop(initial);
        move |input, _output| {
            input.for_each(|_capability, elements| {
                let mut rows = rows.borrow_mut();
                in_groups(
                    elements,
                    |ahead| fetch(&kept.borrow(), ahead),
                    |element| {
                        let (partition, mut kept) = (element.cause.partition, kept.borrow_mut());
                        let kept = kept.get_mut(&partition).expect("records of partitions that are not owned never enter");
                        kept.take(element, &mut rows);
                    },
                );
            });
        }
    })
}

/// Fetches the series of the elements' devices.
fn fetch(kept: &BTreeMap<Partition, Kept>, elements: &[Element<Outcome>]) {
    for of_partition in elements.chunk_by(|one, next| one.cause.partition == next.cause.partition) {
        let device = |element: &Element<Outcome>| match &element.body {
            Body::Uplink(Outcome::Measured(measured)) => Some(measured.context.device.no),
            _ => None,
        };
        if let Some(kept) = kept.get(&of_partition[0].cause.partition) {
            kept.fleet.fetch(of_partition.iter().filter_map(device));
        }
    }
}

/// What is kept of a partition; all but the tally is part of its state.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) log_time: LogTime,
    pub(crate) counts: Counts,
    pub(crate) fleet: Fleet,
    pub(crate) tally: Tally,
}

impl Kept {
    fn take(&mut self, element: Element<Outcome>, rows: &mut Outputs) {
        let Element { cause, retried, charged, body } = element;
        self.log_time = cause.log_time;
        let measurements_before = self.counts.measurements;
        self.fleet.close_due(&cause, rows);
        if let Some(last) = &retried {
            let Attempt { offset, log_time, field, .. } = (**last).clone();
            rows.released.push(cause.place(Released { offset, log_time, field }));
        }
        match body {
            Body::Uplink(Outcome::Measured(measured)) => self.measured(&cause, retried, *measured, rows),
            Body::Uplink(Outcome::SetAside { uplink, reason, detail }) => {
                self.counts.uplinks += 1;
                self.counts.uplinks_quarantined += 1;
                let (tenant, device) = (uplink.tenant, uplink.device.clone());
                let (log_time, field) = (cause.log_time, retried.as_ref().and_then(|last| last.field.clone()));
                let record = encoded(uplink, retried);
                rows.quarantined.push(cause.place(Quarantined { log_time, tenant, device, field, reason, detail, record }));
            }
            Body::Duplicate => {
                self.counts.uplinks += 1;
                self.counts.duplicate += 1;
            }
            Body::Thinned => {
                self.counts.uplinks += 1;
                self.counts.thinned += 1;
            }
            Body::Closed(device) => self.fleet.forget(device, &cause, rows),
            Body::Provisioned { device, closed } => {
                if let Some(closed) = closed {
                    self.fleet.forget(closed, &cause, rows);
                }
                rows.devices.push(cause.place(CatalogueDevice((*device).clone())));
            }
            Body::Retired(_) | Body::Nothing => {}
        }
        if let Some(tenant) = charged {
            self.tally.count(&cause, tenant, self.counts.measurements - measurements_before);
        }
    }

    fn measured(&mut self, cause: &Cause, retried: Option<Box<Attempt>>, measured: Measured, rows: &mut Outputs) {
        let Measured { uplink, context, accepted, mut refused } = measured;
        let Self { counts, fleet, .. } = self;
        counts.uplinks += 1;
        counts.uplinks_decoded += 1;
        counts.measurements += (accepted.len() + refused.len()) as u64;
        fleet.measure(cause, &context, &accepted, &mut refused, counts, rows);
        counts.measurements_quarantined += refused.len() as u64;
        if !refused.is_empty() {
            set_fields_aside(cause, uplink, retried, refused, rows);
        }
    }
}

/// Makes a row of quarantine for each refused field, up to a limit; the last one tells how many
/// there were beyond it.
fn set_fields_aside(
    cause: &Cause,
    uplink: Box<Uplink>,
    retried: Option<Box<Attempt>>,
    mut refused: Vec<Rejected>,
    rows: &mut Outputs,
) {
    let beyond = refused.len().saturating_sub(REFUSED_ROWS_PER_UPLINK_MAX);
    refused.truncate(REFUSED_ROWS_PER_UPLINK_MAX);
    if let Some(last) = refused.last_mut().filter(|_| beyond > 0) {
        last.detail.push_str(&format!(" ({beyond} more fields of this uplink were refused)"));
    }
    let (tenant, device) = (uplink.tenant, uplink.device.clone());
    let record = encoded(uplink, retried);
    for Rejected { field, reason, detail } in refused {
        rows.quarantined.push(cause.place(Quarantined {
            log_time: cause.log_time,
            tenant,
            device: device.clone(),
            field: Some(field),
            reason,
            detail,
            record: record.clone(),
        }));
    }
}

/// Gives the record of an uplink, or of the retry of one.
fn encoded(uplink: Box<Uplink>, retried: Option<Box<Attempt>>) -> Vec<u8> {
    let record = match retried {
        None => Record::Uplink(uplink),
        Some(last) => Record::Retry(Box::new(Retry { last: *last, uplink: *uplink })),
    };
    postcard::to_stdvec(&record).expect("a record is plain data, which postcard always encodes")
}

impl Cause {
    /// Ascribes a row to this record.
    pub(crate) fn place<T>(&self, row: T) -> Placed<T> {
        Placed { partition: self.partition, offset: self.offset, row }
    }
}
