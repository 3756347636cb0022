//! Receipts of what was served, kept in the home by both ends, for whoever settles accounts.
//!
//! A thread of its own writes them, so that nobody waits for the disk. Of a process that is killed the last ones may be missing.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use datamesh_core::encode::{decode, encode};
use datamesh_core::limits::RECEIPTS_FILE_SIZE_MAX;
use datamesh_core::receipt::ServiceReceipt;
use datamesh_engine::world::Receipts;
use datamesh_store::disk::Files;
use datamesh_store::journal::JournalFile;

use crate::metrics::{Samples, Source, Value, definition as metric};

/// Receipts that may wait to be written; more of them are dropped, since the disk is too slow for what it is for.
const QUEUE_LENGTH_MAX: usize = 256;
/// Processes of one home that keep receipts at the same time, each in a file of its own.
const WRITERS_MAX: usize = 64;

/// The receipts of a home.
#[derive(Debug)]
pub struct ReceiptLog {
    queue: Mutex<Option<SyncSender<ServiceReceipt>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    count: AtomicU64,
    bytes: AtomicU64,
}

impl ReceiptLog {
    /// Keeps receipts in a directory, which is made with the first of them.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(directory: PathBuf) -> io::Result<Arc<Self>> {
        let (queue, waiting) = sync_channel(QUEUE_LENGTH_MAX);
        let writer = thread::Builder::new().name("receipts".to_owned()).spawn(move || {
            if let Err(error) = write_all(&directory, &waiting, RECEIPTS_FILE_SIZE_MAX) {
                tracing::warn!(%error, "receipts of what was served are not kept any more");
            }
        })?;
        Ok(Arc::new(Self {
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }))
    }

    /// Waits until all are written, durably. What comes later is not kept.
    ///
    /// # Cancel safety
    /// They are written all the same when dropped.
    pub async fn close(&self) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer {
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::warn!("the writer of receipts has panicked");
            }
        }
    }
}

impl Receipts for ReceiptLog {
    fn keep(&self, receipt: ServiceReceipt) {
        let size = receipt.service.unverified().size();
        let queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.as_ref().is_none_or(|queue| queue.try_send(receipt).is_err()) {
            tracing::debug!("a receipt is not kept: too many wait to be written, or it came too late");
            return;
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(size, Ordering::Relaxed);
    }
}

impl Source for ReceiptLog {
    fn collect(&self, samples: &mut Samples) {
        let mut put = |definition, counter: &AtomicU64| {
            samples.put(definition, &[], Value::Integer(counter.load(Ordering::Relaxed)));
        };
        put(&metric::RECEIPTS, &self.count);
        put(&metric::RECEIPT_BYTES, &self.bytes);
    }
}

/// Every receipt that is kept in a directory, each with both signatures checked.
///
/// # Errors
/// When the directory can't be read, or a process that keeps receipts is running.
pub fn read(directory: &Path) -> io::Result<Vec<ServiceReceipt>> {
    let mut found = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(found),
        entries => entries?,
    };
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        let mut file = JournalFile::open(Arc::new(Files), path)?;
        while let Some(record) = file.read()? {
            let receipt: ServiceReceipt = decode(&record).map_err(io::Error::other)?;
            receipt.verify().map_err(io::Error::other)?;
            found.push(receipt);
        }
    }
    Ok(found)
}

fn write_all(directory: &Path, waiting: &Receiver<ServiceReceipt>, file_size_max: u64) -> io::Result<()> {
    let Ok(first) = waiting.recv() else { return Ok(()) };
    fs::create_dir_all(directory)?;
    let mut file = claim(directory)?;
    for receipt in [first].into_iter().chain(waiting) {
        if file.position().offset() >= file_size_max {
            file.sync()?;
            file = rotated(file)?;
        }
        file.append(&[encode(&receipt).into()])?;
    }
    file.sync()
}

/// The first file that no other process writes, read to its end.
fn claim(directory: &Path) -> io::Result<JournalFile> {
    for number in 0..WRITERS_MAX {
        match JournalFile::open(Arc::new(Files), directory.join(number.to_string())) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            opened => {
                let mut file = opened?;
                while file.read()?.is_some() {}
                return Ok(file);
            }
        }
    }
    Err(ErrorKind::WouldBlock.into())
}

/// Gives the last file but one up for the one that is full, and begins anew.
fn rotated(file: JournalFile) -> io::Result<JournalFile> {
    let path = file.path().to_owned();
    fs::rename(&path, path.with_extension("old"))?;
    drop(file);
    JournalFile::open(Arc::new(Files), path)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::mpsc::sync_channel;

    use datamesh_core::id::{ItemId, NodeId, ShardId};
    use datamesh_core::receipt::{Countersignature, ServedItem, Service, ServiceReceipt, SessionId};
    use datamesh_core::sign::Signed;
    use datamesh_core::time::Timestamp;
    use ed25519_dalek::SigningKey;

    use super::{read, write_all};

    fn receipt(sequence: u64) -> ServiceReceipt {
        let (reader, server) = (SigningKey::from_bytes(&[1; 32]), SigningKey::from_bytes(&[2; 32]));
        let node = |key: &SigningKey| NodeId::from_bytes(key.verifying_key().to_bytes());
        let service = Service {
            server: node(&server),
            reader: node(&reader),
            session: SessionId::from_bytes([3; 16]),
            sequence,
            items: vec![ServedItem { item: ItemId::Shard(ShardId::of(b"shard")), size: 5 }],
            total: 5 * sequence,
            served: Timestamp::from_ms(sequence),
        };
        let service = Signed::sign(service, &reader);
        let countersignature = Countersignature::of(&service, Timestamp::from_ms(sequence));
        ServiceReceipt { service, countersignature: Signed::sign(countersignature, &server) }
    }

    fn write(directory: &std::path::Path, receipts: impl IntoIterator<Item = ServiceReceipt>, size_max: u64) {
        let (queue, waiting) = sync_channel(1000);
        receipts.into_iter().for_each(|receipt| queue.send(receipt).expect("there is room"));
        drop(queue);
        write_all(directory, &waiting, size_max).expect("written");
    }

    #[test]
    fn receipts_are_read_as_written_and_a_torn_tail_costs_the_last_alone() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("receipts");
        write(&path, (1..=3).map(receipt), u64::MAX);
        write(&path, [receipt(4)], u64::MAX);
        let all: Vec<_> = (1..=4).map(receipt).collect();
        assert_eq!(read(&path).expect("readable"), all);
        let file = path.join("0");
        let bytes = fs::read(&file).expect("readable");
        fs::write(&file, &bytes[..bytes.len() - 1]).expect("written");
        assert_eq!(read(&path).expect("readable"), all[..3]);
        write(&path, [receipt(5)], u64::MAX);
        assert_eq!(read(&path).expect("readable").last(), Some(&receipt(5)));
    }

    #[test]
    fn what_is_kept_stays_bounded() {
        let directory = tempfile::tempdir().expect("a directory");
        write(directory.path(), (1..=100).map(receipt), 4000);
        let kept = read(directory.path()).expect("readable");
        assert!(kept.contains(&receipt(100)) && !kept.contains(&receipt(1)));
        let files = fs::read_dir(directory.path()).expect("readable");
        let sizes: Vec<u64> =
            files.map(|entry| entry.expect("one").metadata().expect("known").len()).collect();
        assert!(sizes.len() == 2 && sizes.iter().sum::<u64>() < 10_000, "{sizes:?}");
    }
}
