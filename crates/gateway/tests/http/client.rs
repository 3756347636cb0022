//! A client of HTTP/1.1 that can also break off.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What is asked.
pub(crate) struct Ask {
    method: &'static str,
    path: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Whether the body ended as it was said to.
    pub(crate) whole: bool,
}

pub(crate) fn ask(method: &'static str, path: impl Into<String>) -> Ask {
    Ask { method, path: path.into(), headers: Vec::new(), body: Vec::new() }
}

impl Ask {
    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn token(self, token: &str) -> Self {
        self.header("Authorization", format!("Bearer {token}"))
    }

    pub(crate) fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }

    fn head(&self, length: usize) -> String {
        let mut head =
            format!("{} {} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n", self.method, self.path);
        if length > 0 || ["POST", "PUT", "PATCH"].contains(&self.method) {
            head += &format!("Content-Length: {length}\r\n");
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        head + "\r\n"
    }

    pub(crate) async fn send(self, to: SocketAddr) -> Reply {
        let mut stream = TcpStream::connect(to).await.expect("a connection");
        stream.write_all(self.head(self.body.len()).as_bytes()).await.expect("a head");
        // A gateway may have answered, and closed, before it has read all.
        let _ = stream.write_all(&self.body).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        Reply::parse(&bytes, self.method)
    }

    /// Sends so much of the body and hangs up.
    pub(crate) async fn break_off(self, to: SocketAddr, sent: usize) {
        let mut stream = TcpStream::connect(to).await.expect("a connection");
        stream.write_all(self.head(self.body.len()).as_bytes()).await.expect("a head");
        stream.write_all(&self.body[..sent]).await.expect("a part of the body");
        stream.flush().await.expect("it is sent");
        drop(stream);
    }

    /// Reads an answer that goes on, until it has this text.
    pub(crate) async fn until(self, to: SocketAddr, text: &str) -> String {
        let mut stream = TcpStream::connect(to).await.expect("a connection");
        stream.write_all(self.head(0).as_bytes()).await.expect("a head");
        let mut bytes = Vec::new();
        while !String::from_utf8_lossy(&bytes).contains(text) {
            let read = stream.read_buf(&mut bytes).await.expect("more of the answer");
            assert!(read > 0, "it ended without {text}: {}", String::from_utf8_lossy(&bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Reply {
    fn parse(bytes: &[u8], method: &str) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut lines = head.lines();
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).expect("a status");
        let pairs = lines.filter_map(|line| line.split_once(':'));
        let headers: BTreeMap<String, String> =
            pairs.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        let rest = &bytes[end + 4..];
        let (body, whole) = match headers.get("transfer-encoding") {
            Some(coding) if coding == "chunked" => unchunked(rest),
            _ => {
                let told = headers.get("content-length").and_then(|length| length.parse::<usize>().ok());
                let whole = method == "HEAD" || told.is_none_or(|length| length == rest.len());
                (rest.to_vec(), whole)
            }
        };
        Self { status: status.parse().expect("a number"), headers, body, whole }
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The kind of the problem that it tells.
    pub(crate) fn kind(&self) -> String {
        self.json()["error"]["kind"].as_str().expect("a problem").to_owned()
    }
}

fn unchunked(mut rest: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = usize::from_str_radix(&String::from_utf8_lossy(&rest[..end]), 16).expect("a size");
        if size == 0 {
            return (body, true);
        }
        if rest.len() < end + 2 + size {
            break;
        }
        body.extend_from_slice(&rest[end + 2..end + 2 + size]);
        rest = rest.get(end + 2 + size + 2..).unwrap_or_default();
    }
    (body, false)
}
