//! Owns the order of a fleet's uplinks: what each device reads, when, and how it travels.
//!
//! Invariants: uplinks come in the order in which they are due. No two uplinks of a device have the same
//! event time: prompt and delayed ones are at even microseconds that only grow, late ones at odd
//! microseconds, by the same distance behind a prompt one, and no two behind the same. So a late uplink
//! always finds a newer one of its device, more than the horizon ahead of it.

use super::kinds::Walk;
use super::random::Random;
use super::uplink::READINGS_MAX;
use super::{Due, Fate, Fleet, FleetUplink, Frame};
use dataflows::model::{EventTime, MINUTE_US, SECOND_US};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The second copy of an uplink comes at most this much later.
const COPY_DELAY_US_MAX: u64 = 3 * SECOND_US as u64;
/// Late uplinks are beyond the horizon by at least this, so that they still are when requests overtake
/// each other.
const LATE_MARGIN_US: i64 = MINUTE_US;
/// Late uplinks are beyond horizon and margin by at most this.
const LATE_SPREAD_US: u64 = 10 * MINUTE_US as u64;

/// The uplinks of a fleet, in the order in which they are due; without end.
#[derive(Debug)]
pub struct Schedule<'a> {
    fleet: &'a Fleet,
    senders: Vec<Sender>,
    /// When each device reads next, soonest on top.
    slots: BinaryHeap<Reverse<(u64, u32)>>,
    /// What was made and is still to be sent, soonest on top.
    waiting: BinaryHeap<Reverse<Waiting>>,
    /// How many have ever waited.
    waited: u64,
}

/// What a device is at.
#[derive(Debug)]
struct Sender {
    random: Random,
    readings: [i32; READINGS_MAX],
    phase_us: u64,
    slot: u32,
    fcnt_first: u32,
    late_us: i64,
    /// The last prompt uplink, until a late one has come behind it.
    prompt_us: Option<u64>,
}

/// Ordered by time, then by the order in which it began to wait.
#[derive(Debug)]
struct Waiting {
    order: (u64, u64),
    due: Box<Due>,
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

impl<'a> Schedule<'a> {
    /// The uplinks of the first `devices` devices.
    pub(super) fn new(fleet: &'a Fleet, devices: u32) -> Self {
        let mut senders: Vec<Sender> = (0..devices).map(|device| Sender::new(fleet, device)).collect();
        let slots = senders.iter_mut().zip(0..).map(|(sender, device)| Reverse((sender.next_slot_us(fleet), device))).collect();
        Self { fleet, senders, slots, waiting: BinaryHeap::new(), waited: 0 }
    }

    /// Has a device read and make its uplink, due at once or later.
    fn read(&mut self, slot_us: u64, device: u32) -> Due {
        let spec = self.fleet.spec();
        let member = self.fleet.member(device);
        let kind = member.kind.spec();
        let sender = &mut self.senders[device as usize];
        let is_probe = device < spec.probes;
        sender.walk(kind.walks, if is_probe { 0.0 } else { spec.unchanged_share });
        let mut frame = Frame::new();
        (kind.encode)(&sender.readings, &mut frame);

        let read_at = spec.start.0 + slot_us as i64;
        let drawn = match is_probe {
            true => Fate::Prompt,
            false => sender.draw_fate(spec.late_share, spec.out_of_order_share, spec.bad_share),
        };
        let (fate, received_at, delay_us) = match (drawn, sender.prompt_us) {
            (Fate::Late, Some(prompt_us)) => {
                sender.prompt_us = None;
                (Fate::Late, (spec.start.0 + prompt_us as i64 - sender.late_us) | 1, 0)
            }
            (Fate::OutOfOrder, _) => (Fate::OutOfOrder, read_at, sender.random.below(spec.out_of_order_ms_max * 1_000) + 1),
            (Fate::Bad, _) => {
                frame.cut();
                (Fate::Bad, read_at, 0)
            }
            (Fate::Prompt | Fate::Late, _) => {
                sender.prompt_us = Some(slot_us);
                (Fate::Prompt, read_at, 0)
            }
        };
        let uplink = FleetUplink {
            device,
            kind: member.kind,
            received_at: EventTime(received_at),
            fcnt: sender.fcnt_first.wrapping_add(sender.slot),
            frame,
            readings: sender.readings,
            fate,
            copy: 0,
        };
        let due = Due { due_us: slot_us + delay_us, shape: member.shape, uplink };

        let copied = sender.random.share() < spec.duplicates_share && !is_probe;
        let copy_delay_us = sender.random.below(COPY_DELAY_US_MAX) + 1;
        sender.slot += 1;
        self.slots.push(Reverse((sender.next_slot_us(self.fleet), device)));
        if copied {
            self.wait(Due { due_us: due.due_us + copy_delay_us, uplink: FleetUplink { copy: 1, ..uplink }, ..due });
        }
        due
    }

