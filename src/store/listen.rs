//! A connection that hears notifications beside carrying queries.

use super::error::Doing;
use super::{Store, StoreError};
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

impl Store {
    /// Makes a connection that listens on `channel`. The receiver gets a unit for notifications that
    /// came since it was last asked, and ends with the connection.
    ///
    /// Errors: as [`Store::client`].
    pub async fn listen(&self, channel: &str) -> Result<(Client, mpsc::Receiver<()>), StoreError> {
        let (client, mut connection) = self.postgres.connect(NoTls).await.map_err(StoreError::Connect)?;
        // One place is enough: a notification that finds it taken says nothing new.
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(Ok(message)) = messages.next().await {
                if matches!(message, AsyncMessage::Notification(_)) {
                    // Full: see above. Closed: nobody listens, and the connection ends with its client.
                    let _ = sender.try_send(());
                }
            }
        });
        client.batch_execute(&self.config.session_sql()).await.map_err(StoreError::Connect)?;
        self.refuse_older_timeline(&client).await?;
        client.batch_execute(&format!("LISTEN {channel}")).await.doing("notifications could not be asked for")?;
        Ok((client, receiver))
    }
}
