//! Knows when the daemon committed checkpoints, by what the tables keep of them.

use std::time::Duration;
use tokio::time::Instant;
use tokio_postgres::{Client, Error};

/// Gives when checkpoints were committed since `began`: when each one's transaction began. The tables keep the last two of a
/// partition.
///
/// Errors: the table cannot be read.
pub async fn since(client: &Client, began: Instant) -> Result<Vec<Instant>, Error> {
    // By the server's clock alone, which may be another one than ours.
    let sql = "SELECT extract(epoch FROM greatest(clock_timestamp() - taken_at, interval '0'))::float8 FROM checkpoint";
    let rows = client.query(sql, &[]).await?;
    let now = Instant::now();
    let taken_at = rows.iter().filter_map(|row| now.checked_sub(Duration::from_secs_f64(row.get(0))));
    Ok(taken_at.filter(|&at| at >= began).collect())
}
