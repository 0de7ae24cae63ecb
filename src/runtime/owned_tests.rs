use super::*;
use crate::log::{self, Clock, LogOptions, NewRecord};
use crate::runtime::checkpoint::Beginning;
use dataflows::model::{EventTime, RegistryChange, Uplink};
use std::path::Path;
use std::time::Duration;

const PARTITION: Partition = Partition(1);

fn open(dir: &Path) -> Log {
    Log::open(dir, LogOptions { partitions: 2, ..LogOptions::default() }, Clock::system()).unwrap().0
}

fn append(log: &Log, bodies: &[Vec<u8>]) {
    let record = |body: &Vec<u8>| NewRecord { partition: PARTITION, body: body.clone() };
    log.append_blocking(bodies.iter().map(record).collect()).unwrap();
}

fn tick() -> Vec<u8> {
    codec::encode(&Record::Tick)
}

fn owned(committed: u64) -> Owned {
    let checkpoint = (Offset(0), Beginning::default());
    let assumed = Assumed { partition: PARTITION, owner_epoch: 1, committed: Offset(committed), checkpoint };
    Owned::assume(&assumed, LogTime::default(), BTreeSet::new(), Instant::now())
}

fn take(owned: &mut Owned, log: &Log, run_entries: usize) -> Result<Piece, WorkerError> {
    let mut piece = Piece::default();
    let pace = Pace { run_entries, ..Pace::default() };
    owned.take(log, &pace, &mut piece).map(|()| piece)
}

#[test]
fn records_come_in_pieces_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, &vec![tick(); 10]);
    let mut owned = owned(0);
    for (expected, next) in [(vec![0, 1, 2, 3], 4), (vec![4, 5, 6, 7], 8), (vec![8, 9], 10), (vec![], 10)] {
        let offsets: Vec<_> = take(&mut owned, &log, 4).unwrap().entries.iter().map(|e| e.offset.0).collect();
        assert_eq!((offsets, owned.next), (expected, Offset(next)));
    }
    append(&log, &[tick()]);
    assert_eq!(take(&mut owned, &log, 4).unwrap().entries.len(), 1, "the log went on");
}

#[test]
fn what_was_lost_is_named_once_and_passed() {
    /// With the records below `committed` in the database; gives where the row of the lost ones stands.
    fn check(committed: u64) -> Option<u64> {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        for _ in 0..3 {
            append(&log, &[tick(), tick()]);
        }
        drop(log);
        let segment = dir.path().join("000000000001.seg");
        let mut bytes = std::fs::read(&segment).unwrap();
        // The second frame is no more what was written.
        let damaged = bytes.windows(2).enumerate().filter(|(_, window)| *window == tick()).map(|(at, _)| at).nth(2).unwrap();
        bytes[damaged] ^= 1;
        std::fs::write(&segment, bytes).unwrap();
        log::set_aside(dir.path()).unwrap();
        let log = open(dir.path());

        let mut owned = owned(committed);
        let piece = take(&mut owned, &log, 100).unwrap();
        let offsets: Vec<_> = piece.entries.iter().map(|e| e.offset.0).collect();
        assert_eq!((offsets, owned.next), (vec![0, 1, 4, 5], Offset(6)));
        for row in &piece.set_aside {
            assert!(row.row.detail.contains("2..4 of partition 1 were lost"), "{}", row.row.detail);
            assert_eq!((row.row.reason, row.row.log_time), (Reason::BadRecord, piece.entries[1].log_time));
        }
        piece.set_aside.first().map(|row| row.offset.0)
    }
    assert_eq!(check(0), Some(2));
    assert_eq!(check(3), Some(3), "the database has the first of them");
    assert_eq!(check(4), None, "the database has them all");
}

#[test]
fn only_a_record_that_stands_for_itself_is_passed_over() {
    let uplink = Uplink {
        tenant: TenantNo(1),
        device: DeviceId::parse("pump").unwrap(),
        received_at: EventTime(0),
        fport: None,
        fcnt: None,
        message_id: None,
        frame: vec![],
        decoded: None,
        receptions: vec![],
    };
    let mut cut_uplink = codec::encode(&Record::Uplink(Box::new(uplink)));
    cut_uplink.pop();
    let mut cut_registry = codec::encode(&Record::Registry(Box::new(RegistryChange::TenantRemoved(TenantNo(1 << 20)))));
    cut_registry.pop();

    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    append(&log, &[tick(), cut_uplink.clone(), vec![], tick()]);
    let piece = take(&mut owned(0), &log, 100).unwrap();
    assert_eq!(piece.entries.len(), 4, "each passes as time");
    let set_aside: Vec<_> = piece.set_aside.iter().map(|row| (row.offset.0, row.row.record.clone())).collect();
    assert_eq!(set_aside, [(1, cut_uplink), (2, vec![])]);

    for (body, words) in [(vec![9, 2], "run the version that wrote it"), (cut_registry, "cannot be read")] {
        let dir = tempfile::tempdir().unwrap();
        let log = open(dir.path());
        append(&log, &[tick(), body]);
        let error = take(&mut owned(0), &log, 100).err().expect("it stops").to_string();
        assert!(error.contains("record 1 of partition 1") && error.contains(words), "{error}");
    }
}

#[test]
fn a_checkpoint_is_due_by_what_a_replay_costs_and_by_age_where_the_log_is_worked_off() {
    let pace = Pace { checkpoint_records: 100, checkpoint_age: Duration::from_secs(300), ..Pace::default() };
    let (young, old) = (Duration::from_secs(299), Duration::from_secs(300));
    /// A partition that has run `ran` records since its checkpoint, in a log of `end`.
    fn is_due(pace: &Pace, ran: u64, end: u64, age: Duration, last: bool) -> bool {
        let owned = Owned { next: Offset(ran), ..owned(0) };
        owned.is_due(pace, Offset(end), Some(owned.checkpointed_at + age), last)
    }
    assert!(is_due(&pace, 100, 1000, young, false), "a replay would read many");
    assert!(!is_due(&pace, 99, 1000, old, false), "a long backlog costs no checkpoint a commit");
    assert!(is_due(&pace, 1, 1, old, false), "the log is kept from there on");
    assert!(!is_due(&pace, 1, 1, young, false));
    assert!(is_due(&pace, 1, 1, young, true));
    assert!(!is_due(&pace, 0, 0, old, true), "there is nothing new");
    let replaying = Owned { next: Offset(100), ..owned(101) };
    assert!(
        !replaying.is_due(&pace, Offset(200), Some(replaying.checkpointed_at + old), true),
        "its state is no newer than the last"
    );
}
