//! What the log promises while it runs: shared syncs, bounds, full disks, failing syncs, leaping clocks.

use super::*;
use crate::log::AppendError;
use std::sync::Mutex;
use std::sync::atomic::AtomicU32;

#[test]
fn what_waits_shares_a_sync_and_is_not_readable_before_it() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    let before = sim.syncs();
    sim.faults(|f| f.hold_syncs = true);
    let append = |i: u16| {
        let log = log.clone();
        std::thread::spawn(move || log.append_blocking(vec![record(i % 3, &[i as u8]), record(2, &[i as u8])]).unwrap())
    };
    let first = append(0);
    sim.wait_for_held_syncs(1);
    let others: Vec<_> = (1..40).map(append).collect();
    while log.queued_bytes() < 39 * 10 {
        std::thread::yield_now();
    }
    for p in 0..3 {
        assert_eq!((log.end(Partition(p)), read_all(&log, p).0), (Offset(0), vec![]));
    }
    sim.faults(|f| f.hold_syncs = false);
    let mut offsets: Vec<u64> = first.join().unwrap().iter().skip(1).map(|o| o.0).collect();
    offsets.extend(others.into_iter().map(|other| other.join().unwrap()[1].0));
    // 39 appends in one frame, 26 of them with two records of which one is in partition 0 or 1.
    assert_eq!(sim.syncs() - before, 2);
    offsets.sort_unstable();
    offsets.dedup();
    assert_eq!(offsets.len(), 40);
    assert_eq!(log.end(Partition(2)), Offset(40 + 13));
}

#[test]
fn each_sync_wakes() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    let (sender, ends) = std::sync::mpsc::channel();
    let shared = Arc::downgrade(&log.inner);
    log.on_durable(Arc::new(move || {
        let end = shared.upgrade().map(|inner| inner.shared.catalogue().end.next[0]);
        sender.send(end).unwrap();
    }));
    for end in 1..4 {
        fill(&log, 1);
        assert_eq!(ends.recv().unwrap(), Some(end));
    }
}

#[test]
fn senders_are_answered_before_anybody_is_woken() {
    let log = open_sim(&Sim::default());
    let (go_on, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    log.on_durable(Arc::new(move || _ = held.lock().unwrap().recv()));
    // Were the wake first, this would wait for ever.
    log.append_blocking(vec![numbered(0, 0)]).unwrap();
    drop(go_on);
}

#[test]
fn nobody_waits_for_a_writer_that_panicked() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    log.on_durable(Arc::new(|| panic!("a wake that is broken")));
    sim.faults(|f| f.hold_syncs = true);
    let append = |offset| {
        let log = log.clone();
        std::thread::spawn(move || log.append_blocking(vec![numbered(0, offset)]))
    };
    let first = append(0);
    sim.wait_for_held_syncs(1);
    let second = append(1);
    while log.queued_bytes() == 0 {
        std::thread::yield_now();
    }
    sim.faults(|f| f.hold_syncs = false);
    // Its own append was durable and answered before the wake.
    first.join().unwrap().unwrap();
    for refused in [second.join().unwrap(), log.append_blocking(vec![numbered(0, 2)])] {
        assert!(matches!(refused, Err(AppendError::Closed)), "{refused:?}");
    }
    assert_eq!(read_all(&log, 0).0.len(), 1, "what was synced stays readable");
}

#[test]
fn a_full_queue_is_busy_and_takes_more_later() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    sim.faults(|f| f.hold_syncs = true);
    let body = [7; 252];
    let spawn = || {
        let log = log.clone();
        std::thread::spawn(move || log.append_blocking(vec![record(0, &body)]))
    };
    let first = spawn();
    sim.wait_for_held_syncs(1);
    let waiting: Vec<_> = (0..16).map(|_| spawn()).collect();
    while log.queued_bytes() < 4096 {
        std::thread::yield_now();
    }
    let refused = log.append_blocking(vec![record(0, &body)]);
    assert!(matches!(refused, Err(AppendError::Busy { queued_bytes: 4096 })), "{refused:?}");
    sim.faults(|f| f.hold_syncs = false);
    first.join().unwrap().unwrap();
    waiting.into_iter().for_each(|waiting| _ = waiting.join().unwrap().unwrap());
    log.append_blocking(vec![record(0, &body)]).unwrap();
    assert_eq!(log.end(Partition(0)), Offset(18));
}

