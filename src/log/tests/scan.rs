//! Scanning: all partitions in one pass, from where each of them wants.

use super::*;
use crate::log::disk::Disk;

/// What a scan gives, in its order.
fn scanned(log: &Log, from: [u64; 3]) -> Result<Vec<(u16, u64, Vec<u8>)>, ReadError> {
    let mut records = vec![];
    log.scan(&from.map(Offset), |record| records.push((record.partition.0, record.offset.0, record.body.to_vec())))?;
    Ok(records)
}

#[test]
fn a_scan_gives_what_reading_gives_in_the_order_of_the_log() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 60);
    assert!(log.status().segments > 3);
    for from in [[0, 0, 0], [60, 60, 60], [0, 60, 59], [30, 10, 99]] {
        let expected = (0..60).flat_map(|offset| (0..3).map(move |p| (p, offset)));
        let expected = expected.filter(|(p, offset)| *offset >= from[usize::from(*p)]);
        let expected: Vec<_> = expected.map(|(p, offset)| (p, offset, numbered(p, offset).body)).collect();
        assert_eq!(scanned(&log, from).unwrap(), expected, "{from:?}");
    }
    log.truncate_below(&[Offset(30); 3]).unwrap();
    let start = log.start(Partition(1)).0;
    assert!(start > 0);
    assert_eq!(scanned(&log, [60, 0, 60]).unwrap().first().map(|first| first.1), Some(start), "it begins at the start");
}

#[test]
fn a_scan_opens_only_the_segments_that_hold_something_wanted() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 60);
    sim.tamper("000000000001.seg", |bytes| bytes.fill(0));
    assert_eq!(scanned(&log, [50, 50, 50]).unwrap().len(), 30);
    let error = scanned(&log, [0, 50, 50]).unwrap_err();
    assert!(matches!(error, ReadError::Damaged { segment: 1, from: Offset(0), .. }), "{error}");
}

#[test]
fn a_scan_passes_over_what_was_set_aside() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 60);
    drop(log);
    sim.remove("000000000002.seg").unwrap();
    let lost = open::set_aside_on(&sim).unwrap().remove(0).lost[0];
    let log = open_sim(&sim);
    let got: Vec<u64> = scanned(&log, [0, 60, 60]).unwrap().into_iter().map(|(_, offset, _)| offset).collect();
    let kept: Vec<u64> = (0..60).filter(|offset| !(lost.from.0..lost.to.0).contains(offset)).collect();
    assert_eq!(got, kept);
}
