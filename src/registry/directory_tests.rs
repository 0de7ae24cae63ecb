//! The directory on a log of its own.

use super::*;
use crate::log::{Clock, LogOptions};
use crate::registry::Quota;
use dataflows::model::{Policy, Template, Tenant, Treatment};

const TENANT: TenantNo = TenantNo(1);
const TEMPLATE: TemplateNo = TemplateNo(1);

fn open(dir: &Path) -> Directory {
    let options = LogOptions { partitions: 2, ..LogOptions::default() };
    let (log, _) = Log::open(&dir.join("log"), options, Clock::system()).unwrap();
    Directory::open(dir, log).unwrap()
}

fn id(name: &str) -> DeviceId {
    DeviceId::parse(name).unwrap()
}

fn device(no: u64, name: &str) -> Device {
    let variables = BTreeMap::new();
    Device { no: DeviceNo(no), tenant: TENANT, id: id(name), template: TEMPLATE, variables, zone: None, provisioned: false }
}

fn token(may_write: bool) -> Token {
    Token { tenant: TENANT, name: "t".into(), may_write, may_read: true, provision: Some(TEMPLATE) }
}

fn wanted(tokens: &[(&str, Token)]) -> Wanted {
    let template = Template { no: TEMPLATE, name: "t".into(), decoding: Decoding::Upstream, fields: BTreeMap::new() };
    Wanted {
        tenants: [(TENANT, Tenant { no: TENANT, policy: Policy::default() })].into(),
        templates: [(TEMPLATE, template)].into(),
        tokens: tokens.iter().map(|(text, token)| (TokenHash::of(text), token.clone())).collect(),
        ..Wanted::default()
    }
}

#[test]
fn the_higher_offset_holds_in_whatever_order_answers_are_heard() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let partition = Partition::of(&id("pump"), 2);
    directory.confirm(partition, Offset(5), RegistryChange::DeviceRemoved { tenant: TENANT, id: id("pump") });
    directory.confirm(partition, Offset(4), RegistryChange::Device(device(7, "pump").into()));
    assert_eq!(directory.devices(), 0, "it was removed after it was made");
    directory.confirm(partition, Offset(6), RegistryChange::Device(device(8, "pump").into()));
    assert_eq!(directory.devices(), 1);
}

#[test]
fn numbers_of_refused_appends_are_given_again_and_used_up_ones_are_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let admit = |name: &str| directory.admit(TENANT, &id(name), Some(TEMPLATE));
    let (first, again) = (admit("pump").unwrap(), admit("pump").unwrap());
    assert_eq!(first, again);
    directory.withdraw(&first);
    assert_eq!(admit("pump").as_ref(), Some(&first), "the other append with it is still under way");
    directory.withdraw(&first);
    directory.withdraw(&again);
    assert!(directory.state().allotted.is_empty());
    assert_eq!(admit("pump").unwrap().no, first.no);

    let partition = Partition::of(&id("valve"), 2);
    directory.never_again(&[(partition, DeviceNo::PROVISIONED_PER_PARTITION)].into());
    assert_eq!(admit("valve"), None);
    directory.never_again(&[(partition, 3)].into());
    assert_eq!(admit("valve"), None, "a count never goes back");
}

#[tokio::test]
async fn tokens_open_after_the_devices_and_close_before_them() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    directory.reconcile(wanted(&[("old", token(true)), ("kept", token(true))])).await.unwrap();
    assert!(directory.token("old").unwrap().may_write);

    // The registry's records wait for the snapshot, which holds the lock.
    let mut next = wanted(&[("kept", token(false)), ("new", token(true))]);
    next.devices.insert(device(7, "pump").into());
    let quiet = Arc::clone(&directory.in_flight).write_owned().await;
    let mut reconcile = Box::pin(directory.reconcile(next));
    tokio::select! {
        biased;
        _ = &mut reconcile => panic!("a record was appended under the lock"),
        () = std::future::ready(()) => {}
    }
    assert_eq!(directory.token("old"), None);
    assert!(!directory.token("kept").unwrap().may_write);
    assert_eq!(directory.token("new"), None, "the device that it speaks for is not in effect yet");
    drop(quiet);
    assert_eq!(reconcile.await.unwrap().changes, 1);
    assert!(directory.token("new").unwrap().may_write);
}