#[test]
fn appends_over_a_limit_are_refused() {
    let log = open_sim(&Sim::default());
    let check = |records: Vec<NewRecord>, expected: fn(&AppendError) -> bool| {
        let error = log.append_blocking(records).unwrap_err();
        assert!(expected(&error), "{error:?}");
    };
    check(vec![record(3, b"")], |e| matches!(e, AppendError::Partition { partitions: 3, .. }));
    check(vec![record(0, &[0; 257])], |e| matches!(e, AppendError::RecordTooLarge { bytes: 257, max: 256 }));
    check(vec![record(0, &[0; 200]), record(1, &[0; 250]), record(2, &[0; 51])], |e| {
        matches!(e, AppendError::AppendTooLarge { bytes: 513, max: 512 })
    });
    assert_eq!(log.append_blocking(vec![]).unwrap(), []);
    assert_eq!(log.append_blocking(vec![record(0, &[0; 254]), record(1, &[0; 250])]).unwrap(), [Offset(0), Offset(0)]);
}

#[test]
fn a_full_disk_loses_nothing_and_goes_on_by_itself() {
    no_space_loses_nothing(false);
}

#[test]
fn a_quota_loses_nothing_and_goes_on_by_itself() {
    no_space_loses_nothing(true);
}

fn no_space_loses_nothing(quota: bool) {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 5);
    sim.faults(|f| (f.space, f.quota) = (Some(2048 + 1024), quota));
    let mut count = 5;
    let refused = loop {
        match log.append_blocking((0..3).map(|p| numbered(p, count)).collect()) {
            Ok(_) => count += 1,
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused:?}");
    assert_numbered(&log, count);
    let again = log.append_blocking((0..3).map(|p| numbered(p, count)).collect());
    assert!(matches!(again, Err(AppendError::Full(_))), "{again:?}");
    sim.faults(|f| f.space = None);
    fill(&log, 20);
    drop(log);
    assert_numbered(&open_sim(&sim), count + 20);
}

#[test]
fn a_log_opens_and_is_truncated_on_a_full_disk() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 60);
    drop(log);
    let fill_disk = || {
        let full = sim.files().iter().map(|(_, content)| content.len()).sum();
        sim.faults(|f| f.space = Some(full));
    };
    fill_disk();
    let log = open_sim(&sim);
    assert_numbered(&log, 60);
    for low in [30, 50] {
        assert!(log.truncate_below(&[Offset(low); 3]).unwrap().segments > 0);
        fill_disk();
    }
    sim.faults(|f| f.space = None);
    fill(&log, 10);
    assert_numbered(&log, 70);
}

#[test]
fn a_truncation_writes_into_the_space_that_was_set_aside_for_it() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 60);
    let set_aside = sim.inode_of("MARK.tmp");
    log.truncate_below(&[Offset(30); 3]).unwrap();
    assert_eq!(sim.inode_of("MARK"), set_aside);
    assert_ne!(sim.inode_of("MARK.tmp"), set_aside, "and sets space aside for the next");
}

#[test]
fn the_size_bound_refuses_until_it_is_truncated() {
    let sim = Sim::default();
    let log = open_with(&sim, LogOptions { size_bytes_max: 3 * 2048, ..options() }).unwrap().0;
    let mut count = 0;
    while count < 1000 && log.append_blocking((0..3).map(|p| numbered(p, count)).collect()).is_ok() {
        count += 1;
    }
    assert!(log.status().bytes <= 3 * 2048 && log.status().bytes > 2 * 2048, "{:?}", log.status());
    let given_back = log.truncate_below(&[Offset(count), Offset(count), Offset(count)]).unwrap();
    assert_eq!(given_back.segments, 2);
    fill(&log, 5);
    assert_numbered(&log, count + 5);
}

