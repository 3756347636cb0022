//! The backend itself: whole objects and ranges of them, each within a deadline, retried a bounded number of times.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use datamesh_core::limits::MIB;
use datamesh_engine::world::Clock;
use opendal::layers::{RetryLayer, TimeoutLayer};
use opendal::services::{Fs, Redis, S3};
use opendal::{Buffer, ErrorKind, Operator};

use crate::address::{Address, RedisTransport};
use crate::secrets::Secrets;

/// How long a backend may take for one answer, or to take one part of an object.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// How often a request is made again that failed for a reason that may pass.
const RETRIES_MAX: usize = 2;
/// The same for ranges, which somebody waits for who has others to ask.
const READ_DEADLINE: Duration = Duration::from_secs(4);
const READ_RETRIES_MAX: usize = 1;
const RETRY_DELAY: Duration = Duration::from_millis(200);
const RETRY_DELAY_MAX: Duration = Duration::from_secs(1);
/// How long nobody is kept waiting for a backend that has just not answered.
const AWAY_PAUSE: Duration = Duration::from_secs(2);
/// Bytes that are sent, or read back, at once.
const PART_SIZE: usize = 8 * MIB;
/// Longest object that is read as a small one, bytes: what is known of a segment of which each record has become void.
const SMALL_SIZE_MAX: u64 = 512 * MIB as u64;
/// Where a folder's objects are written before they get their names.
const UNFINISHED: &str = "unfinished";

/// Why a backend did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// It doesn't answer, or not as it should. It may later.
    #[error("backend is away: {0}")]
    Away(String),
    /// It has no such object.
    #[error("backend has no `{0}`")]
    Missing(String),
    /// It refuses: the secrets or the settings are wrong.
    #[error("backend refuses: {0}")]
    Refused(String),
    /// What it gives is not what was stored.
    #[error("backend gives other bytes for `{0}` than were stored")]
    Rotten(String),
}

