//! Deletes entries for good.

use super::{Filter, NO_UPLINK};
use crate::store::error::Doing;
use crate::store::{Store, StoreError};

impl Store {
    /// Deletes entries with their marks, and gives how many. What they hold is lost, where the log does not keep
    /// it still. One whose retry is in the log already is stored nevertheless.
    pub async fn quarantine_drop(&self, filter: &Filter) -> Result<u64, StoreError> {
        let doing = "the entries of quarantine could not be dropped";
        let sql = format!(
            "WITH dropped AS (DELETE FROM quarantine q WHERE {} RETURNING q.log_time, q.\"partition\", q.\"offset\", q.field, q.reason), \
             marks AS (DELETE FROM quarantine_retry r USING dropped d WHERE r.log_time = d.log_time AND r.\"partition\" = d.\"partition\" \
                       AND r.\"offset\" = d.\"offset\" AND r.field IS NOT DISTINCT FROM d.field AND d.reason <> ALL ($8)) \
             SELECT count(*) FROM dropped",
            Filter::CONDITION
        );
        let values = filter.values();
        let reasons = NO_UPLINK.as_slice();
        let mut params = values.params();
        params.push(&reasons);
        let client = self.client().await?;
        let row = client.query_one(&sql, &params).await.doing(doing)?;
        Ok(row.get::<_, i64>(0).cast_unsigned())
    }
}
