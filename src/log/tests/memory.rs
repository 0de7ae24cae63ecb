//! The memory of read blocks: used again when nobody needs it, and never before.

use super::*;

#[test]
fn a_block_that_is_worked_off_lends_its_memory_to_the_next() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 200);
    let spare = || log.inner.shared.spare().capacity();
    let held = read_all(&log, 0);
    assert_eq!(spare(), 0, "every block is shared by records that somebody holds");
    drop(held);
    let (mut at, mut records, mut lent) = (Offset(0), vec![], false);
    while at < log.end(Partition(0)) {
        records.clear();
        at = log.read(Partition(0), at, 1, &mut records).unwrap();
        lent |= spare() > 0;
    }
    assert!(lent, "more blocks were read than are kept");
    assert_numbered(&log, 200);
}
