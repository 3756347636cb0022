//! A web server on loopback that keeps what is posted to it, in the clear or over TLS.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::Value;

/// A web server that keeps what is posted to it. Its first answer is that it is overloaded.
pub(crate) struct WebServer {
    pub(crate) address: String,
    seen: Arc<Seen>,
}

/// What the server has seen so far.
#[derive(Default)]
struct Seen {
    posted: Mutex<Vec<Value>>,
    refused: AtomicUsize,
    broken: AtomicUsize,
}

impl WebServer {
    pub(crate) fn start() -> Self {
        Self::serve("http", answer)
    }

    /// The same, over TLS.
    pub(crate) fn start_tls(config: ServerConfig) -> Self {
        let config = Arc::new(config);
        Self::serve("https", move |stream, seen| {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("the settings are sound");
            answer(StreamOwned::new(connection, stream), seen)
        })
    }

    fn serve(
        scheme: &str,
        answer: impl Fn(TcpStream, &Seen) -> io::Result<()> + Clone + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("{scheme}://{}/alerts", listener.local_addr().expect("an address"));
        let seen = Arc::new(Seen::default());
        let server = Self { address, seen: Arc::clone(&seen) };
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (seen, answer) = (Arc::clone(&seen), answer.clone());
                thread::spawn(move || {
                    if answer(stream.expect("a connection"), &seen).is_err() {
                        seen.broken.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
        });
        server
    }

    /// What was posted and taken.
    pub(crate) fn notices(&self) -> Vec<Value> {
        self.seen.posted.lock().expect("no test panicked with it").clone()
    }

    /// How often it said that it is overloaded.
    pub(crate) fn refused(&self) -> usize {
        self.seen.refused.load(Ordering::Relaxed)
    }

    /// Connections that ended before they brought a request.
    pub(crate) fn broken(&self) -> usize {
        self.seen.broken.load(Ordering::Relaxed)
    }
}

/// Takes one notice and closes the connection.
fn answer(stream: impl Read + Write, seen: &Seen) -> io::Result<()> {
    let mut reader = BufReader::new(stream);
    let Some((first, body)) = request(&mut reader)? else { return Ok(()) };
    assert!(first.starts_with("POST /alerts HTTP/1.1"), "{first}");
    if seen.refused.fetch_max(1, Ordering::Relaxed) == 0 {
        say(reader.get_mut(), "503 Service Unavailable");
    } else {
        let notice = serde_json::from_slice(&body).expect("a notice is JSON");
        seen.posted.lock().expect("no test panicked with it").push(notice);
        say(reader.get_mut(), "200 OK");
    }
    Ok(())
}

/// Reads a request: its first line and its body. None where the connection ends before one begins.
fn request(reader: &mut impl BufRead) -> io::Result<Option<(String, Vec<u8>)>> {
    let mut size = 0;
    let mut first = String::new();
    if reader.read_line(&mut first)? == 0 {
        return Ok(None);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
            size = value.trim().parse().expect("a size");
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; size];
    reader.read_exact(&mut body)?;
    Ok(Some((first, body)))
}

fn say(stream: &mut impl Write, status: &str) {
    // Whoever posted may have given up.
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let _ = stream.flush();
}

/// A collector of traces, which keeps what is posted to it as it comes.
pub(crate) struct Collector {
    pub(crate) address: String,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = format!("http://{}/v1/traces", listener.local_addr().expect("an address"));
        let collector = Self { address, bodies: Arc::default() };
        let bodies = Arc::clone(&collector.bodies);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.expect("a connection"));
                if let Some((first, body)) = request(&mut reader).expect("a whole request") {
                    assert!(first.starts_with("POST /v1/traces HTTP/1.1"), "{first}");
                    bodies.lock().expect("no test panicked with it").push(body);
                    say(reader.get_mut(), "200 OK");
                }
            }
        });
        collector
    }

    /// What was posted so far.
    pub(crate) fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().expect("no test panicked with it").clone()
    }
}