#[tokio::test]
async fn tables_of_another_log_and_empty_ones_take_no_effect() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    directory.reconcile(Wanted::default()).await.unwrap();
    directory.reconcile(wanted(&[])).await.unwrap();
    let empty = directory.reconcile(Wanted::default()).await.unwrap_err();
    assert!(matches!(empty, DirectoryError::EmptyRegistry { tenants: 1, devices: 0 }), "{empty}");
    let foreign = Wanted { logs: [Uuid::from_u128(1)].into(), ..wanted(&[]) };
    let foreign = directory.reconcile(foreign).await.unwrap_err();
    assert!(matches!(foreign, DirectoryError::ForeignDatabase { .. }), "{foreign}");
    let own = Wanted { registry_of: Some(directory.log.id()), ..Wanted::default() };
    assert_eq!(directory.reconcile(own).await.unwrap().changes, 2);
}

#[tokio::test]
async fn what_no_record_holds_is_a_bad_row() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let mut large = wanted(&[]);
    let variables = [("key".to_owned(), "x".repeat(2 << 20))].into();
    large.devices.insert(Device { variables, ..device(7, "pump") }.into());
    large.devices.insert(device(8, "valve").into());
    let reconciled = directory.reconcile(large).await.unwrap();
    assert_eq!((reconciled.changes, directory.devices()), (3, 1));
    assert!(reconciled.bad[0].to_string().starts_with("device pump: it has "), "{}", reconciled.bad[0]);
}

#[tokio::test]
async fn a_snapshot_ahead_of_the_log_is_not_believed() {
    let (dir, older) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let directory = open(dir.path());
    directory.reconcile(wanted(&[("old", token(true))])).await.unwrap();
    let copy = || {
        std::fs::create_dir_all(older.path().join("log")).unwrap();
        for file in std::fs::read_dir(dir.path().join("log")).unwrap().map(Result::unwrap) {
            std::fs::copy(file.path(), older.path().join("log").join(file.file_name())).unwrap();
        }
    };
    copy();
    let mut more = wanted(&[("old", token(true))]);
    more.devices.insert(device(DeviceNo::provisioned(Partition(0), 4).unwrap().0, "pump").into());
    directory.reconcile(more).await.unwrap();
    directory.save(true).await.unwrap();
    drop(directory);
    std::fs::copy(dir.path().join("registry.snapshot"), older.path().join("registry.snapshot")).unwrap();

    // The log was put back from a copy, the snapshot was not.
    let directory = open(older.path());
    assert_eq!(directory.devices(), 0, "no record of the log makes it");
    assert!(directory.token("old").is_some());
    assert_eq!(directory.state().effect.provisioned_count[&Partition(0)], 5, "numbers are not given again");
}

#[tokio::test]
async fn quotas_are_in_force_without_a_database_and_stay_where_their_row_cannot_be_used() {
    let dir = tempfile::tempdir().unwrap();
    let directory = open(dir.path());
    let quota = |max| {
        let treatment = Treatment::Quarantine;
        [(TENANT, Quota { tenant: "t".into(), per_second_max: Some(max), per_day_max: None, treatment })]
    };
    directory.reconcile(Wanted { quotas: quota(5).into(), ..wanted(&[]) }).await.unwrap();
    let unusable = Wanted { kept_quotas: [TENANT].into(), ..wanted(&[]) };
    directory.reconcile(unusable).await.unwrap();
    assert_eq!(*directory.quotas(), quota(5).into());
    directory.save(false).await.unwrap();
    drop(directory);

    let directory = open(dir.path());
    assert_eq!(*directory.quotas(), quota(5).into(), "from the local copy alone");
    let reconciled = directory.reconcile(Wanted { quotas: quota(6).into(), ..wanted(&[]) }).await.unwrap();
    assert_eq!((reconciled.changes, &*directory.quotas()), (0, &quota(6).into()), "the log has no part in it");
    directory.reconcile(wanted(&[])).await.unwrap();
    assert!(directory.quotas().is_empty(), "it was lifted");
}
