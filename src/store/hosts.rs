//! Connections: to the first host of the URL that accepts writes and that no failover has left behind.
//!
//! Keeps: a database is never followed back to an older timeline, also where the old primary comes back as one
//! that accepts writes and stands first in the URL.

use super::error::Doing;
use super::sqlstate::words;
use super::timeline::{Newest, Place};
use super::{StoreConfig, StoreError};
use futures_util::{StreamExt, stream};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::config::Host;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};

/// How long a host that takes the connection may take until it answers.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// The hosts of a URL, in its order, and the newest timeline that was seen on any of them.
#[derive(Clone, Debug)]
pub struct Hosts {
    each: Vec<(String, Config)>,
    newest: Arc<Newest>,
}

/// A connection.
pub struct Opened {
    /// Its near end; the connection ends when it is dropped.
    pub client: Client,
    /// Gets a unit for the notifications that came since it was last asked, and ends with the connection.
    pub notices: mpsc::Receiver<()>,
    /// What carries it.
    pub task: JoinHandle<()>,
}

impl Hosts {
    /// Takes the hosts of the URL, each with all that the URL and weir set.
    ///
    /// Errors: a URL that cannot be read.
    pub fn new(config: &StoreConfig) -> Result<Self, StoreError> {
        let all = config.postgres()?;
        let count = all.get_hosts().len().max(all.get_hostaddrs().len());
        let each = (0..count).map(|nth| only(&all, nth)).collect();
        Ok(Self { each, newest: Arc::new(Newest::open(config.timeline_file.clone())) })
    }

    /// Gives the same hosts with another database.
    pub(super) fn database(&self, name: &str) -> Self {
        let mut other = self.clone();
        for (_, config) in &mut other.each {
            config.dbname(name);
        }
        other
    }

    /// Connects to the first host that will do.
    ///
    /// Errors: no host accepts writes, or only one on an older timeline.
    pub async fn open(&self) -> Result<Opened, StoreError> {
        let mut failed = None;
        for (host, config) in &self.each {
            let opened = tokio::time::timeout(SILENCE_MAX, self.open_one(host, config)).await;
            let error = match opened {
                Ok(Ok(opened)) => return Ok(opened),
                Ok(Err(error)) => error,
                Err(_) => StoreError::Silent { host: host.clone(), seconds: SILENCE_MAX.as_secs() },
            };
            if self.each.len() > 1 && matches!(error, StoreError::OlderTimeline { .. }) {
                tracing::error!(%error, "a host is passed over");
            }
            // What a person has to mend is told, rather than that another host is away.
            if !matches!(failed, Some(StoreError::OlderTimeline { .. })) {
                failed = Some(error);
            }
        }
        Err(failed.unwrap_or(StoreError::NoHost))
    }

    async fn open_one(&self, host: &str, config: &Config) -> Result<Opened, StoreError> {
        let (client, mut connection) = config.connect(NoTls).await.map_err(StoreError::Connect)?;
        // One place is enough: a notification that finds it taken says nothing new.
        let (sender, notices) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let mut messages = stream::poll_fn(move |context| connection.poll_message(context));
            while let Some(message) = messages.next().await {
                match message {
                    // Full: see above. Closed: nobody listens.
                    Ok(AsyncMessage::Notification(_)) => drop(sender.try_send(())),
                    Ok(_) => {}
                    Err(error) => {
                        tracing::debug!(error = words(&error), "a database connection ended");
                        return;
                    }
                }
            }
        });
        let place = Place::of(&client).await.doing("the timeline could not be read")?;
        self.newest.admit(host, place)?;
        Ok(Opened { client, notices, task })
    }
}

/// Gives the `nth` host and a configuration that names no other.
fn only(all: &Config, nth: usize) -> (String, Config) {
    let mut one = Config::new();
    let port = all.get_ports().get(nth).or(all.get_ports().first()).copied().unwrap_or(5432);
    one.port(port);
    let mut name = String::new();
    if let Some(addr) = all.get_hostaddrs().get(nth) {
        one.hostaddr(*addr);
        name = addr.to_string();
    }
    match all.get_hosts().get(nth) {
        Some(Host::Tcp(host)) => {
            one.host(host);
            name.clone_from(host);
        }
        Some(Host::Unix(folder)) => {
            one.host_path(folder);
            name = folder.display().to_string();
        }
        None => {}
    }
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(dbname) = all.get_dbname() {
        one.dbname(dbname);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    if let Some(application_name) = all.get_application_name() {
        one.application_name(application_name);
    }
    if let Some(timeout) = all.get_connect_timeout() {
        one.connect_timeout(*timeout);
    }
    if let Some(timeout) = all.get_tcp_user_timeout() {
        one.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = all.get_keepalives_interval() {
        one.keepalives_interval(interval);
    }
    if let Some(retries) = all.get_keepalives_retries() {
        one.keepalives_retries(retries);
    }
    one.keepalives(all.get_keepalives()).keepalives_idle(all.get_keepalives_idle());
    one.ssl_mode(all.get_ssl_mode()).ssl_negotiation(all.get_ssl_negotiation()).channel_binding(all.get_channel_binding());
    one.target_session_attrs(all.get_target_session_attrs());
    (format!("{name}:{port}"), one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_has_its_port_and_all_settings() {
        let url = "postgres://weir:secret@first:5433,second:5434/fleet?options=-c%20geqo%3Doff&keepalives_retries=7";
        let hosts = Hosts::new(&StoreConfig::new(url)).unwrap();
        let names: Vec<_> = hosts.each.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["first:5433", "second:5434"]);
        let all = StoreConfig::new(url).postgres().unwrap();
        for (nth, (_, one)) in hosts.each.iter().enumerate() {
            // With the hosts and ports of all, it is the same.
            let mut expected = all.clone();
            let mut got = one.clone();
            assert_eq!(got.get_hosts(), &all.get_hosts()[nth..=nth]);
            for (host, port) in [("first", 5433), ("second", 5434)] {
                got.host(host).port(port);
            }
            expected.host("x").port(1);
            let strip = |config: &Config| {
                let text = format!("{config:?}");
                let from_ports = text.find("connect_timeout").unwrap();
                (text[..text.find("host:").unwrap()].to_owned(), text[from_ports..].to_owned())
            };
            assert_eq!(strip(&got), strip(&expected));
            assert_eq!(one.get_password(), all.get_password());
        }
        assert_eq!(hosts.database("other").each[1].1.get_dbname(), Some("other"));
    }
}
