//! What this machine does for each stage of a put and a get, on one core.

mod cached;

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use datamesh_codec::chunk::{Chunker, Rest};
use datamesh_codec::compress::{pack, unpack};
use datamesh_codec::keys::{Identity, ObjectKey};
use datamesh_codec::seal::{Opener, Sealer, preferred_cipher};
use datamesh_codec::stripe::Coder;
use datamesh_core::limits::MIB;
use datamesh_core::manifest::ChunkEntry;
use datamesh_core::scheme::{Chunking, Compression, Mode, Redundancy, Scheme};
use datamesh_engine::world::Entropy;
use rustix::time::{ClockId, clock_gettime};

pub use self::cached::{CachedError, Latencies, cached_requests};
use crate::system::SystemEntropy;

/// The chunk that stages are measured on.
const CHUNK_SIZE: usize = MIB;
/// Bytes that are synced together where the disk is measured.
const SYNC_SIZE: usize = 8 * MIB;
/// Bytes that are sent at once where loopback is measured.
const SEND_SIZE: usize = 256 * 1024;

/// One stage's figure.
#[derive(Debug, Clone)]
pub struct Stage {
    /// What was done.
    pub name: String,
    /// Bytes of plaintext that it was done to.
    pub size: u64,
    /// How long it took.
    pub wall: Duration,
    /// Processor time that it took, of all threads that took part.
    pub cpu: Duration,
}

/// Measures the stages that need a processor only, each on about this many bytes.
///
/// # Panics
/// If a stage does not give back what its mirror took, which would make its figure worthless.
#[must_use]
pub fn stages(size: u64, redundancy: Redundancy) -> Vec<Stage> {
    let mut chunk = vec![0; CHUNK_SIZE];
    SystemEntropy.fill(&mut chunk);
    let text: Vec<u8> =
        b"a line of text that repeats itself, with a number now and then: 4711\n".repeat(20_000);
    let text = &text[..CHUNK_SIZE];
    let mut stages = chunking(size, &chunk);
    stages.push(measured("hash (BLAKE3)", size, || {
        std::hint::black_box(blake3_of(&chunk));
    }));
    for (name, chunk) in [("random", &chunk[..]), ("text", text)] {
        let packed = pack(chunk, Compression::Zstd(1));
        stages.push(measured(&format!("compress {name} (zstd 1)"), size, || {
            drop(pack(chunk, Compression::Zstd(1)));
        }));
        stages.push(measured(&format!("decompress {name}"), size, || {
            let unpacked = unpack(packed.clone(), CHUNK_SIZE).expect("it was packed");
            assert_eq!(unpacked.len(), CHUNK_SIZE);
        }));
    }
    stages.extend(sealing(size, &chunk, redundancy));
    stages.extend(striping(size, &chunk, redundancy));
    stages
}

fn chunking(size: u64, chunk: &[u8]) -> Vec<Stage> {
    let stream = chunk.repeat(8);
    let cut = |chunking| {
        let chunker = Chunker::new(chunking, None);
        let mut at = 0;
        move |_: &()| {
            let rest = &stream[at..];
            let size = chunker.next_size(rest, Rest::Ended).expect("the stream goes on");
            at = if at + size >= stream.len() { 0 } else { at + size };
        }
    };
    let mut defined = cut(Chunking::ContentDefined);
    vec![measured("chunk (content-defined)", size, || defined(&()))]
}

fn blake3_of(chunk: &[u8]) -> datamesh_core::id::ShardId {
    datamesh_core::id::ShardId::of(chunk)
}

fn sealing(size: u64, chunk: &[u8], redundancy: Redundancy) -> Vec<Stage> {
    let scheme = Scheme {
        mode: Mode::Sealed,
        chunking: Chunking::Fixed,
        compression: Compression::None,
        cipher: preferred_cipher(),
        redundancy,
    };
    let mut draw = |buffer: &mut [u8]| SystemEntropy.fill(buffer);
    let (key, identity) = (ObjectKey::random(&mut draw), Identity::random(&mut draw));
    let sealer = Sealer::new(&scheme, &key, identity.dedup_secret());
    let opener = Opener::new(&scheme, Some(&key));
    let entry = ChunkEntry { size: 0, key: Bytes::new() };
    // One buffer goes round, so that no copy is part of the figure.
    let mut buffer = pack(chunk, Compression::None);
    let (mut seal_cpu, mut open_cpu) = (Duration::ZERO, Duration::ZERO);
    let rounds = size.div_ceil(u64::try_from(CHUNK_SIZE).expect("small"));
    for round in 0..rounds {
        let started = thread_cpu();
        let sealed = sealer.seal(round, buffer).bytes;
        seal_cpu += thread_cpu().saturating_sub(started);
        let started = thread_cpu();
        buffer = opener.open(round, &entry, sealed).expect("it was sealed");
        open_cpu += thread_cpu().saturating_sub(started);
    }
    let size = rounds * u64::try_from(CHUNK_SIZE).expect("small");
    let stage = |name: &str, cpu| Stage { name: name.to_owned(), size, wall: cpu, cpu };
    vec![stage("seal", seal_cpu), stage("open", open_cpu)]
}

