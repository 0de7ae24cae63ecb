//! Makes the partitions or chunks of the near future, so that no commit has to.

use super::super::{StoreError, classes, ranges};
use super::Round;

/// How many intervals are made ahead of the current one.
const INTERVALS_AHEAD: i64 = 2;

pub(super) async fn run(round: &mut Round) -> Result<(), StoreError> {
    let (layout, now_us) = (round.layout(), round.now.0);
    let tables: Vec<_> = classes::all(&round.classes).map(|(table, class)| (table.table.interval_us(class), table)).collect();
    for (interval_us, table) in tables {
        let instants = (0..=INTERVALS_AHEAD).map(|n| now_us + n * interval_us);
        let existing = ranges::existing(&round.client, layout, &table).await;
        let Some(existing) = round.or_postpone(&table, existing)? else { continue };
        for range in ranges::missing(&existing, instants, interval_us) {
            let made = ranges::make(&mut round.client, layout, &table, range).await;
            round.report.made += u64::from(round.or_postpone(&table, made)? == Some(true));
        }
    }
    Ok(())
}
