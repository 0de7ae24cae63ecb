//! The operators of the graph, one a file, named for what they do.
//!
//! | file | takes | gives |
//! |---|---|---|
//! | [`relate`] | devices, templates, tenants | what is in effect for each device, arranged |
//! | [`lookup`] | uplinks as the log holds them, the arrangement | uplinks with what was in effect at their offset |
//! | [`dedup`] | the same | the first copy of each |
//! | [`thin`] | the same | of those over a quota that is thinned, one of each device in an interval |
//! | [`decode`] | the same | measurements with storable values and credible times, or why not |
//! | [`keep`] | measurements | rows, in the hands of the graph's owner: what changed, closed buckets, catalogue, quarantine |
//!
//! Channels are pipelines: a record never leaves its worker. All but `lookup` take elements as they
//! come, hold no capability between activations, and so never hold back the frontier. State lives
//! in cells keyed by partition, so that the graph's owner can take and give it between runs.

pub(crate) mod decode;
pub(crate) mod dedup;
pub(crate) mod keep;
pub(crate) mod lookup;
pub(crate) mod relate;
pub(crate) mod thin;

use crate::element::{Element, Epoch};
use crate::model::Partition;
use crate::series::fleet::GROUP;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;

/// The state of one operator, by partition; shared with the graph's owner, who looks at it between runs.
pub(crate) type Shared<S> = Rc<RefCell<BTreeMap<Partition, S>>>;

/// A stream of records.
pub(crate) type Elements<'scope, U> = StreamVec<'scope, Epoch, Element<U>>;

/// An output that fills vectors.
pub(crate) type Builder<T> = CapacityContainerBuilder<Vec<T>>;

/// Runs `each` on every element as it comes and passes on what it gives.
///
/// The initial capability is dropped at once: output is sent under the capabilities of the input
/// only, and nothing is held between activations.
pub(crate) fn each<'scope, U: 'static, V: Clone + 'static>(
    elements: Elements<'scope, U>,
    name: &str,
    each: impl FnMut(Element<U>) -> Element<V> + 'static,
) -> Elements<'scope, V> {
    each_after(|_| {}, elements, name, each)
}

/// As [`each`]; `ahead` sees the elements of a group before, for what is cheaper to do of them together.
pub(crate) fn each_after<'scope, U: 'static, V: Clone + 'static>(
    mut ahead: impl FnMut(&[Element<U>]) + 'static,
    elements: Elements<'scope, U>,
    name: &str,
    mut each: impl FnMut(Element<U>) -> Element<V> + 'static,
) -> Elements<'scope, V> {
    elements.unary::<Builder<Element<V>>, _, _, _>(Pipeline, name, |initial, _info| {
        drop(initial);
        move |input, output| {
            input.for_each(|capability, elements| {
                let mut session = output.session(&capability);
                in_groups(elements, &mut ahead, |element| session.give(each(element)));
            });
        }
    })
}

/// Takes the elements out, group by group.
pub(crate) fn in_groups<T>(elements: &mut Vec<T>, mut ahead: impl FnMut(&[T]), mut each: impl FnMut(T)) {
    let mut elements = elements.drain(..);
    while !elements.as_slice().is_empty() {
        let rest = elements.as_slice();
        ahead(&rest[..rest.len().min(GROUP)]);
        elements.by_ref().take(GROUP).for_each(&mut each);
    }
}
