//! What chunks must be, whatever the stream and however it arrives.

use proptest::prelude::{
    Just, ProptestConfig, Strategy, any, prop_assert, prop_assert_eq, prop_oneof, proptest,
};

use datamesh_codec::chunk::{Chunker, GearKey, Rest};
use datamesh_core::limits::{
    CHUNK_SIZE_MAX, DEFINED_CHUNK_SIZE_MEAN, DEFINED_CHUNK_SIZE_MIN, FIXED_CHUNK_SIZE, MIB,
};
use datamesh_core::scheme::Chunking;

/// Incompressible bytes that follow from a seed.
fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn sizes(chunker: &Chunker, mut stream: &[u8]) -> Vec<usize> {
    let mut sizes = Vec::new();
    while let Some(size) = chunker.next_size(stream, Rest::Ended) {
        sizes.push(size);
        stream = &stream[size..];
    }
    sizes
}

/// Chunks the stream as a reader would that gets `arrival` bytes at a time.
fn sizes_as_it_arrives(chunker: &Chunker, mut stream: &[u8], arrival: usize) -> Vec<usize> {
    let (mut buffer, mut sizes) = (Vec::new(), Vec::new());
    loop {
        let rest = if stream.is_empty() { Rest::Ended } else { Rest::MoreFollows };
        match chunker.next_size(&buffer, rest) {
            Some(size) => {
                buffer.drain(..size);
                sizes.push(size);
            }
            None if rest == Rest::Ended => return sizes,
            None => {
                assert!(buffer.len() < chunker.buffer_size(), "a full buffer must be decided on");
                let (arrived, later) = stream.split_at(arrival.min(stream.len()));
                buffer.extend_from_slice(arrived);
                stream = later;
            }
        }
    }
}

fn keyed(seed: u8) -> Chunker {
    Chunker::new(Chunking::ContentDefined, Some(&GearKey::from_bytes([seed; GearKey::SIZE])))
}

fn any_chunker() -> impl Strategy<Value = Chunker> {
    prop_oneof![
        Just(Chunker::new(Chunking::Fixed, None)),
        Just(Chunker::new(Chunking::ContentDefined, None)),
        any::<u8>().prop_map(keyed),
    ]
}

fn any_stream() -> impl Strategy<Value = Vec<u8>> {
    let size = prop_oneof![0..3_usize, 0..MIB, 0..12 * MIB];
    prop_oneof![
        (any::<u64>(), size.clone()).prop_map(|(seed, size)| noise(seed, size)),
        (any::<u8>(), size.clone()).prop_map(|(byte, size)| vec![byte; size]),
        (any::<u64>(), 1..5000_usize, size).prop_map(|(seed, period, size)| {
            noise(seed, period).into_iter().cycle().take(size).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn chunks_are_the_stream_and_within_bounds(chunker in any_chunker(), stream in any_stream()) {
        let sizes = sizes(&chunker, &stream);
        prop_assert_eq!(sizes.iter().sum::<usize>(), stream.len());
        if let Some((last, others)) = sizes.split_last() {
            prop_assert!((1..=chunker.buffer_size()).contains(last));
            let shortest = DEFINED_CHUNK_SIZE_MIN.min(chunker.buffer_size());
            prop_assert!(others.iter().all(|size| (shortest..=chunker.buffer_size()).contains(size)));
        }
    }

    #[test]
    fn chunks_do_not_depend_on_how_the_stream_arrives(
        chunker in any_chunker(), stream in any_stream(), arrival in 1000..6 * MIB,
    ) {
        prop_assert_eq!(sizes_as_it_arrives(&chunker, &stream, arrival), sizes(&chunker, &stream));
    }

    #[test]
    fn an_insertion_changes_few_content_defined_chunks(
        seed in any::<u64>(), at in 0..24 * MIB, inserted in 1..5000_usize,
    ) {
        let before = noise(seed, 24 * MIB);
        let mut after = before.clone();
        after.splice(at..at, noise(!seed, inserted));
        prop_assert!(changed(&keyed(1), &before, &after) <= 12);
    }
}

/// How many chunks of `after` are none of `before`.
fn changed(chunker: &Chunker, before: &[u8], after: &[u8]) -> usize {
    let hashes = |mut stream: &[u8]| {
        let mut hashes = Vec::new();
        for size in sizes(chunker, stream) {
            hashes.push(*blake3::hash(&stream[..size]).as_bytes());
            stream = &stream[size..];
        }
        hashes
    };
    let known = hashes(before);
    hashes(after).iter().filter(|hash| !known.contains(hash)).count()
}

#[test]
fn an_insertion_at_the_front_changes_every_fixed_chunk_but_few_content_defined_ones() {
    let before = noise(11, 32 * MIB);
    let mut after = before.clone();
    after.insert(0, 7);
    assert_eq!(changed(&Chunker::new(Chunking::Fixed, None), &before, &after), 33);
    assert!(changed(&keyed(1), &before, &after) <= 8);
}

#[test]
fn keys_cut_differently_and_one_key_cuts_alike() {
    let stream = noise(5, 32 * MIB);
    let ends = |chunker: &Chunker| {
        let mut end = 0;
        sizes(chunker, &stream)
            .into_iter()
            .map(|size| {
                end += size;
                end
            })
            .collect::<Vec<_>>()
    };
    let (one, other, public) =
        (ends(&keyed(1)), ends(&keyed(2)), ends(&Chunker::new(Chunking::ContentDefined, None)));
    assert_eq!(one, ends(&keyed(1)));
    let common = |left: &[usize], right: &[usize]| left.iter().filter(|end| right.contains(end)).count();
    // The end of the stream is everyone's last cut.
    assert_eq!(common(&one, &other), 1);
    assert_eq!(common(&one, &public), 1);
    assert_eq!(public, ends(&Chunker::new(Chunking::ContentDefined, Some(&GearKey::PUBLIC))));
}

#[test]
fn content_defined_chunks_are_of_the_mean_size_on_average() {
    let stream = noise(6, 128 * MIB);
    let mean = stream.len() / sizes(&keyed(3), &stream).len();
    assert!((DEFINED_CHUNK_SIZE_MEAN * 9 / 10..DEFINED_CHUNK_SIZE_MEAN * 5 / 4).contains(&mean), "{mean}");
}

#[test]
fn an_undecided_chunker_asks_for_more() {
    for chunker in [Chunker::new(Chunking::Fixed, None), keyed(1)] {
        let full = noise(1, chunker.buffer_size());
        assert_eq!(chunker.next_size(&full[1..], Rest::MoreFollows), None);
        assert!(chunker.next_size(&full, Rest::MoreFollows).is_some());
        assert!(chunker.next_size(&full[1..], Rest::Ended).is_some());
        assert_eq!(chunker.next_size(&[], Rest::Ended), None);
    }
    assert_eq!(Chunker::new(Chunking::Fixed, None).buffer_size(), FIXED_CHUNK_SIZE);
    assert_eq!(keyed(1).buffer_size(), CHUNK_SIZE_MAX);
}

/// Where content-defined chunks end is part of the format: objects deduplicate only with what was cut alike.
#[test]
fn cuts_never_drift() {
    let stream = noise(0, 8 * MIB);
    assert_eq!(
        sizes(&Chunker::new(Chunking::ContentDefined, None), &stream),
        [1511341, 939112, 1059604, 1066253, 1185124, 1112990, 1063653, 450531]
    );
    assert_eq!(
        sizes(&keyed(1), &stream),
        [1140169, 1094771, 376370, 1134241, 468611, 1081015, 1064415, 1178793, 850223]
    );
}
