//! Gives each uplink what was in effect for its device at its offset. Invariant: an element waits
//! until the arrangement is complete through its epoch, and sees nothing of later epochs.

use super::relate::{ContextTrace, Contexts};
use super::{Builder, Elements};
use crate::element::{Arrived, Body, Context, ContextKey, Element, Epoch, Known};
use differential_dataflow::trace::cursor::cursor_list;
use differential_dataflow::trace::{BatchCursor, Cursor, TraceReader};
use std::collections::VecDeque;
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

/// A view of the arrangement, good for the batches that are in it now.
struct Reader {
    cursor: differential_dataflow::trace::cursor::CursorList<BatchCursor<ContextTrace>>,
    batches: Vec<<ContextTrace as TraceReader>::Batch>,
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
        self.cursor.rewind_keys(&self.batches);
        let mut contexts = vec![None; elements.len()];
        for (key, place, arrived) in uplinks {
            contexts[place] = self.context(&key, arrived, epoch);
        }
        contexts
    }

    /// Gives what was in effect under `key`, which is not below the last one asked for.
    fn context(&mut self, key: &ContextKey, arrived: &Arrived, epoch: Epoch) -> Option<Arc<Context>> {
        let Self { cursor, batches } = self;
        cursor.seek_key(batches, key);
        if cursor.get_key(batches) != Some(key) {
            return None;
        }
        cursor.rewind_vals(batches);
        while let Some(context) = cursor.get_val(batches) {
            let mut times = 0;
            cursor.map_times(batches, |at, by| {
                if *at <= epoch {
                    times += by;
                }
            });
            if times > 0 && context.device.id == arrived.uplink.device {
                return Some(context.clone());
            }
            cursor.step_val(batches);
        }
        None
    }
}
