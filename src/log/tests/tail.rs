//! Torn tails: what was being written when the power went is cut off, and nothing else is.

use super::*;

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 3);
    let name = "000000000001.seg";
    let content = |sim: &Sim| sim.files().into_iter().find(|(file, _)| file == name).unwrap().1;
    let (before, end_before) = (sim.killed(), log.status().bytes as usize);
    fill(&log, 1);
    let (after, end_after) = (content(&sim), log.status().bytes as usize);
    for cut in end_before..=end_after {
        let torn = before.killed();
        torn.tamper(name, |bytes| bytes[end_before..cut].copy_from_slice(&after[end_before..cut]));
        let (log, recovery) = open_with(&torn, options()).unwrap();
        let whole = cut == end_after || after[cut..end_after].iter().all(|byte| *byte == 0);
        let left = after[end_before..cut].iter().rposition(|byte| *byte != 0).map_or(0, |at| at as u64 + 1);
        assert_eq!(recovery.torn_bytes, if whole { 0 } else { left }, "cut at {cut}");
        let kept = if whole { 4 } else { 3 };
        assert_numbered(&log, kept);
        let killed = open_with(&torn.killed(), options()).unwrap().1;
        assert_eq!((killed.torn_bytes, killed.records), (0, 3 * kept), "cut at {cut}: it stays cut off");
        fill(&log, 4);
        drop(log);
        assert_numbered(&open_sim(&torn), kept + 4);
    }
}

#[test]
fn what_was_never_synced_is_durable_before_it_is_readable() {
    // The process is killed between write and sync, or its sync fails: the whole frame can be read, and its
    // records are published. Whatever a later loss of power takes, it must not take those.
    for fails in [false, true] {
        for seed in 0..64u64 {
            let sim = Sim::default();
            let log = open_sim(&sim);
            fill(&log, 2);
            sim.faults(|f| (f.hold_syncs, f.sync) = (true, fails));
            let append = std::thread::spawn({
                let log = log.clone();
                move || log.append_blocking((0..3).map(|p| numbered(p, 2)).collect())
            });
            sim.wait_for_held_syncs(1);
            let killed = if fails {
                sim.faults(|f| f.hold_syncs = false);
                append.join().unwrap().unwrap_err();
                sim.killed()
            } else {
                let killed = sim.killed();
                sim.faults(|f| f.hold_syncs = false);
                append.join().unwrap().unwrap();
                killed
            };
            assert_numbered(&open_sim(&killed), 3);
            let mut state = seed;
            let off = killed.powered_off(|below| {
                state = state * 1_103_515_245 % 2_147_483_647 + 12_345;
                (state >> 8) as u32 % below
            });
            assert_numbered(&open_sim(&off), 3);
        }
    }
}

#[test]
fn a_payload_cannot_pass_for_a_frame() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 3);
    // A frame of the same shape, but of a log with another salt, sent as the payload of a torn frame.
    let mut forged = vec![];
    let head = (crate::log::frame::Kind::Data, 9, LogTime(9));
    crate::log::frame::encode(&mut forged, 0x0bad, head, &[], std::iter::empty());
    let end = log.status().bytes as usize;
    log.append_blocking(vec![record(0, &forged)]).unwrap();
    let torn = sim.killed();
    torn.tamper("000000000001.seg", |bytes| bytes[end] ^= 1);
    assert_numbered(&open_sim(&torn), 3);
}
