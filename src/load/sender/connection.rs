//! Owns one HTTP/1.1 connection: kept alive, opened again when it broke, one request at a time.

use super::Target;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What became of an uplink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The daemon has it.
    Acknowledged,
    /// The daemon does not have it, and why.
    Refused(String),
    /// The daemon may have it, and why that is not known.
    Unanswered(String),
}

pub(super) struct Connection {
    target: Target,
    timeout: Duration,
    open: Option<SendRequest<Full<Bytes>>>,
}

/// Why a request has no answer.
enum NoAnswer {
    /// Nothing of it was sent.
    NotSent(String),
    /// Some of it may have been.
    Lost(String),
}

impl Connection {
    pub(super) fn new(target: Target, timeout: Duration) -> Self {
        Self { target, timeout, open: None }
    }

    /// Posts a body of `uplinks` uplinks and gives the outcome of each. More than one go as NDJSON.
    pub(super) async fn post(&mut self, path: &str, body: Bytes, uplinks: usize) -> Vec<Outcome> {
        match self.try_post(path, body, uplinks).await {
            Ok((status, answer)) => outcomes(status, &answer, uplinks),
            Err(no_answer) => {
                self.open = None;
                let outcome = match no_answer {
                    NoAnswer::NotSent(why) => Outcome::Refused(why),
                    NoAnswer::Lost(why) => Outcome::Unanswered(why),
                };
                vec![outcome; uplinks]
            }
        }
    }

    async fn try_post(&mut self, path: &str, body: Bytes, uplinks: usize) -> Result<(StatusCode, Bytes), NoAnswer> {
        let limit = self.timeout;
        let content_type = if uplinks == 1 { "application/json" } else { "application/x-ndjson" };
        let request = Request::post(path)
            .header(HOST, self.target.authority.as_str())
            .header(AUTHORIZATION, &self.target.authorization)
            .header(CONTENT_TYPE, content_type)
            .body(Full::new(body))
            .expect("the paths and headers are well-formed");
        let open = match timeout(limit, self.ready()).await {
            Ok(open) => open?,
            Err(_) => return Err(NoAnswer::NotSent("no connection in time".into())),
        };
        let answer = async {
            let answer = open.send_request(request).await?;
            let status = answer.status();
            Ok((status, answer.into_body().collect().await?.to_bytes()))
        };
        match timeout(limit, answer).await {
            Ok(answer) => answer.map_err(|error: hyper::Error| NoAnswer::Lost(format!("no answer: {error}"))),
            Err(_) => Err(NoAnswer::Lost("no answer in time".into())),
        }
    }

    /// Gives the connection, opened if there is none or the daemon has closed it.
    async fn ready(&mut self) -> Result<&mut SendRequest<Full<Bytes>>, NoAnswer> {
        if let Some(open) = &mut self.open
            && open.ready().await.is_err()
        {
            self.open = None;
        }
        if self.open.is_none() {
            self.open = Some(open(&self.target).await.map_err(|why| NoAnswer::NotSent(format!("no connection: {why}")))?);
        }
        Ok(self.open.as_mut().expect("it was opened just now if it was not open"))
    }
}

async fn open(target: &Target) -> Result<SendRequest<Full<Bytes>>, String> {
    let stream = TcpStream::connect(&target.authority).await.map_err(|error| error.to_string())?;
    stream.set_nodelay(true).map_err(|error| error.to_string())?;
    let (open, driver) = handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    // It ends with the connection; the requests that it carries tell their own errors.
    tokio::spawn(driver);
    Ok(open)
}

/// The daemon's answer to a batch.
#[derive(Deserialize)]
struct BatchAnswer {
    items: Vec<BatchItem>,
}

#[derive(Deserialize)]
struct BatchItem {
    index: usize,
    status: String,
}

/// The daemon's explanation of a refusal.
#[derive(Deserialize)]
struct ProblemAnswer {
    #[serde(default)]
    code: String,
    detail: String,
}

/// Codes of 503 answers that say that nothing was accepted. Another 503 may come from something in between.
const NOTHING_ACCEPTED: [&str; 5] = ["log_busy", "log_full", "crowded", "stopping", "clock_jumped"];

fn outcomes(status: StatusCode, answer: &[u8], uplinks: usize) -> Vec<Outcome> {
    if status.is_success() && uplinks > 1 {
        return batch_outcomes(answer, uplinks);
    }
    let outcome = if status.is_success() {
        Outcome::Acknowledged
    } else {
        let problem = serde_json::from_slice(answer).unwrap_or(ProblemAnswer { code: String::new(), detail: String::new() });
        let why = format!("{status}: {}", problem.detail);
        let nothing_accepted = status.is_client_error() || NOTHING_ACCEPTED.contains(&problem.code.as_str());
        if nothing_accepted { Outcome::Refused(why) } else { Outcome::Unanswered(why) }
    };
    vec![outcome; uplinks]
}

fn batch_outcomes(answer: &[u8], uplinks: usize) -> Vec<Outcome> {
    let unsaid = Outcome::Unanswered("the answer to a batch leaves it out".into());
    let mut outcomes = vec![unsaid; uplinks];
    let Ok(BatchAnswer { items }) = serde_json::from_slice(answer) else { return outcomes };
    for item in items {
        if let Some(outcome) = outcomes.get_mut(item.index) {
            *outcome = match item.status.as_str() {
                "accepted" => Outcome::Acknowledged,
                other => Outcome::Refused(other.to_owned()),
            };
        }
    }
    outcomes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_tell_what_became_of_each_uplink() {
        let check = |status: u16, answer: &str, uplinks: usize, expected: &str| {
            let outcomes = outcomes(StatusCode::from_u16(status).unwrap(), answer.as_bytes(), uplinks);
            let letters: String = outcomes
                .iter()
                .map(|outcome| match outcome {
                    Outcome::Acknowledged => 'a',
                    Outcome::Refused(_) => 'r',
                    Outcome::Unanswered(_) => 'u',
                })
                .collect();
            assert_eq!(letters, expected, "{status} {answer}");
        };
        check(200, r#"{"status":"accepted"}"#, 1, "a");
        check(204, "", 1, "a");
        check(422, r#"{"detail":"no payload"}"#, 1, "r");
        check(401, "", 3, "rrr");
        check(503, r#"{"detail":"busy"}"#, 2, "uu");
        check(503, r#"{"code":"log_busy","detail":"busy"}"#, 2, "rr");
        check(503, r#"{"code":"stopping","detail":"stopping"}"#, 1, "r");
        check(500, r#"{"code":"unknown","detail":""}"#, 1, "u");
        check(200, r#"{"items":[{"index":1,"status":"rejected"},{"index":0,"status":"accepted"}]}"#, 3, "aru");
        check(200, r#"{"items":[{"index":9,"status":"accepted"}]}"#, 2, "uu");
        check(200, "<html>", 2, "uu");
    }

    #[test]
    fn a_refusal_says_why() {
        let outcomes = outcomes(StatusCode::UNPROCESSABLE_ENTITY, br#"{"detail":"no payload"}"#, 1);
        assert_eq!(outcomes, [Outcome::Refused("422 Unprocessable Entity: no payload".into())]);
    }
}