    fn wait(&mut self, due: Due) {
        self.waited += 1;
        self.waiting.push(Reverse(Waiting { order: (due.due_us, self.waited), due: Box::new(due) }));
    }
}

impl Iterator for Schedule<'_> {
    type Item = Due;

    fn next(&mut self) -> Option<Due> {
        loop {
            let slot_us = self.slots.peek().map(|Reverse((slot_us, _))| *slot_us);
            let waiting_us = self.waiting.peek().map(|Reverse(waiting)| waiting.order.0);
            if waiting_us.is_some_and(|waiting_us| slot_us.is_none_or(|slot_us| waiting_us < slot_us)) {
                return self.waiting.pop().map(|Reverse(waiting)| *waiting.due);
            }
            let Reverse((slot_us, device)) = self.slots.pop()?;
            let due = self.read(slot_us, device);
            if due.due_us == slot_us {
                return Some(due);
            }
            self.wait(due);
        }
    }
}

impl Sender {
    fn new(fleet: &Fleet, device: u32) -> Self {
        let spec = fleet.spec();
        let mut random = Random::new(spec.seed, u64::from(device));
        let mut readings = [0; READINGS_MAX];
        for (reading, walk) in readings.iter_mut().zip(fleet.member(device).kind.spec().walks) {
            *reading = walk.min + random.below((walk.max - walk.min + 1) as u64) as i32;
        }
        Self {
            readings,
            phase_us: random.below(spec.period_us),
            slot: 0,
            fcnt_first: random.below(50) as u32,
            late_us: spec.lateness_horizon_us + LATE_MARGIN_US + random.below(LATE_SPREAD_US) as i64,
            prompt_us: None,
            random,
        }
    }

    /// Gives when the device reads next: within its period's first part, the jitter, at an even microsecond.
    fn next_slot_us(&mut self, fleet: &Fleet) -> u64 {
        let spec = fleet.spec();
        let period_us = spec.period_us;
        let slip_us = self.random.below((period_us as f64 * spec.jitter) as u64 + 1);
        (self.phase_us + u64::from(self.slot) * period_us + slip_us) & !1
    }

    /// Moves each reading by up to a step, or leaves it; a step beyond the walk's end turns back.
    fn walk(&mut self, walks: &[Walk], unchanged_share: f64) {
        for (reading, walk) in self.readings.iter_mut().zip(walks) {
            if self.random.share() >= unchanged_share {
                let step = 1 + self.random.below(walk.step as u64) as i32;
                let up = self.random.bits() & 1 == 0;
                let moved = if up { *reading + step } else { *reading - step };
                *reading = if (walk.min..=walk.max).contains(&moved) { moved } else { 2 * *reading - moved };
                *reading = (*reading).clamp(walk.min, walk.max);
            }
        }
    }

