//! Reading while a worker works: every interleaving of a reader with a worker, its commits, its forgetting and
//! its restarts.

use super::*;
use crate::query::memory::{Latest, MemoryError};
use crate::query::merge::Merged;
use dataflows::model::{ClassNo, DeviceId, Partial, Placed, Point, TenantNo};
use std::sync::{Arc, Mutex};

const PARTITION: Partition = Partition(3);
const SERIES: SeriesId = SeriesId(7);

/// What happens beside the reader.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Event {
    /// The worker processes the next record.
    Work,
    /// The outputs of one more record are committed.
    Commit,
    /// The memory forgets what is committed, if it may.
    Forget,
    /// The worker starts again, and replays from the beginning; what it emits below progress is in the tables.
    Restart,
}

const EVENTS: [Event; 4] = [Event::Work, Event::Commit, Event::Forget, Event::Restart];
/// The log: whether a record emits what is open, and then whether it brings a measurement.
const LOG: [(bool, bool); 5] = [(false, true), (false, true), (true, true), (true, false), (false, true)];

/// A worker, its tables, and the events that are still to come.
#[derive(Default)]
struct World {
    events: Vec<Event>,
    /// How many events have happened.
    happened: usize,
    position: usize,
    progress: usize,
    /// What the memory has forgotten was emitted below.
    floor: usize,
    /// Progress at the last restart.
    assumed: usize,
    open: Vec<usize>,
    emitted: Vec<(usize, Vec<usize>)>,
    committed: Vec<(usize, Vec<usize>)>,
    guards: usize,
}

impl World {
    fn until(&mut self, moment: usize) {
        while self.happened < moment {
            let event = self.events[self.happened];
            self.happened += 1;
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Work => {
                let Some((emits, measures)) = LOG.get(self.position) else { return };
                if *emits && !self.open.is_empty() {
                    let emitted = (self.position, std::mem::take(&mut self.open));
                    self.emitted.extend((self.position >= self.assumed).then_some(emitted));
                }
                self.open.extend(measures.then_some(self.position));
                self.position += 1;
            }
            Event::Commit if self.progress < self.position => {
                let rows = self.emitted.iter().filter(|(offset, _)| *offset == self.progress);
                self.committed.extend(rows.cloned());
                self.progress += 1;
            }
            Event::Forget if self.guards == 0 => {
                let forgotten = self.emitted.iter().filter(|(offset, _)| *offset < self.progress).map(|(offset, _)| offset + 1);
                self.floor = forgotten.max().unwrap_or(0).max(self.floor);
                self.emitted.retain(|(offset, _)| *offset >= self.progress);
            }
            Event::Commit | Event::Forget => {}
            Event::Restart => {
                (self.position, self.floor, self.assumed) = (0, self.progress, self.progress);
                self.open.clear();
                self.emitted.clear();
            }
        }
    }
}

/// Each measurement is a bit of the sum, so that one too many or too few shows.
fn partial(measurements: &[usize]) -> Partial {
    let values = measurements.iter().map(|n| f64::from(1 << n));
    let point = |n: usize| Point { at: EventTime(n as i64), offset: Offset(n as u64), value: 0.0 };
    Partial {
        class: ClassNo(0),
        level: BucketLevel::Hour,
        series: SERIES,
        start: EventTime(0),
        end: EventTime(HOUR_US),
        count: measurements.len() as u64,
        sum: values.sum(),
        min: 0.0,
        max: 0.0,
        first: point(measurements[0]),
        last: point(measurements[measurements.len() - 1]),
    }
}

/// The moments at which a reader takes its guard, its snapshot and its look at the memory.
#[derive(Clone)]
struct Reader {
    world: Arc<Mutex<World>>,
    moments: [usize; 3],
}

struct Guard(Arc<Mutex<World>>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.lock().unwrap().guards -= 1;
    }
}

impl Memory for Reader {
    type Guard = Guard;

    fn guard(&self) -> Guard {
        let mut world = self.world.lock().unwrap();
        world.until(self.moments[0]);
        world.guards += 1;
        Guard(self.world.clone())
    }

    async fn latest(&self, _: TenantNo, _: DeviceId) -> Result<Vec<Latest>, MemoryError> {
        Err(MemoryError::NotReady(PARTITION))
    }

