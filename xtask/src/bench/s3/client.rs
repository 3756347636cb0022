//! A client of S3 that costs little beside the server: it signs addresses, sends bytes as they are, and keeps connections.

use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use ureq::{Agent, SendBody};

use super::{BUCKET, Endpoint};
use crate::bench::stream::Stream;

/// How long a signed address is good for: longer than any row runs.
const SIGNED_FOR: Duration = Duration::from_secs(6 * 3600);
/// Connections that are kept for the next request.
const IDLE_CONNECTIONS: usize = 128;
/// Bytes that an error shows of an answer.
const SHOWN: usize = 500;
/// How often a client that trickles sends a byte, and which.
const TRICKLE_EVERY: Duration = Duration::from_millis(50);
const DAWDLED: u8 = 7;

/// A client, whose clones share their connections.
#[derive(Clone)]
pub(crate) struct Client {
    agent: Agent,
    bucket: Bucket,
    credentials: Credentials,
}

/// Many small objects, numbered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Objects {
    /// How many.
    pub(crate) count: usize,
    /// Bytes of each.
    pub(crate) size: u64,
    /// Clients that take one after another.
    pub(crate) clients: usize,
    /// What their bytes are made from.
    pub(crate) seed: u64,
}

/// What many requests took.
pub(crate) struct Took {
    /// From the first to the last.
    pub(crate) wall: Duration,
    /// Each one, shortest first.
    pub(crate) each: Vec<Duration>,
}

impl Client {
    /// One of this server.
    pub(crate) fn new(endpoint: &Endpoint) -> Result<Self, String> {
        let address = endpoint.address.parse().map_err(|error| format!("{}: {error}", endpoint.address))?;
        let bucket = Bucket::new(address, UrlStyle::Path, BUCKET, endpoint.region.clone());
        let bucket = bucket.map_err(|error| format!("{}: {error}", endpoint.address))?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_idle_connections(IDLE_CONNECTIONS)
            .max_idle_connections_per_host(IDLE_CONNECTIONS)
            .build()
            .into();
        let credentials = Credentials::new(&endpoint.key, &endpoint.secret);
        Ok(Self { agent, bucket, credentials })
    }

    /// Makes the bucket.
    pub(crate) fn create_bucket(&self) -> Result<(), String> {
        let address = self.bucket.create_bucket(&self.credentials).sign(SIGNED_FOR);
        answered("a bucket", self.agent.put(address.as_str()).send_empty()).map(drop)
    }

    /// Puts so much of a seed's stream under a key.
    pub(crate) fn put(&self, key: &str, seed: u64, size: u64) -> Result<(), String> {
        self.put_from(key, &mut Stream::new(seed).take_bytes(size), size)
    }

    /// Puts what a reader has, which is so much.
    pub(crate) fn put_from(&self, key: &str, body: &mut dyn Read, size: u64) -> Result<(), String> {
        let address = self.bucket.put_object(Some(&self.credentials), key).sign(SIGNED_FOR);
        let request = self.agent.put(address.as_str()).header("content-length", size.to_string());
        answered(key, request.send(SendBody::from_reader(body))).map(drop)
    }

    /// Gets an object, which must be so much of a seed's stream.
    pub(crate) fn get(&self, key: &str, seed: u64, size: u64) -> Result<(), String> {
        let address = self.bucket.get_object(Some(&self.credentials), key).sign(SIGNED_FOR);
        let mut answer = answered(key, self.agent.get(address.as_str()).call())?;
        let same = Stream::new(seed).is(size, answer.body_mut().as_reader());
        match same {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{key}: what came back is not what was put")),
            Err(error) => Err(format!("{key}: {error}")),
        }
    }

    /// Puts many objects.
    pub(crate) fn put_each(&self, objects: Objects) -> Result<Took, String> {
        each(objects, |number| self.put(&key(number), objects.seed + number as u64, objects.size))
    }

