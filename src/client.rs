//! Asks a running daemon: GET over plain HTTP, on one connection that is kept.

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The address is none.
    #[error("{0:?} is no address: give one such as http://127.0.0.1:8080")]
    Address(String),
    /// Nothing listens there.
    #[error("no connection: {0}")]
    Connect(#[from] std::io::Error),
    /// The connection broke.
    #[error("no answer: {0}")]
    Broken(#[from] hyper::Error),
    /// The daemon says no.
    #[error("{status}: {body}")]
    Refused {
        /// Its status.
        status: StatusCode,
        /// What it says.
        body: String,
    },
    /// The answer is not JSON.
    #[error("the answer is not JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// A client of one daemon.
pub struct Client {
    authority: String,
    authorization: Option<String>,
    open: Option<SendRequest<Empty<Bytes>>>,
}

impl Client {
    /// Takes the address of a daemon, as in `http://127.0.0.1:8080`, and a token where the paths ask for one.
    ///
    /// Errors: an address without a host.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let uri: Uri = url.parse().map_err(|_| ClientError::Address(url.to_owned()))?;
        let authority = uri.authority().ok_or_else(|| ClientError::Address(url.to_owned()))?.as_str().to_owned();
        Ok(Self { authority, authorization: token.map(|token| format!("Bearer {token}")), open: None })
    }

    /// Gets a text.
    ///
    /// Errors: no answer, or no success.
    pub async fn text(&mut self, path: &str) -> Result<Bytes, ClientError> {
        if let Some(open) = &mut self.open
            && open.ready().await.is_err()
        {
            self.open = None;
        }
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(connect(&self.authority).await?),
        };
        let mut request = Request::get(path).header(HOST, &self.authority);
        if let Some(authorization) = &self.authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let request = request.body(Empty::new()).map_err(|_| ClientError::Address(path.to_owned()))?;
        let answer = open.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(ClientError::Refused { status, body: String::from_utf8_lossy(&body).into_owned() });
        }
        Ok(body)
    }

    /// Gets a JSON document.
    ///
    /// Errors: no answer, no success, or no JSON.
    pub async fn json(&mut self, path: &str) -> Result<Value, ClientError> {
        Ok(serde_json::from_slice(&self.text(path).await?)?)
    }
}

async fn connect(authority: &str) -> Result<SendRequest<Empty<Bytes>>, ClientError> {
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let (open, driver) = handshake(TokioIo::new(stream)).await?;
    // It ends with the connection; the requests that it carries tell their own errors.
    tokio::spawn(driver);
    Ok(open)
}