    fn draw_fate(&mut self, late: f64, out_of_order: f64, bad: f64) -> Fate {
        let lot = self.random.share();
        if lot >= late + out_of_order + bad {
            Fate::Prompt
        } else if lot < late {
            Fate::Late
        } else if lot < late + out_of_order {
            Fate::OutOfOrder
        } else {
            Fate::Bad
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::FleetSpec;
    use dataflows::model::{DAY_US, HOUR_US};
    use std::collections::{HashMap, HashSet};

    const SPEC_START: EventTime = EventTime(20_000 * DAY_US);

    fn spec(devices: u32) -> FleetSpec {
        FleetSpec { devices, start: SPEC_START, late_share: 0.02, bad_share: 0.03, ..FleetSpec::default() }
    }

    fn an_hour(spec: FleetSpec) -> Vec<Due> {
        let fleet = Fleet::new(spec).unwrap();
        fleet.schedule().take_while(|due| due.due_us < HOUR_US as u64).collect()
    }

    #[test]
    fn a_spec_gives_the_same_uplinks_and_another_seed_gives_others() {
        assert_eq!(an_hour(spec(20)), an_hour(spec(20)));
        assert_ne!(an_hour(spec(20)), an_hour(FleetSpec { seed: 2, ..spec(20) }));
    }

    #[test]
    fn uplinks_come_when_they_are_due_and_no_event_time_comes_twice() {
        let dues = an_hour(spec(50));
        assert!(dues.is_sorted_by_key(|due| due.due_us));
        let mut names: HashMap<(u32, u32), FleetUplink> = HashMap::new();
        let mut times = HashSet::new();
        for Due { uplink, .. } in &dues {
            let same = *names.entry((uplink.device, uplink.fcnt)).or_insert(*uplink);
            assert_eq!(FleetUplink { copy: same.copy, ..*uplink }, same);
            if uplink.copy == 0 {
                assert!(times.insert((uplink.device, uplink.received_at)));
            }
        }
    }

    #[test]
    fn the_shares_are_kept() {
        let dues = an_hour(spec(200));
        let first = dues.iter().filter(|due| due.uplink.copy == 0).count() as f64;
        let check = |what: &str, share: f64, is: fn(&Due) -> bool| {
            let found = dues.iter().filter(|due| is(due)).count() as f64 / first;
            assert!((found - share).abs() < 0.1 * share, "{what}: {found} instead of {share}");
        };
        assert!((first - 200.0 * 720.0).abs() < 400.0, "{first}");
        check("copies", 0.1, |due| due.uplink.copy == 1);
        check("late", 0.02, |due| due.uplink.copy == 0 && due.uplink.fate == Fate::Late);
        check("out of order", 0.02, |due| due.uplink.copy == 0 && due.uplink.fate == Fate::OutOfOrder);
        check("bad", 0.03, |due| due.uplink.copy == 0 && due.uplink.fate == Fate::Bad);
    }

    #[test]
    fn each_fate_is_what_it_says() {
        let horizon_us = spec(1).lateness_horizon_us;
        let mut newest: HashMap<u32, i64> = HashMap::new();
        let mut behind = 0;
        for Due { due_us, uplink, .. } in an_hour(spec(100)).iter().filter(|due| due.uplink.copy == 0) {
            let sent_at = SPEC_START.0 + *due_us as i64;
            let newest = newest.entry(uplink.device).or_insert(i64::MIN);
            let mut whole = Frame::new();
            (uplink.kind.spec().encode)(&uplink.readings, &mut whole);
            let missing = whole.as_slice().len() - uplink.frame.as_slice().len();
            assert_eq!(missing, usize::from(uplink.fate == Fate::Bad));
            match uplink.fate {
                Fate::Prompt | Fate::Bad => assert_eq!(uplink.received_at.0, sent_at),
                Fate::OutOfOrder => {
                    behind += u32::from(uplink.received_at.0 < *newest);
                    assert!((sent_at - 20 * SECOND_US..sent_at).contains(&uplink.received_at.0));
                }
                Fate::Late => assert!(uplink.received_at.0 + horizon_us < *newest),
            }
            *newest = uplink.received_at.0.max(*newest);
        }
        assert!(behind > 100, "only {behind} uplinks came out of order");
    }

    #[test]
    fn readings_stay_within_their_walks_and_change_as_often_as_asked() {
        let fleet = Fleet::new(FleetSpec { unchanged_share: 0.6, ..spec(60) }).unwrap();
        let mut before: HashMap<u32, (u32, [i32; READINGS_MAX])> = HashMap::new();
        let (mut same, mut all) = (0u32, 0u32);
        for due in fleet.schedule().filter(|due| due.uplink.copy == 0).take(20_000) {
            let FleetUplink { device, kind, fcnt, readings, .. } = due.uplink;
            for (index, walk) in kind.spec().walks.iter().enumerate() {
                assert!((walk.min..=walk.max).contains(&readings[index]));
                if let Some((_, before)) = before.get(&device).filter(|(before, _)| before + 1 == fcnt) {
                    same += u32::from(before[index] == readings[index]);
                    all += 1;
                }
            }
            before.insert(device, (fcnt, readings));
        }
        let share = f64::from(same) / f64::from(all);
        assert!((share - 0.6).abs() < 0.02, "{share}");
    }

    #[test]
    fn probes_are_prompt_come_once_and_change_each_time() {
        let fleet = Fleet::new(FleetSpec { probes: 3, ..spec(20) }).unwrap();
        let all: Vec<Due> = fleet.schedule().take(5_000).filter(|due| due.uplink.device < 3).collect();
        let alone: Vec<Due> = fleet.probe_schedule().take(all.len()).collect();
        assert_eq!(all, alone);
        let mut before: HashMap<u32, [i32; READINGS_MAX]> = HashMap::new();
        for Due { uplink, .. } in all {
            assert_eq!((uplink.fate, uplink.copy), (Fate::Prompt, 0));
            let walks = uplink.kind.spec().walks.len();
            if let Some(before) = before.insert(uplink.device, uplink.readings) {
                assert!(before[..walks].iter().zip(&uplink.readings).all(|(before, now)| before != now));
            }
        }
    }

    #[test]
    fn what_waits_is_bounded_by_the_delays() {
        let fleet = Fleet::new(spec(100)).unwrap();
        let mut schedule = fleet.schedule();
        let most = (0..50_000).map(|_| (schedule.next(), schedule.waiting.len()).1).max().unwrap();
        // A device reads every 5 s; copies wait up to 3 s, uplinks out of order up to 20 s, each rarely.
        assert!(most < 100, "{most}");
    }
}