    /// Gets them.
    pub(crate) fn get_each(&self, objects: Objects) -> Result<Took, String> {
        each(objects, |number| self.get(&key(number), objects.seed + number as u64, objects.size))
    }
}

fn key(number: usize) -> String {
    format!("small/{number:06}")
}

/// The answer, where it says that all is well.
fn answered(
    what: &str,
    answer: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
) -> Result<ureq::http::Response<ureq::Body>, String> {
    let mut answer = answer.map_err(|error| format!("{what}: {error}"))?;
    if answer.status().is_success() {
        return Ok(answer);
    }
    let said = answer.body_mut().read_to_string().unwrap_or_default();
    Err(format!("{what}: {}: {}", answer.status(), said.chars().take(SHOWN).collect::<String>()))
}

/// Does something for every number, by so many clients of which each takes the next one.
fn each(objects: Objects, act: impl Fn(usize) -> Result<(), String> + Sync) -> Result<Took, String> {
    let (next, begun) = (AtomicUsize::new(0), Instant::now());
    let run = || {
        let mut took = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= objects.count {
                return Ok(took);
            }
            let started = Instant::now();
            act(number)?;
            took.push(started.elapsed());
        }
    };
    let ended: Vec<Result<Vec<Duration>, String>> = thread::scope(|scope| {
        let clients: Vec<_> = (0..objects.clients).map(|_| scope.spawn(run)).collect();
        clients.into_iter().map(|client| client.join().expect("a client doesn't panic")).collect()
    });
    let wall = begun.elapsed();
    let mut each: Vec<Duration> = ended.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    each.sort_unstable();
    Ok(Took { wall, each })
}

impl Took {
    /// The time that so many of a hundred take at most.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        let last = self.each.len().saturating_sub(1);
        self.each.get((self.each.len() * percent / 100).min(last)).copied().unwrap_or_default()
    }
}

/// A reader that gives some bytes at once, and then next to nothing until it is told that this is enough.
pub(crate) struct Dawdling<'a> {
    /// Bytes that it still gives at once.
    pub(crate) at_once: usize,
    /// Whether a byte comes now and then, or none any more.
    pub(crate) trickles: bool,
    /// Says when it is enough.
    pub(crate) enough: &'a AtomicBool,
}

impl Read for Dawdling<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut count = self.at_once.min(buffer.len());
        self.at_once -= count;
        while count == 0 {
            thread::sleep(TRICKLE_EVERY);
            if self.enough.load(Ordering::Relaxed) {
                return Err(io::Error::other("it was enough"));
            }
            count = usize::from(self.trickles).min(buffer.len());
        }
        buffer[..count].fill(DAWDLED);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::{Objects, Took, each};

    #[test]
    fn every_number_is_taken_once_and_a_failure_is_told() {
        let taken = Mutex::new(Vec::new());
        let objects = Objects { count: 100, size: 1, clients: 7, seed: 0 };
        let took = each(objects, |number| {
            taken.lock().expect("nobody panicked").push(number);
            Ok(())
        });
        let mut taken = taken.into_inner().expect("nobody panicked");
        taken.sort_unstable();
        assert_eq!(taken, (0..100).collect::<Vec<_>>());
        assert_eq!(took.map(|took| took.each.len()), Ok(100));
        assert!(each(objects, |number| if number == 99 { Err("no".to_owned()) } else { Ok(()) }).is_err());
    }

    #[test]
    fn a_percentile_is_a_time_that_was_taken() {
        let times: Vec<Duration> = (1..=100).map(Duration::from_millis).collect();
        let took = Took { wall: Duration::ZERO, each: times };
        assert_eq!(took.percentile(50), Duration::from_millis(51));
        assert_eq!(took.percentile(100), Duration::from_millis(100));
        assert_eq!(Took { wall: Duration::ZERO, each: Vec::new() }.percentile(50), Duration::ZERO);
    }
}
