//! Prints how many gigabytes a second one core chunks, packs, hashes, stripes and rebuilds.
//!
//! `cargo bench -p datamesh-codec --bench bytes`, with the machine otherwise idle. Figures are of input bytes, the
//! median of some hundred runs over one chunk (chunking: over a stream of them).

use std::hint::black_box;
use std::time::{Duration, Instant};

use bytes::Bytes;

use datamesh_codec::chunk::{Chunker, GearKey, Rest};
use datamesh_codec::compress::{pack, unpack};
use datamesh_codec::stripe::Coder;
use datamesh_codec::stripe::code::Code;
use datamesh_codec::tree::{LEAF_SIZE, Leaves, prove, verify};
use datamesh_core::id::ShardId;
use datamesh_core::limits::{KIB, MIB};
use datamesh_core::scheme::{Chunking, Compression, Redundancy};

const RUNS_MIN: usize = 20;
const TIME_MIN: Duration = Duration::from_millis(300);

fn main() {
    chunking();
    packing();
    hashing();
    for (data, parity) in [(1, 2), (4, 2), (8, 4), (10, 6), (16, 8)] {
        striping(Redundancy::new(data, parity).expect("a redundancy"));
    }
}

fn chunking() {
    let stream = noise(64 * MIB);
    let key = GearKey::from_bytes([7; GearKey::SIZE]);
    for (name, chunking) in [("chunk fixed", Chunking::Fixed), ("chunk cdc", Chunking::ContentDefined)] {
        let chunker = Chunker::new(chunking, Some(&key));
        report(name, stream.len(), || {
            let mut rest = &stream[..];
            while let Some(size) = chunker.next_size(rest, Rest::Ended) {
                rest = &rest[black_box(size)..];
            }
        });
    }
}

fn packing() {
    for (kind, chunk) in [("random", noise(MIB)), ("text", text(MIB))] {
        for (level, compression) in [
            ("stored", Compression::None),
            ("zstd 1", Compression::Zstd(1)),
            ("zstd 3", Compression::Zstd(3)),
        ] {
            let packed = pack(&chunk, compression);
            let kept = percent(packed.len(), chunk.len());
            report(&format!("pack {kind}, {level} ({kept} %)"), MIB, || pack(&chunk, compression));
            // The copy that unpacking consumes is part of the figure.
            report(&format!("unpack {kind}, {level}"), MIB, || unpack(packed.clone(), MIB));
        }
    }
}

fn hashing() {
    for (name, size) in
        [("BLAKE3 of 1 MiB", MIB), ("BLAKE3 of 256 KiB", 256 * KIB), ("BLAKE3 of 64 KiB", 64 * KIB)]
    {
        let bytes = noise(size);
        report(name, size, || ShardId::of(&bytes));
    }
    let shard = noise(256 * KIB);
    let id = ShardId::of(&shard);
    for (name, run) in [("one leaf", 100..101), ("64 KiB", 64..128)] {
        let leaves = Leaves::new(run, shard.len()).expect("leaves of the shard");
        let proof = prove(&shard, &leaves);
        report(&format!("prove {name} of 256 KiB (of the shard)"), shard.len(), || prove(&shard, &leaves));
        report(&format!("verify {name} of 256 KiB (of the proof)"), proof.len(), || {
            verify(id, &leaves, &proof).is_ok()
        });
    }
    assert_eq!(LEAF_SIZE, KIB);
}

fn striping(redundancy: Redundancy) {
    let (data, parity) = (redundancy.data_count(), redundancy.parity_count());
    let lost: Vec<usize> = (0..data.min(parity)).collect();
    let size = redundancy.shard_size(MIB);
    let code = Code::new(redundancy);
    let bytes = noise(data * size);
    let shards: Vec<&[u8]> = bytes.chunks_exact(size).collect();
    let mut computed = vec![0; parity * size];
    report(&format!("code {redundancy}: parity"), MIB, || {
        code.encode(&shards, &mut computed.chunks_exact_mut(size).collect::<Vec<_>>());
    });
    let all = shards.iter().copied().chain(computed.chunks_exact(size)).enumerate();
    let kept: Vec<Option<&[u8]>> =
        all.map(|(index, shard)| (!lost.contains(&index)).then_some(shard)).collect();
    let mut rebuilt = vec![0; lost.len() * size];
    report(&format!("code {redundancy}: rebuild {}", lost.len()), MIB, || {
        code.rebuild(&kept, &lost, &mut rebuilt.chunks_exact_mut(size).collect::<Vec<_>>());
    });
    assert!(rebuilt == bytes[..rebuilt.len()]);

    let coder = Coder::new(redundancy);
    let sealed = pack(&noise(MIB), Compression::None);
    let encoded = coder.encode(sealed.clone());
    report(&format!("stripe {redundancy}: encode with ids"), MIB, || {
        let mut taken = Vec::with_capacity(sealed.capacity());
        taken.extend_from_slice(&sealed);
        coder.encode(taken)
    });
    let all: Vec<Option<Bytes>> = encoded.shards.iter().cloned().map(Some).collect();
    report(&format!("stripe {redundancy}: decode whole"), MIB, || coder.decode(&encoded.stripe, &all));
    let kept: Vec<Option<Bytes>> = all
        .iter()
        .enumerate()
        .map(|(index, shard)| shard.clone().filter(|_| !lost.contains(&index)))
        .collect();
    report(&format!("stripe {redundancy}: decode without {}, checked", lost.len()), MIB, || {
        coder.decode(&encoded.stripe, &kept)
    });
    report(&format!("stripe {redundancy}: rebuild {}, checked", lost.len()), MIB, || {
        coder.rebuild(&encoded.stripe, &kept, &lost)
    });
}

/// Runs this until the median is steady, and prints it.
fn report<T>(name: &str, size: usize, mut run: impl FnMut() -> T) {
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < RUNS_MIN || begun.elapsed() < TIME_MIN {
        let begun = Instant::now();
        black_box(run());
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    let median = times[times.len() / 2].max(Duration::from_nanos(1));
    let bytes_per_nanosecond = precise(size) / median.as_secs_f64() / 1e9;
    println!("{name:<45} {bytes_per_nanosecond:>8.2} GB/s {:>12.1} us", median.as_secs_f64() * 1e6);
}

fn precise(size: usize) -> f64 {
    f64::from(u32::try_from(size).expect("benchmarks are small"))
}

fn percent(part: usize, whole: usize) -> usize {
    part * 100 / whole
}

fn noise(size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut bytes);
    bytes
}

/// Lines of a log: about what text compresses to, though more regular.
fn text(size: usize) -> Vec<u8> {
    let words = noise(4096);
    let line = |number: usize| {
        let word = |at: usize| words[(number * 7 + at) % words.len()];
        format!(
            "{{\"id\":{number},\"name\":\"user-{}\",\"score\":{}}}\n",
            word(0),
            u32::from(word(1)) * u32::from(word(2))
        )
    };
    (0..).flat_map(|number| line(number).into_bytes()).take(size).collect()
}
