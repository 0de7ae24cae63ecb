//! Rot: it is found at the opening or at the reading, named exactly, and can be set aside.

use super::*;
use crate::log::LostRange;
use crate::log::frame::Frame;
use crate::log::header::Header;

/// Sixty records in each partition, in a few segments, closed in order.
fn closed_log() -> Sim {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 60);
    assert!(log.status().segments >= 4);
    drop(log);
    sim
}

#[test]
fn no_flipped_bit_gives_wrong_bytes_or_silent_loss() {
    let seed = 0x1234_5678_u64;
    let mut state = seed;
    let mut random = move |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let good = closed_log();
    let closing = (last(&good), frames(&good, &last(&good)).last().unwrap().0);
    let (mut refused, mut found) = (0, 0);
    for round in 0..400 {
        let sim = good.killed();
        // What is set aside for the next MARK says nothing yet.
        let files: Vec<_> = sim.files().into_iter().filter(|(name, _)| !name.ends_with(".tmp")).collect();
        let (name, content) = &files[random(files.len())];
        let bit = random(content.len() * 8);
        sim.tamper(name, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let at = format!("seed {seed}, round {round}: {name} bit {bit}");
        let Ok((log, _)) = open_with(&sim, options()) else {
            refused += 1;
            continue;
        };
        let mut errors = 0;
        for p in 0..3 {
            assert_eq!(log.end(Partition(p)), Offset(60), "{at}");
            let (records, error) = read_all(&log, p);
            errors += u32::from(error.is_some());
            assert!(error.is_some() || records.len() == 60, "{at}");
            for (record, offset) in records.iter().zip(0..) {
                assert_eq!((record.offset, &record.body[..]), (Offset(offset), &numbered(p, offset).body[..]), "{at}");
            }
        }
        // The frame that closes the log holds no record: rot in it costs none, and may pass for a torn tail.
        assert!(errors > 0 || (*name == closing.0 && bit / 8 >= closing.1), "{at}");
        found += 1;
    }
    assert!(refused > 0 && found > 0, "{refused} refused, {found} found at read");
}

/// Where the frames of a segment are, and what they hold of partition 0.
fn frames(sim: &Sim, name: &str) -> Vec<(usize, usize, u64)> {
    let content = sim.files().into_iter().find(|(file, _)| file == name).unwrap().1;
    let mut at = Header::bytes(3);
    let mut frames = vec![];
    while let Some(frame) = Frame::parse(&content[at..], identity().salt) {
        frames.push((at, at + frame.bytes(), frame.parts.first().map_or(0, |part| part.first)));
        at += frame.bytes();
    }
    frames
}

/// Damages a closed log, and expects the lost range in each partition: at the opening or, if it is in a
/// sealed segment's bodies, at the reading; then sets it aside, and expects all other records.
fn check(damage: impl FnOnce(&Sim), lost: std::ops::Range<u64>) {
    let sim = closed_log();
    damage(&sim);
    match open_with(&sim, options()) {
        Ok((log, _)) => {
            let errors: Vec<_> = (0..3).filter_map(|p| read_all(&log, p).1).collect();
            assert!(errors.iter().any(|error| matches!(error, ReadError::Damaged { .. })), "{errors:?}");
        }
        Err(OpenError::Damaged(damages)) => {
            let ranges: Vec<LostRange> = damages.into_iter().flat_map(|damage| damage.lost).collect();
            assert_eq!(ranges, expected(&lost));
        }
        Err(error) => panic!("{error}"),
    }
    let damages = open::set_aside_on(&sim).unwrap();
    assert!(!damages.is_empty());
    assert_eq!(open::set_aside_on(&sim).unwrap(), [], "nothing is left to mend");
    for _ in 0..2 {
        let (log, recovery) = open_with(&sim, options()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(recovery.lost, expected(&lost));
        assert_eq!((log.status().lost, open::status_of(&sim).unwrap().lost), (expected(&lost), expected(&lost)));
        let end = log.end(Partition(0)).0;
        for p in 0..3 {
            let (before, error) = read_all(&log, p);
            let mut offsets: Vec<u64> = before.iter().map(|record| record.offset.0).collect();
            if !lost.is_empty() {
                let Some(ReadError::Gap { from, to, .. }) = error else { panic!("{error:?}") };
                assert_eq!((from.0, to.0), (lost.start, lost.end));
                let mut behind = vec![];
                assert_eq!(log.read(Partition(p), to, usize::MAX, &mut behind).unwrap(), Offset(end));
                offsets.extend(behind.iter().map(|record| record.offset.0));
            }
            let kept: Vec<u64> = (0..end).filter(|offset| !lost.contains(offset)).collect();
            assert_eq!(offsets, kept, "partition {p}");
        }
        fill(&log, 20);
    }
}

fn expected(lost: &std::ops::Range<u64>) -> Vec<LostRange> {
    let range = |p| LostRange { partition: Partition(p), from: Offset(lost.start), to: Offset(lost.end), exact: true };
    if lost.is_empty() { vec![] } else { (0..3).map(range).collect() }
}

const FIRST: &str = "000000000001.seg";
const SECOND: &str = "000000000002.seg";

fn last(sim: &Sim) -> String {
    sim.files().into_iter().map(|(name, _)| name).filter(|name| name.ends_with(".seg")).max().unwrap()
}

#[test]
fn damage_is_named_and_set_aside() {
    let good = closed_log();
    let [first, second] = [FIRST, SECOND].map(|name| frames(&good, name));
    let tail = frames(&good, &last(&good));
    let (at, end, offset) = second[2];
    // The records of a frame; its head; its head and the frame behind it.
    check(|sim| sim.tamper(SECOND, |bytes| bytes[end - 12] ^= 1), offset..offset + 1);
    check(|sim| sim.tamper(SECOND, |bytes| bytes[at + 9] ^= 1), offset..offset + 1);
    check(|sim| sim.tamper(SECOND, |bytes| bytes[at..end + 9].fill(0)), offset..offset + 2);
    // A header costs nothing.
    check(|sim| sim.tamper(SECOND, |bytes| bytes[20] ^= 1), 0..0);
    check(|sim| sim.tamper(FIRST, |bytes| bytes[20] ^= 1), 0..0);
    // A segment that is cut short, is empty, or begins with the first.
    check(|sim| sim.tamper(SECOND, |bytes| bytes.truncate(at)), offset..second.last().unwrap().2 + 1);
    check(|sim| sim.tamper(SECOND, Vec::clear), second[0].2..second.last().unwrap().2 + 1);
    check(|sim| sim.tamper(FIRST, Vec::clear), 0..first.last().unwrap().2 + 1);
    check(|sim| crate::log::disk::Disk::remove(sim, SECOND).unwrap(), second[0].2..second.last().unwrap().2 + 1);
    // The last segment, where the last frame is proved by the log's having been closed.
    let last_records = tail[tail.len() - 2];
    check(|sim| sim.tamper(&last(sim), |bytes| bytes[tail[0].0 + 9] ^= 1), tail[0].2..tail[0].2 + 1);
    check(|sim| sim.tamper(&last(sim), |bytes| bytes[last_records.1 - 12] ^= 1), last_records.2..60);
}

#[test]
fn a_segment_that_is_cut_short_is_refused_at_the_opening() {
    for name in [FIRST, SECOND] {
        let sim = closed_log();
        let end = frames(&sim, name).last().unwrap().1;
        sim.tamper(name, |bytes| bytes.truncate(end - 1));
        assert!(matches!(open_with(&sim, options()), Err(OpenError::Damaged(_))), "{name}");
    }
}

#[test]
fn a_damaged_file_is_kept() {
    let sim = closed_log();
    sim.tamper(SECOND, |bytes| bytes[20] ^= 1);
    let damaged = sim.files().into_iter().find(|(name, _)| name == SECOND).unwrap().1;
    open::set_aside_on(&sim).unwrap();
    assert!(sim.files().contains(&(format!("damaged/{SECOND}"), damaged)));
}

#[test]
fn where_the_end_is_unknown_offsets_are_not_given_out_twice() {
    let sim = closed_log();
    let name = last(&sim);
    let records = frames(&sim, &name);
    let (at, ..) = records[records.len() - 2];
    sim.tamper(&name, |bytes| bytes[at + 9] ^= 1);
    let damages = open::set_aside_on(&sim).unwrap();
    let log = open_sim(&sim);
    for lost in damages.iter().flat_map(|damage| &damage.lost) {
        assert!(!lost.exact && lost.from == Offset(59) && lost.to >= Offset(60), "{lost:?}");
        assert_eq!(log.end(lost.partition), lost.to);
    }
}

#[test]
fn a_log_without_its_last_segments_or_files_is_refused() {
    let remove = |sim: &Sim, name: &str| crate::log::disk::Disk::remove(sim, name).unwrap();
    let refused = |damage: &dyn Fn(&Sim)| {
        let sim = closed_log();
        damage(&sim);
        open_with(&sim, options()).err().unwrap()
    };
    let all = |sim: &Sim| {
        sim.files().iter().filter(|(name, _)| name.ends_with(".seg")).for_each(|(name, _)| remove(sim, name));
    };
    assert!(matches!(refused(&all), OpenError::EndUnknown(1)));
    assert!(matches!(refused(&|sim| remove(sim, "LOG")), OpenError::File { file: "LOG", .. }));
    assert!(matches!(refused(&|sim| remove(sim, "MARK")), OpenError::File { file: "MARK", .. }));
    assert!(matches!(refused(&|sim| sim.tamper("MARK", |bytes| bytes[9] ^= 1)), OpenError::File { file: "MARK", .. }));
}

#[test]
fn damage_behind_the_opening_is_found_at_the_reading() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 60);
    let (_, end, offset) = frames(&sim, SECOND)[3];
    sim.tamper(SECOND, |bytes| bytes[end - 12] ^= 1);
    for p in 0..3 {
        let (records, error) = read_all(&log, p);
        assert!(records.iter().zip(0..).all(|(record, o)| record.body == numbered(p, o).body));
        let named = matches!(error, Some(ReadError::Damaged { segment: 2, from, .. }) if from.0 <= offset);
        assert!(named, "{error:?}");
    }
}
