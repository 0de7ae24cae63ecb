//! `weir tenant set`, and the quotas of `weir tenant add`.

use super::Settings;
use crate::registry::QuotaChange;
use anyhow::bail;
use clap::{Args, ValueEnum};

/// Quotas, as they are given.
#[derive(Args, Clone, PartialEq, Eq, Debug)]
pub(super) struct QuotaArgs {
    /// Most measurements a second, of which ten seconds' worth may come at once; or "none".
    #[arg(long, value_name = "COUNT", value_parser = count)]
    per_second: Option<Count>,
    /// Most measurements a day in UTC; or "none".
    #[arg(long, value_name = "COUNT", value_parser = count)]
    per_day: Option<Count>,
    /// What becomes of uplinks over a quota; a new tenant's go to quarantine where nothing is said.
    #[arg(long)]
    over_quota: Option<OverQuota>,
    /// With --over-quota thin: in which one uplink of each device is stored, up to "1 day"; "15 minutes" where nothing is
    /// said.
    #[arg(long, value_name = "INTERVAL")]
    thin_interval: Option<String>,
}

/// What becomes of uplinks over a quota.
#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
enum OverQuota {
    /// They are set aside whole; `weir quarantine retry` stores them.
    Quarantine,
    /// One of each device in an interval is stored, the others are counted.
    Thin,
}

/// A quota, or that there is none.
type Count = Option<u32>;

fn count(text: &str) -> Result<Count, String> {
    match (text, text.parse()) {
        ("none", _) => Ok(None),
        (_, Ok(count @ 1..)) => Ok(Some(count)),
        _ => Err("give a whole number from 1 on, or none".into()),
    }
}

impl QuotaArgs {
    /// Gives what is to change.
    pub(super) fn change(self) -> QuotaChange {
        let Self { per_second, per_day, over_quota, thin_interval } = self;
        let word = |over| match over {
            OverQuota::Quarantine => "quarantine".to_owned(),
            OverQuota::Thin => "thin".to_owned(),
        };
        QuotaChange {
            per_second_max: per_second.map(|count| count.map(i64::from)),
            per_day_max: per_day.map(|count| count.map(i64::from)),
            over_quota: over_quota.map(word),
            thin_interval,
        }
    }
}

/// New quotas of a tenant.
#[derive(Args, Debug)]
pub(super) struct SetTenant {
    /// Its name.
    name: String,
    #[command(flatten)]
    quota: QuotaArgs,
}

impl SetTenant {
    pub(super) async fn run(self, settings: &Settings) -> anyhow::Result<()> {
        let change = self.quota.change();
        if change == QuotaChange::default() {
            bail!("nothing is to change: give --per-second, --per-day, --over-quota or --thin-interval");
        }
        change.apply(&settings.client().await?, &self.name).await?;
        println!("Changed.");
        Ok(())
    }
}
