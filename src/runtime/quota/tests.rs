//! The meter with a directory, a view and a file.

use super::*;
use crate::log::{Clock as LogClock, Log, LogOptions};
use crate::registry::Wanted;
use dataflows::graph::Metered;
use dataflows::model::{Offset, Partition, Policy, Tenant};
use std::sync::atomic::{AtomicI64, Ordering};

const A: TenantNo = TenantNo(1);
const B: TenantNo = TenantNo(2);
const DAY_US: i64 = dataflows::model::DAY_US;

/// A directory with tenants A, which may send ten measurements a day, and B, which may send what it likes.
async fn directory(dir: &Path) -> Arc<Directory> {
    let options = LogOptions { partitions: 2, ..LogOptions::default() };
    let (log, _) = Log::open(&dir.join("log"), options, LogClock::system()).unwrap();
    let directory = Arc::new(Directory::open(dir, log).unwrap());
    want(&directory, Some(10)).await;
    directory
}

async fn want(directory: &Directory, per_day_max: Option<u64>) {
    let tenant = |no| (no, Tenant { no, policy: Policy::default() });
    let quota = Quota { tenant: "a".into(), per_second_max: None, per_day_max, treatment: Treatment::Quarantine };
    let quotas = per_day_max.map(|_| (A, quota)).into_iter().collect();
    let wanted = Wanted { tenants: [tenant(A), tenant(B)].into(), quotas, ..Wanted::default() };
    directory.reconcile(wanted).await.unwrap();
}

fn metered(view: &View, next: u64, uplinks: u64, measurements: u64) {
    view.metered(Partition(0), Offset(next), [(A, Metered { uplinks, measurements })].into());
}

fn used(meter: &Meter) -> Vec<(u32, u64, u64)> {
    meter.status().iter().map(|status| (status.tenant_no, status.measurements_today, status.uplinks_over_today)).collect()
}

#[tokio::test]
async fn only_tenants_with_a_quota_are_metered_and_only_as_long() {
    let dir = tempfile::tempdir().unwrap();
    let (directory, view) = (directory(dir.path()).await, Arc::new(View::new(2)));
    let meter = Meter::open(dir.path(), Arc::clone(&directory), Arc::clone(&view), || EventTime(0));
    assert_eq!(meter.charge(B, 1_000), Charge::free(1_000));
    let charge = meter.charge(A, 12);
    assert_eq!((charge.within, charge.excess.map(|excess| excess.measurements_max)), (10, Some(10)));
    assert_eq!(used(&meter), [(1, 10, 2)]);
    metered(&view, 10, 10, 3);
    assert_eq!(used(&meter), [(1, 3, 2)], "the view tells what they came to");
    want(&directory, None).await;
    assert_eq!(meter.charge(A, 1_000), Charge::free(1_000));
    assert_eq!(used(&meter), []);
    want(&directory, Some(10)).await;
    assert_eq!(used(&meter), [(1, 0, 0)], "and nothing was remembered");
}

#[tokio::test]
async fn the_days_use_stays_over_a_restart_and_not_over_the_day() {
    static NOW: AtomicI64 = AtomicI64::new(0);
    let clock = || EventTime(NOW.load(Ordering::Relaxed));
    let dir = tempfile::tempdir().unwrap();
    let (directory, view) = (directory(dir.path()).await, Arc::new(View::new(2)));
    let open = || Meter::open(dir.path(), Arc::clone(&directory), Arc::clone(&view), clock);
    let meter = open();
    meter.charge(A, 4);
    metered(&view, 4, 4, 8);
    meter.save();
    meter.charge(A, 1);
    drop(meter);

    let meter = open();
    assert_eq!(used(&meter), [(1, 8, 0)], "what came since it was written last is forgotten");
    assert_eq!(meter.charge(A, 5).within, 1, "an uplink holds two, as was learned");
    meter.save();
    // A directory that had to be made anew knows no quota at first; what was used stays known until it does.
    want(&directory, None).await;
    let meter = open();
    meter.save();
    want(&directory, Some(10)).await;
    assert_eq!(used(&open()), [(1, 10, 4)]);

    NOW.store(DAY_US, Ordering::Relaxed);
    let meter = open();
    assert_eq!(used(&meter), [(1, 0, 0)]);
    assert_eq!(meter.charge(A, 20).within, 5);

    std::fs::write(dir.path().join("quotas.json"), "{").unwrap();
    assert_eq!(used(&open()), [(1, 0, 0)], "a damaged file is no reason not to start");
}

#[test]
fn what_is_replayed_is_not_metered_again() {
    let view = View::new(2);
    assert_eq!(view.metered_to(Partition(0)), Offset(0));
    metered(&view, 7, 1, 1);
    // A worker that begins anew at 3 asks from where on it is to meter.
    assert_eq!(view.metered_to(Partition(0)), Offset(7));
    view.metered(Partition(0), Offset(5), BTreeMap::new());
    assert_eq!(view.metered_to(Partition(0)), Offset(7));
    assert_eq!(view.take_metered(), [(A, Metered { uplinks: 1, measurements: 1 })].into());
    assert_eq!(view.take_metered(), BTreeMap::new());
}
