//! Gives each uplink what was in effect for its device at its offset. Invariant: an element waits
//! until the arrangement is complete through its epoch, and sees nothing of later epochs.

use super::relate::{ContextTrace, Contexts};
use super::{Builder, Elements};
use crate::element::{Arrived, Body, Context, ContextKey, Element, Epoch, Known};
use crate::model::Device;
use differential_dataflow::trace::cursor::{CursorList, cursor_list};
use differential_dataflow::trace::{BatchCursor, Cursor, TraceReader};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::hint::black_box;
use std::sync::Arc;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Capability;
use timely::dataflow::operators::generic::Operator;
use timely::progress::Antichain;

/// Looks up every uplink's device.
///
/// State: the elements that came ahead of the arrangement, at most those of one run. As the
/// elements' frontier advances, the arrangement is compacted up to it, so that it holds what is in
/// effect and not its history. Cost: one seek an uplink.
pub(crate) fn lookup<'scope>(elements: Elements<'scope, Arrived>, contexts: Contexts<'scope>) -> Elements<'scope, Known> {
    let mut trace = contexts.trace;
    elements.binary_frontier::<_, Builder<Element<Known>>, _, _, _, _>(
        contexts.stream,
        Pipeline,
        Pipeline,
        "Lookup",
        move |initial, _info| {
            drop(initial);
            let mut waiting: VecDeque<(Capability<Epoch>, Vec<Element<Arrived>>)> = VecDeque::new();
            move |(elements, elements_frontier), (batches, contexts_frontier), output| {
                // The batches are read through the trace; their arrival is what wakes the operator.
                batches.for_each(|_capability, batches| batches.clear());
                elements.for_each(|capability, elements| {
                    let Some(capability) = capability.retain_least(0) else { return };
                    match waiting.back_mut() {
                        Some((last, stash)) if last.time() == capability.time() => stash.append(elements),
                        _ => waiting.push_back((capability, std::mem::take(elements))),
                    }
                });
                if waiting.front().is_some_and(|(capability, _)| !contexts_frontier.less_equal(capability.time())) {
                    let mut reader = Reader::new(&mut trace);
                    while let Some((capability, elements)) =
                        waiting.pop_front_if(|(capability, _)| !contexts_frontier.less_equal(capability.time()))
                    {
                        let contexts = reader.contexts(&elements, *capability.time());
                        let mut session = output.session(&capability);
                        for (element, context) in elements.into_iter().zip(contexts) {
                            session.give(element.map_uplink(|_cause, arrived| Known { arrived, context }));
                        }
                        // The epoch's capability is released here, with its last element.
                    }
                }
                // What waits needs the arrangement as of its own epoch; nothing needs it before.
                let mut needed = elements_frontier.frontier().to_owned();
                needed.extend(waiting.front().map(|(capability, _)| *capability.time()));
                trace.set_logical_compaction(needed.borrow());
                trace.set_physical_compaction(contexts_frontier.frontier());
            }
        },
    )
}

type ContextCursor = CursorList<BatchCursor<ContextTrace>>;
type ContextBatch = <ContextTrace as TraceReader>::Batch;

/// A view of the arrangement, good for the batches that are in it now.
struct Reader {
    cursor: ContextCursor,
    batches: Vec<ContextBatch>,
}

impl Reader {
    fn new(trace: &mut ContextTrace) -> Self {
        let all = Antichain::new();
        let batches = trace.batches_through(all.borrow()).expect("an arrangement can always be read to its end");
        let (cursor, batches) = cursor_list(batches);
        Self { cursor, batches }
    }

    /// Gives what was in effect in `epoch` for the device of each element that is an uplink.
    fn contexts(&mut self, elements: &[Element<Arrived>], epoch: Epoch) -> Vec<Option<Arc<Context>>> {
        let uplinks = elements.iter().enumerate().filter_map(|(place, element)| match &element.body {
            Body::Uplink(arrived) => Some((ContextKey::new(element.cause.partition, arrived.key), place, arrived)),
            _ => None,
        });
        let mut uplinks: Vec<_> = uplinks.collect();
        uplinks.sort_unstable_by_key(|&(key, place, _)| (key, place));
        let Self { cursor, batches } = self;
        cursor.rewind_keys(batches);
        let mut candidates = Vec::with_capacity(uplinks.len());
        for (key, place, arrived) in uplinks {
            in_effect(cursor, batches, &key, epoch, |context| candidates.push((place, arrived, context)));
        }
        // What the names stand in is cold memory: it is waited for together, one pointer after the other.
        let devices = candidates.iter().map(|(_, _, context)| &*context.device);
        let devices: SmallVec<[&Device; 256]> = devices.collect();
        black_box(devices.iter().map(|device| device.id.as_str().len()).sum::<usize>());
        let mut contexts = vec![None; elements.len()];
        for (place, arrived, context) in candidates {
            if context.device.id == arrived.uplink.device {
                contexts[place].get_or_insert_with(|| Arc::clone(context));
            }
        }
        contexts
    }
}

/// Finds what was in effect under `key`, which is not below the last one asked for.
fn in_effect<'a>(
    cursor: &mut ContextCursor,
    batches: &'a Vec<ContextBatch>,
    key: &ContextKey,
    epoch: Epoch,
    mut found: impl FnMut(&'a Arc<Context>),
) {
    cursor.seek_key(batches, key);
    if cursor.get_key(batches) != Some(key) {
        return;
    }
    cursor.rewind_vals(batches);
    while let Some(context) = cursor.get_val(batches) {
        let mut times = 0;
        cursor.map_times(batches, |at, by| {
            if *at <= epoch {
                times += by;
            }
        });
        if times > 0 {
            found(context);
        }
        cursor.step_val(batches);
    }
}