#[test]
fn the_daemons_own_records_find_room_where_senders_find_none() {
    let own = |log: &Log| log.append_own_blocking(vec![record(0, b"own")]);
    let fill_up = |log: &Log| loop {
        let Err(error) = log.append_blocking(vec![record(1, b"a sender's")]) else { continue };
        break error;
    };
    // The size bound, and a full disk.
    for (size_bytes_max, space) in [(2 * 2048, None), (1 << 20, Some(2048 + 1024))] {
        let sim = Sim::default();
        let log = open_with(&sim, LogOptions { size_bytes_max, ..options() }).unwrap().0;
        sim.faults(|f| f.space = space);
        assert!(matches!(fill_up(&log), AppendError::Full(_)));
        own(&log).unwrap();
        assert!(matches!(fill_up(&log), AppendError::Full(_)), "senders have no part in it");
        let mut count = 1;
        let refused = loop {
            match own(&log) {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, AppendError::Full(_)) && count >= 3, "{count}, then {refused}");
        // Room again: both go on.
        sim.faults(|f| f.space = None);
        log.truncate_below(&[0, 1, 2].map(|p| log.end(Partition(p)))).unwrap();
        own(&log).unwrap();
        log.append_blocking(vec![record(1, b"a sender's")]).unwrap();
    }
}

#[test]
fn the_daemons_own_records_are_never_told_to_come_back() {
    let sim = Sim::default();
    let now = Arc::new(AtomicI64::new(0));
    let wall = now.clone();
    let clock = Clock::new(move || LogTime(wall.load(Ordering::Relaxed)), Duration::default);
    let (log, _) = open::open(Arc::new(sim.clone()), options(), clock, identity()).unwrap();
    log.append_blocking(vec![record(0, b"first")]).unwrap();
    // The clock leaps, the queue is full, and both wait for the same group.
    now.store(30 * dataflows::model::HOUR_US, Ordering::Relaxed);
    sim.faults(|f| f.hold_syncs = true);
    let append = |append: fn(&Log) -> Result<Vec<Offset>, AppendError>| {
        let log = log.clone();
        std::thread::spawn(move || append(&log))
    };
    let first = append(|log| log.append_own_blocking(vec![record(2, b"own")]));
    sim.wait_for_held_syncs(1);
    let senders: Vec<_> = (0..16).map(|_| append(|log| log.append_blocking(vec![record(1, &[7; 252])]))).collect();
    while log.queued_bytes() < 4096 {
        std::thread::yield_now();
    }
    let second = append(|log| log.append_own_blocking(vec![record(2, b"own")]));
    while log.queued_bytes() < 4096 + 7 {
        std::thread::yield_now();
    }
    sim.faults(|f| f.hold_syncs = false);
    assert_eq!(first.join().unwrap().unwrap(), [Offset(0)]);
    assert_eq!(second.join().unwrap().unwrap(), [Offset(1)]);
    for sender in senders {
        assert!(matches!(sender.join().unwrap(), Err(AppendError::Clock { .. })));
    }
    assert_eq!(log.last_log_time(Partition(2)), LogTime(0), "they have the time of the last record");
}

#[test]
fn an_append_that_is_larger_than_a_group_goes_alone() {
    let sim = Sim::default();
    let log = open_with(&sim, LogOptions { append_bytes_max: 1200, ..options() }).unwrap().0;
    let large: Vec<_> = (0..4).map(|_| record(0, &[9; 250])).collect();
    assert_eq!(log.append_blocking(large).unwrap().len(), 4);
    let refused = log.append_blocking((0..5).map(|_| record(0, &[9; 250])).collect()).unwrap_err();
    assert!(matches!(refused, AppendError::AppendTooLarge { bytes: 1270, max: 1200 }), "{refused:?}");
    assert_eq!(read_all(&log, 0).0.len(), 4);
}

#[test]
fn a_failed_write_acknowledges_nothing_and_the_next_takes_its_place() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 3);
    sim.faults(|f| f.write = true);
    let long = vec![record(0, &[9; 200]), record(1, &[9; 200])];
    assert!(matches!(log.append_blocking(long), Err(AppendError::Write(_))));
    fill(&log, 2);
    assert_numbered(&log, 5);
    // What the failed write left behind the good frames is no damage either.
    assert_numbered(&open_sim(&sim.killed()), 5);
}

