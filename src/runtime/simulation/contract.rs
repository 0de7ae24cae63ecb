//! The fake keeps the contract that the real store keeps: one scenario by one seed, told to both, has to be answered
//! in the same words.

use super::random::Fate;
use super::server::Server;
use super::task::{self, Task};
use crate::runtime::database::{Database, Session};
use crate::store::{Advance, Checkpoint, Commit, CommitError, Commits, Store, StoreConfig, StoreError};
use dataflows::model::*;
use uuid::Uuid;

#[path = "../../../tests/support/database.rs"]
#[expect(dead_code, reason = "the tests against real servers use the rest")]
mod database;

const LOG: Uuid = Uuid::from_u128(1);
const OTHER_LOG: Uuid = Uuid::from_u128(2);
const PARTITIONS: u64 = 3;
const CALLS: usize = 150;
/// One of which every kind of answer comes.
const SEED: u64 = 8;

/// A call.
#[derive(Debug)]
enum Call {
    Take { log: Uuid, partitions: Vec<(Partition, Offset)> },
    Commit(Vec<Commit>),
    Progress,
    Checkpoints,
    CheckpointsKept,
}

/// Makes calls that suit where the partitions stand, and some that do not.
fn calls(fate: &Fate) -> Vec<Call> {
    // Where each partition stands as far as commits went as they should: epoch and offset.
    let mut standing = [(0u64, 0u64); PARTITIONS as usize];
    let mut call = || match fate.pick(&[3, 12, 2, 2, 2]) {
        0 => {
            let log = if fate.once_in(6) { OTHER_LOG } else { LOG };
            let log_end = Offset(if fate.once_in(6) { 0 } else { 1_000_000 });
            let chosen: Vec<u64> = (0..PARTITIONS).filter(|_| !fate.once_in(3)).collect();
            let fits = log == LOG && (log_end.0 > 0 || chosen.iter().all(|p| standing[*p as usize].1 == 0));
            if fits {
                chosen.iter().for_each(|p| standing[*p as usize].0 += 1);
            }
            Call::Take { log, partitions: chosen.iter().map(|p| (Partition(*p as u16), log_end)).collect() }
        }
        1 => {
            let mut commits = vec![Commit::default(); fate.within(1..=3) as usize];
            let mut passes = true;
            for p in (0..PARTITIONS).filter(|_| !fate.once_in(3)) {
                let nth = fate.below(commits.len() as u64) as usize;
                let commit = &mut commits[nth];
                let (epoch, offset) = standing[p as usize];
                let from = if fate.once_in(8) { offset + 1 } else { offset };
                let owner_epoch = if fate.once_in(8) { epoch.saturating_sub(1) } else { epoch };
                passes &= (owner_epoch, from) == (epoch, offset) && epoch > 0;
                let to = from + fate.below(4);
                let (partition, counts) = (Partition(p as u16), Counts { uplinks: to, ..Counts::default() });
                let log_time = LogTime(super::fleet::BEGIN_US + to as i64);
                let (from, to) = (Offset(from), Offset(to));
                commit.advances.push(Advance { partition, owner_epoch, from, to, counts, log_time });
                for offset in from.0..to.0 {
                    commit.outputs.quarantined.push(set_aside(partition, Offset(offset), log_time));
                }
                if commit.checkpoint.is_none() && fate.once_in(2) {
                    // It was begun at any time before.
                    let offset = Offset(fate.within(from.0.saturating_sub(2)..=to.0));
                    let state = vec![offset.0 as u8];
                    commit.checkpoint = Some(Checkpoint { partition, offset, log: LOG, version: 1, state });
                }
            }
            if passes {
                commits.iter().flat_map(|commit| &commit.advances).for_each(|a| standing[usize::from(a.partition.0)].1 = a.to.0);
            }
            Call::Commit(commits)
        }
        2 => Call::Progress,
        3 => Call::Checkpoints,
        _ => Call::CheckpointsKept,
    };
    (0..CALLS).map(|_| call()).collect()
}

fn set_aside(partition: Partition, offset: Offset, log_time: LogTime) -> Placed<Quarantined> {
    let row = Quarantined {
        log_time,
        tenant: TenantNo(1),
        device: DeviceId::parse("pump").unwrap(),
        field: None,
        reason: Reason::UnknownDevice,
        detail: String::new(),
        record: vec![],
    };
    Placed { partition, offset, row }
}

/// Makes one call, as often as the database only asks to come back; gives the answer as text.
async fn answer<D: Database>(database: &D, session: &mut D::Session, call: &Call) -> String {
    let partitions: Vec<_> = (0..PARTITIONS as u16).map(Partition).collect();
    loop {
        return match call {
            Call::Take { log, partitions } => match database.take("weir", *log, partitions).await {
                Ok(taken) => format!("{taken:?}"),
                Err(StoreError::ForeignLog { partition, .. }) => format!("foreign log in {partition}"),
                Err(StoreError::LogBehind { partition, .. }) => format!("log behind in {partition}"),
                Err(error) => format!("{error}"),
            },
            Call::Commit(commits) => match session.commit(Commits(&commits.iter().collect::<Vec<_>>())).await {
                Ok(_) => "committed".into(),
                Err(CommitError::Fenced { partition }) => format!("fenced in {partition}"),
                Err(CommitError::Retry(_) | CommitError::Stop(_)) => continue,
                Err(error) => format!("{error}"),
            },
            Call::Progress => {
                let progress = session.progress().await.unwrap();
                format!(
                    "{:?}",
                    progress
                        .into_iter()
                        .map(|p| (p.partition, p.offset, p.owner_epoch, p.counts, p.log_time))
                        .collect::<Vec<_>>()
                )
            }
            Call::Checkpoints => {
                let mut checkpoints = database.checkpoints(&partitions, LOG).await.unwrap();
                checkpoints.sort_by_key(|checkpoint| checkpoint.partition);
                format!("{checkpoints:?}")
            }
            Call::CheckpointsKept => format!("{:?}", database.checkpoints_kept().await.unwrap()),
        };
    }
}

async fn answers<D: Database>(database: &D, calls: &[Call]) -> Vec<String> {
    let mut session = database.session();
    let mut answers = Vec::new();
    for call in calls {
        answers.push(answer(database, &mut session, call).await);
    }
    answers
}

#[tokio::test]
async fn the_fake_database_answers_as_a_real_one() {
    let place = database::TestDatabase::create(database::Kind::Plain).await;
    let mut store = Store::connect(StoreConfig::new(place.url())).await.unwrap();
    store.migrate(PARTITIONS as u16).await.unwrap();
    let fate = Fate::new(SEED);
    let calls = calls(&fate);
    let real = answers(&store, &calls).await;

    let server = Server::new(&fate);
    let mut fake: Task<Vec<String>> = {
        let server = server.clone();
        let calls = self::calls(&Fate::new(SEED));
        Box::pin(async move { answers(&server, &calls).await })
    };
    let fake = loop {
        if let Some(answers) = task::poll(&mut fake) {
            break answers;
        }
        server.work();
    };
    for ((call, real), fake) in calls.iter().zip(&real).zip(&fake) {
        assert_eq!(real, fake, "{call:?}");
    }
    for kind in ["committed", "fenced", "foreign log", "log behind"] {
        assert!(real.iter().any(|answer| answer.starts_with(kind)), "no call was answered with {kind}");
    }
    let rows = place.client().await.query_one("SELECT count(*) FROM quarantine", &[]).await.unwrap().get::<_, i64>(0);
    let held: usize = server.state().tables.rows.values().map(Vec::len).sum();
    assert_eq!(rows, held as i64);
}
