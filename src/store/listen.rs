//! A connection that hears notifications beside carrying queries.

use super::error::Doing;
use super::hosts::Opened;
use super::{Store, StoreError};
use tokio::sync::mpsc;
use tokio_postgres::Client;

impl Store {
    /// Makes a connection that listens on `channel`. The receiver gets a unit for notifications that
    /// came since it was last asked, and ends with the connection.
    ///
    /// Errors: as [`Store::client`].
    pub async fn listen(&self, channel: &str) -> Result<(Client, mpsc::Receiver<()>), StoreError> {
        let Opened { client, notices, .. } = self.open().await?;
        client.batch_execute(&format!("LISTEN {channel}")).await.doing("notifications could not be asked for")?;
        Ok((client, notices))
    }
}