impl From<RemoteError> for io::Error {
    fn from(error: RemoteError) -> Self {
        let kind = match &error {
            // What a store takes for "nothing is known": it concludes nothing from it.
            RemoteError::Away(_) | RemoteError::Refused(_) => io::ErrorKind::HostUnreachable,
            RemoteError::Missing(_) => io::ErrorKind::NotFound,
            RemoteError::Rotten(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// A backend.
pub(crate) struct Remote {
    operator: Operator,
    /// The same backend, for ranges.
    reader: Operator,
    clock: Arc<dyn Clock>,
    /// Since when it has not answered.
    away_since: Mutex<Option<Duration>>,
    pub(crate) tally: Tally,
}

/// What was asked of a backend.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) uploaded_bytes: AtomicU64,
    pub(crate) downloaded_bytes: AtomicU64,
    pub(crate) read_count: AtomicU64,
    pub(crate) failure_count: AtomicU64,
}

impl Remote {
    /// Says where the backend is; it is not asked yet.
    pub(crate) fn new(
        address: &Address,
        secrets: &Secrets,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RemoteError> {
        // Registers the HTTP client that S3 is spoken to with.
        opendal::install_default();
        let operator = operator(address, secrets).map_err(|error| RemoteError::Refused(error.to_string()))?;
        let patient = |deadline, retries_max| {
            let timeout = TimeoutLayer::new().with_timeout(deadline).with_io_timeout(deadline);
            let retry = RetryLayer::new()
                .with_max_times(retries_max)
                .with_min_delay(RETRY_DELAY)
                .with_max_delay(RETRY_DELAY_MAX);
            operator.clone().layer(timeout).layer(retry)
        };
        let reader = patient(READ_DEADLINE, READ_RETRIES_MAX);
        let operator = patient(ANSWER_DEADLINE, RETRIES_MAX);
        Ok(Self { operator, reader, clock, away_since: Mutex::default(), tally: Tally::default() })
    }

    /// Whether it did not answer when it was last asked.
    pub(crate) fn is_away(&self) -> bool {
        self.away_since().is_some()
    }

    /// A range of an object.
    pub(crate) async fn read(&self, name: &str, offset: u64, size: usize) -> Result<Vec<u8>, RemoteError> {
        self.not_just_away()?;
        let end = offset + u64::try_from(size).expect("a size fits 64 bits");
        let read = self.reader.read_with(name).range(offset..end).await;
        let bytes = self.noted(name, read)?.to_vec();
        add(&self.tally.read_count, 1);
        add(&self.tally.downloaded_bytes, count(bytes.len()));
        if bytes.len() == size { Ok(bytes) } else { Err(RemoteError::Rotten(name.to_owned())) }
    }

    /// A small object whole; `None` if there is none.
    pub(crate) async fn read_small(&self, name: &str) -> Result<Option<Vec<u8>>, RemoteError> {
        let found = self.operator.stat(name).await;
        let read = match self.noted(name, found) {
            Ok(found) if found.content_length() > SMALL_SIZE_MAX => {
                return Err(RemoteError::Rotten(name.to_owned()));
            }
            Ok(_) => self.operator.read(name).await,
            Err(RemoteError::Missing(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        match self.noted(name, read) {
            Ok(bytes) => Ok(Some(bytes.to_vec())),
            Err(RemoteError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a small object, in place of the one that is there.
    pub(crate) async fn write_small(&self, name: &str, bytes: Vec<u8>) -> Result<(), RemoteError> {
        let written = self.operator.write(name, bytes).await;
        self.noted(name, written).map(drop)
    }

    /// Writes an object part by part, reads it back and compares. It is there whole when this returns. The hash is of what the
    /// parts were.
    pub(crate) async fn upload(
        &self,
        name: &str,
        size: u64,
        mut part: impl FnMut(&mut [u8], u64) -> io::Result<()>,
    ) -> Result<[u8; 32], UploadError> {
        let mut hasher = blake3::Hasher::new();
        let begun = self.operator.writer_with(name).chunk(PART_SIZE).await;
        let mut writer = self.noted(name, begun)?;
        let mut at = 0;
        while at < size {
            let mut bytes = vec![0; part_size(size - at)];
            if let Err(error) = part(&mut bytes, at) {
                // What is unfinished has no name yet; a backend that can't be told drops it by its own rules.
                let _ = writer.abort().await;
                return Err(UploadError::Local(error));
            }
            hasher.update(&bytes);
            at += count(bytes.len());
            let sent = writer.write(Buffer::from(bytes)).await;
            self.noted(name, sent)?;
        }
        let closed = writer.close().await;
        self.noted(name, closed)?;
        add(&self.tally.uploaded_bytes, size);
        let hash = *hasher.finalize().as_bytes();
        self.check(name, size, &hash).await?;
        Ok(hash)
    }

    /// Reads an object part by part and holds it to its hash.
    pub(crate) async fn check(&self, name: &str, size: u64, hash: &[u8; 32]) -> Result<(), RemoteError> {
        self.download(name, size, hash, |_, _| Ok(())).await.map_err(|error| match error {
            UploadError::Remote(error) => error,
            UploadError::Local(error) => RemoteError::Away(error.to_string()),
        })
    }

    /// Reads an object part by part, and says at the end whether it was what its hash says.
    pub(crate) async fn download(
        &self,
        name: &str,
        size: u64,
        hash: &[u8; 32],
        mut take: impl FnMut(&[u8], u64) -> io::Result<()>,
    ) -> Result<(), UploadError> {
        let mut hasher = blake3::Hasher::new();
        let mut at = 0;
        while at < size {
            let bytes = self.read(name, at, part_size(size - at)).await?;
            hasher.update(&bytes);
            take(&bytes, at).map_err(UploadError::Local)?;
            at += count(bytes.len());
        }
        let same = hasher.finalize().as_bytes() == hash;
        if same { Ok(()) } else { Err(RemoteError::Rotten(name.to_owned()).into()) }
    }

    /// Removes an object; fine if there is none.
    pub(crate) async fn remove(&self, name: &str) -> Result<(), RemoteError> {
        let removed = self.operator.delete(name).await;
        match self.noted(name, removed) {
            Err(RemoteError::Missing(_)) => Ok(()),
            other => other,
        }
    }

    /// Fails at once where it did not answer just now: a reader has others to ask.
    fn not_just_away(&self) -> Result<(), RemoteError> {
        match self.away_since() {
            Some(since) if self.clock.elapsed() < since + AWAY_PAUSE => {
                Err(RemoteError::Away("it did not answer just now".to_owned()))
            }
            _ => Ok(()),
        }
    }

    fn away_since(&self) -> Option<Duration> {
        *self.away_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes how it answered.
    fn noted<T>(&self, name: &str, answer: opendal::Result<T>) -> Result<T, RemoteError> {
        let answer = answer.map_err(|error| match error.kind() {
            ErrorKind::NotFound => RemoteError::Missing(name.to_owned()),
            ErrorKind::PermissionDenied | ErrorKind::ConfigInvalid | ErrorKind::Unsupported => {
                RemoteError::Refused(in_brief(&error))
            }
            _ => RemoteError::Away(in_brief(&error)),
        });
        let away = matches!(answer, Err(RemoteError::Away(_) | RemoteError::Refused(_)));
        if away {
            add(&self.tally.failure_count, 1);
        }
        let since = away.then(|| self.clock.elapsed());
        *self.away_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
        answer
    }
}

/// Why an object was not moved.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UploadError {
    /// The own disk.
    #[error("own disk: {0}")]
    Local(io::Error),
    /// The backend.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

fn operator(address: &Address, secrets: &Secrets) -> opendal::Result<Operator> {
    let text = |secret: &Option<zeroize::Zeroizing<String>>| {
        secret.as_ref().map_or(String::new(), |text| text.to_string())
    };
    match address {
        Address::S3 { bucket, prefix, endpoint, region } => {
            // Nothing is taken from where nobody said: no other program's settings, no service of a cloud's machines.
            let builder = S3::default().disable_config_load().disable_ec2_metadata();
            let builder = builder.bucket(bucket).root(&format!("/{prefix}")).region(region);
            let builder = builder.access_key_id(&text(&secrets.access_key));
            let builder = builder.secret_access_key(&text(&secrets.secret_key));
            let builder = builder.session_token(&text(&secrets.session_token));
            Operator::new(match endpoint {
                Some(endpoint) => builder.endpoint(endpoint),
                None => builder,
            })
        }
        Address::Redis { host, port, transport, database, prefix } => {
            let scheme = match transport {
                RedisTransport::Plain => "redis",
                RedisTransport::Tls => "rediss",
            };
            let builder = Redis::default().endpoint(&format!("{scheme}://{host}:{port}"));
            let builder = builder.db(i64::from(*database)).root(&format!("/{prefix}"));
            Operator::new(builder.username(&text(&secrets.user)).password(&text(&secrets.password)))
        }
        Address::Folder(path) => {
            let unfinished = format!("{path}/{UNFINISHED}");
            Operator::new(Fs::default().root(path).atomic_write_dir(&unfinished))
        }
    }
}

/// The first line of what is wrong and why: what follows is for whoever knows the library.
fn in_brief(error: &opendal::Error) -> String {
    let mut text = format!("{}: {}", error.kind(), error.message());
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.lines().next().unwrap_or_default().to_owned()
}

fn part_size(left: u64) -> usize {
    usize::try_from(left).unwrap_or(usize::MAX).min(PART_SIZE)
}

pub(crate) fn count(length: usize) -> u64 {
    u64::try_from(length).expect("a length fits 64 bits")
}

pub(crate) fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}
