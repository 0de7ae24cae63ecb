//! An account under a clock of its own.

use super::*;
use dataflows::model::{SECOND_US, Treatment};

const DAY: i64 = 20_000;

fn at(seconds: i64) -> EventTime {
    EventTime(DAY * DAY_US + seconds * SECOND_US)
}

fn quota(per_second_max: Option<u64>, per_day_max: Option<u64>) -> Quota {
    Quota { tenant: "waterworks".into(), per_second_max, per_day_max, treatment: Treatment::Quarantine }
}

fn metered(uplinks: u64, measurements: u64) -> Metered {
    Metered { uplinks, measurements }
}

/// How many of the uplinks are within, and over which quota the others are.
fn charge(account: &mut Account, quota: &Quota, uplinks: usize, seconds: i64) -> (usize, Option<QuotaSpan>) {
    let charge = account.charge(quota, uplinks, at(seconds));
    (charge.within, charge.excess.map(|excess| excess.span))
}

/// Opens an account that knows that an uplink holds five measurements.
fn account_of_fives(quota: &Quota) -> Account {
    let mut account = Account::new(None, quota, at(0));
    account.settle(quota, metered(10, 50));
    account
}

#[test]
fn a_burst_is_within_the_quota_a_second_and_then_its_rate() {
    let quota = quota(Some(10), None);
    let mut account = account_of_fives(&quota);
    assert_eq!(charge(&mut account, &quota, 30, 0), (20, Some(QuotaSpan::Second)), "ten seconds' worth: 100 measurements");
    assert_eq!(charge(&mut account, &quota, 1, 0), (0, Some(QuotaSpan::Second)));
    assert_eq!(charge(&mut account, &quota, 3, 1), (2, Some(QuotaSpan::Second)), "a second's worth");
    assert_eq!(charge(&mut account, &quota, 1, 1_000), (1, None));
    assert_eq!(account.kept.used(at(1_000)), Used { measurements: 115, over_uplinks: 12 });
}

#[test]
fn the_last_uplink_within_may_take_more_than_is_left_and_owes_it() {
    let quota = quota(Some(1), None);
    let mut account = account_of_fives(&quota);
    assert_eq!(charge(&mut account, &quota, 9, 0), (2, Some(QuotaSpan::Second)));
    assert_eq!(charge(&mut account, &quota, 1, 1), (1, None), "one measurement is left");
    assert_eq!(charge(&mut account, &quota, 1, 4), (0, Some(QuotaSpan::Second)), "four were owed");
    assert_eq!(charge(&mut account, &quota, 1, 6), (1, None));
}

#[test]
fn a_day_in_utc_has_its_quota_and_the_next_one_again() {
    let quota = quota(None, Some(50));
    let mut account = account_of_fives(&quota);
    assert_eq!(charge(&mut account, &quota, 12, 0), (10, Some(QuotaSpan::Day)));
    assert_eq!(charge(&mut account, &quota, 1, 86_399), (0, Some(QuotaSpan::Day)));
    assert_eq!(account.kept.used(at(86_399)), Used { measurements: 50, over_uplinks: 3 });
    assert_eq!(account.kept.used(at(86_400)), Used::default());
    assert_eq!(charge(&mut account, &quota, 12, 86_400), (10, Some(QuotaSpan::Day)));
    assert_eq!(charge(&mut account, &quota, 1, 0), (1, None), "a clock that is set right begins a day");
}

#[test]
fn of_two_quotas_the_narrower_one_is_named() {
    let quota = quota(Some(10), Some(50));
    let mut account = account_of_fives(&quota);
    assert_eq!(charge(&mut account, &quota, 30, 0), (10, Some(QuotaSpan::Day)));
    let quota = Quota { per_day_max: Some(1_000), ..quota };
    assert_eq!(charge(&mut account, &quota, 30, 0), (10, Some(QuotaSpan::Second)), "the burst has 50 left");
}

#[test]
fn what_decoders_gave_takes_the_place_of_what_was_charged() {
    let quota = quota(Some(10), Some(1_000));
    let used = |account: &Account| account.kept.used(at(0)).measurements;
    let mut account = account_of_fives(&quota);
    charge(&mut account, &quota, 10, 0);
    assert_eq!(used(&account), 50);
    account.settle(&quota, metered(4, 4));
    assert_eq!(used(&account), 34, "4 of 10 gave 4 and not 20");
    account.settle(&quota, metered(6, 0));
    assert_eq!(used(&account), 4, "copies and what nobody knows gave nothing");
    assert_eq!(account.second.level(10.0, at(0)), 96.0);
    account.settle(&quota, metered(10, 80));
    assert_eq!(used(&account), 4, "these were charged before the account was opened");
    // More than was charged, and more than the quota a second can owe.
    charge(&mut account, &quota, 1, 0);
    account.settle(&quota, metered(1, 256));
    assert_eq!(used(&account), 260);
    assert_eq!(account.second.level(10.0, at(0)), -100.0);
}

#[test]
fn the_mean_follows_what_uplinks_hold() {
    let quota = quota(None, Some(1_000_000));
    let mut account = Account::new(None, &quota, at(0));
    let mut mean_after = |uplinks, measurements| {
        account.settle(&quota, metered(uplinks, measurements));
        (account.kept.mean * 100.0).round() / 100.0
    };
    assert_eq!(mean_after(1, 5), 5.0, "the first one tells most");
    assert_eq!(mean_after(1, 7), 6.0);
    assert_eq!(mean_after(2_000, 2_000), 1.0);
    assert_eq!(mean_after(100, 1_100), 2.0, "a tenth of the last thousand");
    assert_eq!(mean_after(0, 0), 2.0);
}

#[test]
fn an_append_that_failed_costs_nothing() {
    let quota = quota(Some(10), Some(50));
    let mut account = account_of_fives(&quota);
    let refused = account.charge(&quota, 12, at(0));
    account.refund(&quota, &refused, 12);
    assert_eq!(account.kept.used(at(0)), Used::default());
    assert_eq!(charge(&mut account, &quota, 12, 0), (10, Some(QuotaSpan::Day)));
    account.settle(&quota, metered(10, 50));
    assert_eq!(account.kept.used(at(0)).measurements, 50);
}

#[test]
fn ten_times_the_quota_for_longer_than_a_burst_is_abuse_and_waiting_mends_it() {
    let quota = quota(Some(10), None);
    let mut account = account_of_fives(&quota);
    // Nine times the quota for a minute: over it, and no abuse.
    for second in 0..60 {
        charge(&mut account, &quota, 18, second);
        assert_eq!(account.wait_s(&quota, at(second)), None, "second {second}");
    }
    // Twenty times: the burst lasts for ten seconds.
    let first = (60..120).find(|second| {
        charge(&mut account, &quota, 40, *second);
        account.wait_s(&quota, at(*second)).is_some()
    });
    assert_eq!(first, Some(68));
    assert_eq!(account.wait_s(&quota, at(68)), Some(1));
    assert_eq!(account.wait_s(&quota, at(69)), None);
    // However much comes at once, nobody waits for longer than a burst.
    charge(&mut account, &quota, 1_000_000, 71);
    assert_eq!(account.wait_s(&quota, at(71)), Some(11));
    assert_eq!(account.wait_s(&quota, at(82)), None);
    let only_a_day = Quota { per_second_max: None, per_day_max: Some(1), ..quota };
    let mut account = account_of_fives(&only_a_day);
    charge(&mut account, &only_a_day, 1_000_000, 0);
    assert_eq!(account.wait_s(&only_a_day, at(0)), None, "a day's quota that is used up is no abuse");
}
