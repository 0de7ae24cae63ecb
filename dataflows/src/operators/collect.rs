//! Hands the rows to the graph's owner, who takes them between runs.

use crate::element::Epoch;
use crate::model::Outputs;
use std::cell::RefCell;
use std::rc::Rc;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::Probe;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::{ProbeHandle, StreamVec};

/// Appends all rows to `collected`; `probe` tells when an epoch's are complete.
pub(crate) fn collect<'scope>(
    rows: StreamVec<'scope, Epoch, Outputs>,
    collected: Rc<RefCell<Outputs>>,
    probe: &ProbeHandle<Epoch>,
) {
    let done = rows.unary::<super::Builder<()>, _, _, _>(Pipeline, "Collect", move |initial, _info| {
        drop(initial);
        move |input, _output| {
            input.for_each(|_capability, rows| {
                let mut collected = collected.borrow_mut();
                rows.drain(..).for_each(|mut rows| collected.append(&mut rows));
            });
        }
    });
    done.probe_with(probe);
}