#[test]
fn a_failed_sync_ends_it() {
    let sim = Sim::default();
    let fatal = Arc::new(AtomicU32::new(0));
    let seen = fatal.clone();
    let on_fatal = Arc::new(move |_: &std::io::Error| _ = seen.fetch_add(1, Ordering::Relaxed));
    let log = open_with(&sim, LogOptions { on_fatal, ..options() }).unwrap().0;
    fill(&log, 3);
    sim.faults(|f| f.sync = true);
    assert!(matches!(log.append_blocking(vec![numbered(0, 3)]), Err(AppendError::Sync(_))));
    assert!(matches!(log.append_blocking(vec![numbered(0, 3)]), Err(AppendError::Sync(_))));
    assert_eq!(fatal.load(Ordering::Relaxed), 1);
    assert_numbered(&log, 3);
    drop(log);
}

#[test]
fn a_leaping_clock_is_refused() {
    let sim = Sim::default();
    let now = Arc::new(AtomicI64::new(0));
    let wall = now.clone();
    let clock = Clock::new(move || LogTime(wall.load(Ordering::Relaxed)), Duration::default);
    let (log, _) = open::open(Arc::new(sim), options(), clock, identity()).unwrap();
    let append_at = |hour: i64| {
        now.store(hour * dataflows::model::HOUR_US, Ordering::Relaxed);
        log.append_blocking(vec![record(1, b"")]).map(|_| log.last_log_time(Partition(1)).0 / dataflows::model::HOUR_US)
    };
    assert_eq!(append_at(10).unwrap(), 10);
    assert_eq!(append_at(9).unwrap(), 10);
    let refused = append_at(34).unwrap_err();
    assert!(matches!(refused, AppendError::Clock { .. }) && refused.to_string().contains("leapt ahead by 25 h"), "{refused}");
    assert_eq!(append_at(33).unwrap(), 33);
    assert_eq!(log.last_log_time(Partition(0)), LogTime(0));
}

#[test]
fn a_second_opener_is_refused_and_told_who_has_it() {
    let dir = tempfile::tempdir().unwrap();
    let open = || Log::open(dir.path(), options(), clock());
    let (log, recovery) = open().unwrap();
    assert!(recovery.created);
    let refused = open().err().unwrap();
    assert!(matches!(refused, OpenError::Locked { holder: Some(pid) } if pid == std::process::id()), "{refused}");
    fill(&log, 30);
    // Looking needs no lock; mending does.
    assert_eq!(crate::log::status(dir.path()).unwrap(), log.status());
    assert!(matches!(crate::log::set_aside(dir.path()), Err(OpenError::Locked { .. })));
    let id = log.id();
    drop(log);
    let (log, recovery) = open().unwrap();
    assert_eq!((recovery.created, recovery.records, recovery.torn_bytes, log.id()), (false, 90, 0, id));
    assert_numbered(&log, 30);
}

#[test]
fn another_count_of_partitions_is_refused() {
    let sim = Sim::default();
    drop(open_sim(&sim));
    let refused = open_with(&sim, LogOptions { partitions: 4, ..options() }).err().unwrap();
    assert!(matches!(refused, OpenError::Partitions { found: 3, wanted: 4 }), "{refused}");
}

#[test]
fn a_partition_whose_segments_are_all_gone_goes_on_where_it_was() {
    let sim = Sim::default();
    let log = open_sim(&sim);
    fill(&log, 10);
    while log.status().segments < 4 {
        log.append_blocking(vec![record(0, &[1; 200])]).unwrap();
    }
    let ends: Vec<Offset> = (0..3).map(|p| log.end(Partition(p))).collect();
    log.truncate_below(&ends).unwrap();
    let check = |log: &Log| {
        assert_eq!((log.start(Partition(1)), log.end(Partition(1))), (Offset(10), Offset(10)));
        let refused = log.read(Partition(1), Offset(9), 1, &mut vec![]);
        assert!(matches!(refused, Err(ReadError::Truncated { start: Offset(10), .. })), "{refused:?}");
        let refused = log.read(Partition(1), Offset(11), 1, &mut vec![]);
        assert!(matches!(refused, Err(ReadError::BehindEnd { end: Offset(10), .. })), "{refused:?}");
    };
    check(&log);
    drop(log);
    let log = open_sim(&sim);
    check(&log);
    assert_eq!(log.append_blocking(vec![numbered(1, 10)]).unwrap(), [Offset(10)]);
}