fn striping(size: u64, chunk: &[u8], redundancy: Redundancy) -> Vec<Stage> {
    let coder = Coder::new(redundancy);
    let packed = pack(chunk, Compression::None);
    let encoded = coder.encode(packed.clone());
    let shards: Vec<Option<Bytes>> = encoded.shards.iter().cloned().map(Some).collect();
    let mut short = shards.clone();
    short[..redundancy.parity_count().min(redundancy.data_count())].fill(None);
    let (stripe, parity_count) = (&encoded.stripe, redundancy.parity_count());
    let decode = |shards: &[Option<Bytes>]| {
        let sealed = coder.decode(stripe, shards).expect("there are k shards");
        assert_eq!(sealed.len(), packed.len());
    };
    vec![
        measured(&format!("stripe {redundancy}, with shard ids"), size, || {
            drop(coder.encode(packed.clone()));
        }),
        measured(&format!("unstripe {redundancy}"), size, || decode(&shards)),
        measured(&format!("unstripe {redundancy} without {parity_count}"), size, || decode(&short)),
    ]
}

/// Measures how fast this disk takes bytes that must not be lost.
///
/// # Errors
/// When the directory can't be written.
pub fn disk(directory: &Path, size: u64) -> io::Result<Stage> {
    let path = directory.join("bench-disk");
    let mut file = File::create(&path)?;
    let mut bytes = vec![0; SYNC_SIZE];
    SystemEntropy.fill(&mut bytes);
    let (started, cpu) = (Instant::now(), process_cpu());
    let rounds = size.div_ceil(u64::try_from(SYNC_SIZE).expect("small"));
    for _ in 0..rounds {
        file.write_all(&bytes)?;
        file.sync_data()?;
    }
    let (wall, cpu) = (started.elapsed(), process_cpu().saturating_sub(cpu));
    std::fs::remove_file(&path)?;
    let size = rounds * u64::try_from(SYNC_SIZE).expect("small");
    Ok(Stage { name: "disk, synced every 8 MiB".to_owned(), size, wall, cpu })
}

/// Measures plain TCP from one thread to another over loopback: what no protocol on this machine can pass.
///
/// # Errors
/// When loopback can't be used.
///
/// # Panics
/// If the sending thread does.
pub fn loopback(size: u64) -> io::Result<Stage> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (started, cpu) = (Instant::now(), process_cpu());
    let sender = thread::spawn(move || -> io::Result<()> {
        let mut stream = TcpStream::connect(address)?;
        let bytes = Arc::new(vec![7; SEND_SIZE]);
        let mut left = size;
        while left > 0 {
            let step = usize::try_from(left).unwrap_or(usize::MAX).min(SEND_SIZE);
            stream.write_all(&bytes[..step])?;
            left -= u64::try_from(step).expect("small");
        }
        Ok(())
    });
    let (mut stream, _) = listener.accept()?;
    let mut buffer = vec![0; SEND_SIZE];
    while stream.read(&mut buffer)? > 0 {}
    sender.join().expect("the sender does not panic")?;
    let (wall, cpu) = (started.elapsed(), process_cpu().saturating_sub(cpu));
    Ok(Stage { name: "loopback TCP, both ends".to_owned(), size, wall, cpu })
}

/// Does something to a chunk until it was done to so many bytes.
fn measured(name: &str, size: u64, mut act: impl FnMut()) -> Stage {
    act();
    let chunk_size = u64::try_from(CHUNK_SIZE).expect("small");
    let rounds = size.div_ceil(chunk_size);
    let (started, cpu) = (Instant::now(), thread_cpu());
    for _ in 0..rounds {
        act();
    }
    let (wall, cpu) = (started.elapsed(), thread_cpu().saturating_sub(cpu));
    Stage { name: name.to_owned(), size: rounds * chunk_size, wall, cpu }
}

fn thread_cpu() -> Duration {
    read_clock(ClockId::ThreadCPUTime)
}

fn process_cpu() -> Duration {
    read_clock(ClockId::ProcessCPUTime)
}

fn read_clock(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap_or(0))
}
