//! Quotas of tenants, metered at the door in measurements.
//!
//! How many measurements an uplink holds is known when it was decoded, so an uplink is charged with its tenant's mean when it
//! comes, and with what it gave when the graph has run it. What is decided at the door is written into the uplink's record
//! and never again looked at: the tables stay a function of the log. Invariant: nothing is refused here for being over a
//! quota, only for coming at more than ten times of it.
//!
//! State: an account for each tenant with a quota; the day's use is kept in a file beside the log.

mod account;
mod bucket;
mod file;

pub(super) use account::Charge;

use super::view::View;
use crate::registry::{Directory, Quota, Quotas};
use account::{Account, Kept, Used};
use dataflows::model::{EventTime, TenantNo, Treatment};
use file::File;
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How often what was used is written down.
const PERIOD: Duration = Duration::from_secs(1);

/// Gives the time.
type Clock = fn() -> EventTime;

/// The accounts of all tenants with a quota.
pub(super) struct Meter {
    directory: Arc<Directory>,
    view: Arc<View>,
    clock: Clock,
    file: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    accounts: BTreeMap<TenantNo, Account>,
    /// What the file said of tenants that were not heard since.
    earlier: BTreeMap<TenantNo, Kept>,
    /// The quotas when accounts were last closed.
    quotas: Arc<Quotas>,
    /// Something changed since the file was last written.
    changed: bool,
}

/// A tenant's quotas and what was used of them, for a reader.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct QuotaStatus {
    /// The tenant's number.
    pub tenant_no: u32,
    /// The tenant's name.
    pub tenant: String,
    /// Unit: measurements.
    pub per_second_max: Option<u64>,
    /// Unit: measurements.
    pub per_day_max: Option<u64>,
    /// `quarantine` or `thin`.
    pub over_quota: &'static str,
    /// Measurements of today, in UTC, that were within the quotas.
    pub measurements_today: u64,
    /// Uplinks of today, in UTC, that were over a quota.
    pub uplinks_over_today: u64,
}

impl Meter {
    /// Goes on with what the file in `dir` says. `view` tells what uplinks came to.
    pub(super) fn open(dir: &Path, directory: Arc<Directory>, view: Arc<View>, clock: Clock) -> Self {
        let file = File::new(dir);
        let state = State { earlier: file.load(), ..State::default() };
        Self { directory, view, clock, file, state: Mutex::new(state) }
    }

    /// Charges uplinks of a tenant, in the order in which they will be in the log.
    pub(super) fn charge(&self, tenant: TenantNo, uplinks: usize) -> Charge {
        let charged = self.with(tenant, |account, quota, now| {
            let was_over = account.kept.used(now).over_uplinks > 0;
            let charge = account.charge(quota, uplinks, now);
            if let Some(excess) = charge.excess.filter(|_| !was_over) {
                let (tenant, span, max) = (&quota.tenant, excess.span.as_str(), excess.measurements_max);
                tracing::warn!(%tenant, span, max, treatment = word(excess.treatment), "a quota is used up, for the first time today");
            }
            charge
        });
        charged.unwrap_or_else(|| Charge::free(uplinks))
    }

    /// Takes a charge of so many uplinks back.
    pub(super) fn refund(&self, tenant: TenantNo, charge: &Charge, uplinks: usize) {
        self.with(tenant, |account, quota, _| account.refund(quota, charge, uplinks));
    }

    /// Gives for how long a tenant is to wait that abuses its quota. Unit: seconds.
    pub(super) fn wait_s(&self, tenant: TenantNo) -> Option<u32> {
        self.with(tenant, |account, quota, now| account.wait_s(quota, now)).flatten()
    }

    /// Gives what was used, of every tenant with a quota.
    pub(super) fn status(&self) -> Vec<QuotaStatus> {
        let (quotas, now) = (self.directory.quotas(), (self.clock)());
        let mut state = self.state();
        self.follow(&mut state, &quotas);
        let status = |(no, quota): (&TenantNo, &Quota)| {
            let kept = state.accounts.get(no).map(|account| &account.kept).or_else(|| state.earlier.get(no));
            let used = kept.map(|kept| kept.used(now)).unwrap_or_default();
            QuotaStatus {
                tenant_no: no.0,
                tenant: quota.tenant.clone(),
                per_second_max: quota.per_second_max,
                per_day_max: quota.per_day_max,
                over_quota: word(quota.treatment),
                measurements_today: used.measurements,
                uplinks_over_today: used.over_uplinks,
            }
        };
        quotas.iter().map(status).collect()
    }

    /// Writes down what was used, if it has changed.
    pub(super) fn save(&self) {
        let kept = {
            let quotas = self.directory.quotas();
            let mut state = self.state();
            self.follow(&mut state, &quotas);
            if !std::mem::take(&mut state.changed) {
                return;
            }
            let heard = state.accounts.iter().map(|(tenant, account)| (*tenant, account.kept));
            state.earlier.clone().into_iter().chain(heard).collect()
        };
        if let Err(error) = self.file.save(&kept) {
            self.state().changed = true;
            tracing::warn!(%error, "what tenants have used of their quotas cannot be written: a restart forgets it");
        }
    }

    /// Runs `f` on the account of a tenant that has a quota, with what its uplinks came to in it.
    fn with<T>(&self, tenant: TenantNo, f: impl FnOnce(&mut Account, &Quota, EventTime) -> T) -> Option<T> {
        let quotas = self.directory.quotas();
        let quota = quotas.get(&tenant)?;
        let now = (self.clock)();
        let mut state = self.state();
        self.follow(&mut state, &quotas);
        state.changed = true;
        let State { accounts, earlier, .. } = &mut *state;
        let account = accounts.entry(tenant).or_insert_with(|| Account::new(earlier.remove(&tenant), quota, now));
        Some(f(account, quota, now))
    }

    /// Closes the accounts of tenants that have no quota any more, and settles the others.
    fn follow(&self, state: &mut State, quotas: &Arc<Quotas>) {
        if !Arc::ptr_eq(&state.quotas, quotas) {
            let now = (self.clock)();
            state.accounts.retain(|tenant, _| quotas.contains_key(tenant));
            // A directory that had to be made anew knows no quota before the database is reached.
            state.earlier.retain(|tenant, kept| quotas.contains_key(tenant) || kept.used(now) != Used::default());
            state.quotas = Arc::clone(quotas);
        }
        for (tenant, metered) in self.view.take_metered() {
            if let (Some(account), Some(quota)) = (state.accounts.get_mut(&tenant), quotas.get(&tenant)) {
                account.settle(quota, metered);
                state.changed = true;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Figures only: a panic elsewhere leaves at worst an uplink that was charged in part.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes down what was used each second, until it is dropped.
pub(super) async fn run(meter: Arc<Meter>) {
    let mut period = tokio::time::interval(PERIOD);
    loop {
        period.tick().await;
        // A small file that is not synced: quicker written than handed to another thread, and never by two at once.
        meter.save();
    }
}

fn word(treatment: Treatment) -> &'static str {
    match treatment {
        Treatment::Quarantine => "quarantine",
        Treatment::Thin { .. } => "thin",
    }
}

#[cfg(test)]
mod tests;
