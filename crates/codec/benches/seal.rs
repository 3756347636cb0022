//! How fast one core seals and opens chunks of 1 MiB: `cargo bench -p datamesh-codec --bench seal`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use datamesh_codec::keys::{DedupSecret, ObjectKey};
use datamesh_codec::seal::{Opener, SEAL_SIZE, Sealer};
use datamesh_core::limits::MIB;
use datamesh_core::manifest::ChunkEntry;
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};

const CHUNKS_PER_RUN: u64 = 512;
const RUNS: usize = 5;

fn main() {
    for cipher in [Cipher::Aes256Gcm, Cipher::Chacha20Poly1305] {
        for mode in [Mode::Sealed, Mode::Dedup] {
            measure(mode, cipher);
        }
    }
}

fn measure(mode: Mode, cipher: Cipher) {
    let redundancy = Redundancy::new(4, 2).expect("a redundancy");
    let scheme =
        Scheme { mode, chunking: Chunking::Fixed, compression: Compression::None, cipher, redundancy };
    let key = ObjectKey::from_bytes([1; 32]);
    let sealer = Sealer::new(&scheme, &key, &DedupSecret::from_bytes([2; 32]));
    let opener = Opener::new(&scheme, Some(&key));
    let (mut seal_best, mut open_best) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        let (mut seal_spent, mut open_spent) = (Duration::ZERO, Duration::ZERO);
        let mut packed = Vec::with_capacity(MIB + SEAL_SIZE);
        packed.resize(MIB, 7);
        for chunk_index in 0..CHUNKS_PER_RUN {
            let begun = Instant::now();
            let sealed = sealer.seal(chunk_index, packed);
            seal_spent += begun.elapsed();
            let entry = ChunkEntry { size: 1, key: sealed.key };
            let begun = Instant::now();
            packed = black_box(opener.open(chunk_index, &entry, black_box(sealed.bytes)).expect("it opens"));
            open_spent += begun.elapsed();
        }
        seal_best = seal_best.min(seal_spent);
        open_best = open_best.min(open_spent);
    }
    let (seal, open) = (gigabytes_per_second(seal_best), gigabytes_per_second(open_best));
    println!("{mode:?} {cipher:?}: seal {seal} GB/s, open {open} GB/s");
}

fn gigabytes_per_second(spent: Duration) -> String {
    let bytes = u128::from(CHUNKS_PER_RUN) * u128::try_from(MIB).expect("a small constant");
    let hundredths = bytes * 100 / spent.as_nanos().max(1);
    format!("{}.{:02}", hundredths / 100, hundredths % 100)
}