    async fn partials(&self, _: Partition, _: Vec<SeriesId>, _: BucketLevel) -> Result<MemoryPartials, MemoryError> {
        let mut world = self.world.lock().unwrap();
        world.until(self.moments[2]);
        let open = if world.open.is_empty() { vec![] } else { vec![partial(&world.open)] };
        let placed = |(offset, measurements): &(usize, Vec<usize>)| Placed {
            partition: PARTITION,
            offset: Offset(*offset as u64),
            row: partial(measurements),
        };
        let (position, floor) = (Offset(world.position as u64), Offset(world.floor as u64));
        let held = MemoryPartials { position, floor, open, emitted: world.emitted.iter().map(placed).collect() };
        // Whoever asks again finds the worker further.
        world.happen(Event::Work);
        Ok(held)
    }
}

impl Tables for Reader {
    async fn partials(&self, _: &LevelAsk, take: &mut (dyn FnMut(Piece) + Send)) -> Result<Offset, Problem> {
        let mut world = self.world.lock().unwrap();
        world.until(self.moments[1]);
        world.committed.iter().for_each(|(_, measurements)| take(Piece::of(&partial(measurements), false)));
        Ok(Offset(world.progress as u64))
    }
}

fn ask() -> LevelAsk {
    let (from, to) = (EventTime(0), EventTime(HOUR_US));
    LevelAsk { partition: PARTITION, level: BucketLevel::Hour, series: vec![SERIES], from, to, classes: vec![] }
}

async fn read_all(reader: &Reader, patience: Duration) -> Result<Option<Merged>, Problem> {
    let mut all: Option<Merged> = None;
    let take = &mut |piece: Piece| match &mut all {
        Some(all) => all.add(&piece.merged),
        None => all = Some(piece.merged),
    };
    read(reader, reader, &ask(), patience, take).await?;
    Ok(all)
}

/// What a reader must see: the measurements below the position, once.
fn expected(position: usize) -> f64 {
    LOG[..position].iter().enumerate().filter(|(_, (_, measures))| *measures).map(|(n, _)| f64::from(1 << n)).sum()
}

#[tokio::test]
async fn no_interleaving_counts_twice_or_misses() {
    const LENGTH: u32 = 7;
    let (mut answered, mut refused) = (0, 0);
    for number in 0..4_usize.pow(LENGTH) {
        let events: Vec<Event> = (0..LENGTH).map(|n| EVENTS[number / 4_usize.pow(n) % 4]).collect();
        // Of the sequences that differ by events without effect, one is enough.
        if events.windows(2).any(|pair| pair[0] == pair[1] && pair[0] != Event::Work && pair[0] != Event::Commit) {
            continue;
        }
        for guard in 0..=events.len() {
            for snapshot in guard..=events.len() {
                for look in snapshot..=events.len() {
                    let mut sketch = World { events: events.clone(), ..World::default() };
                    sketch.until(snapshot);
                    let progress = sketch.progress;
                    sketch.until(look);
                    if sketch.position < progress {
                        refused += 1;
                        continue;
                    }
                    let world = Arc::new(Mutex::new(World { events: events.clone(), ..World::default() }));
                    let reader = Reader { world: world.clone(), moments: [guard, snapshot, look] };
                    let all = read_all(&reader, Duration::from_secs(60)).await;
                    assert_eq!(world.lock().unwrap().guards, 0, "the guard is given back");
                    if matches!(all, Err(Problem::OldTables(PARTITION))) {
                        assert!(events[snapshot..look].contains(&Event::Restart), "only a restart forgets beside a guard");
                        refused += 1;
                        continue;
                    }
                    let all = all.unwrap();
                    let sum = all.map_or(0.0, |all| all.sum);
                    let at = (guard, snapshot, look);
                    assert_eq!(sum, expected(sketch.position), "{events:?}, guard, snapshot and look at {at:?}");
                    answered += 1;
                }
            }
        }
    }
    assert!(answered > 100_000 && refused > 1_000, "{answered} cases answered, {refused} refused, or left to the next test");
}

#[tokio::test]
async fn a_replaying_memory_is_waited_for_or_refused() {
    use Event::{Commit, Restart, Work};
    let events = vec![Work, Work, Work, Work, Commit, Commit, Commit, Commit, Restart];
    let reader = || {
        let world = World { events: events.clone(), ..World::default() };
        Reader { world: Arc::new(Mutex::new(world)), moments: [0, 9, 9] }
    };
    let refused = read_all(&reader(), Duration::ZERO).await;
    assert!(matches!(refused, Err(Problem::Replaying(PARTITION))), "{refused:?}");
    let all = read_all(&reader(), Duration::from_secs(60)).await.unwrap().unwrap();
    assert_eq!((all.count, all.sum), (3, expected(4)));
}
