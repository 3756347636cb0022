//! Any k shards of a stripe are the stripe, and its format never drifts.

use bytes::Bytes;
use proptest::prelude::{Just, Strategy, any, prop_assert_eq, prop_oneof, proptest};

use datamesh_codec::stripe::code::Code;
use datamesh_codec::stripe::{Coder, DecodeError, EncodedStripe};
use datamesh_core::id::ShardId;
use datamesh_core::limits::{
    DATA_SHARDS_MAX, PARITY_SHARDS_MAX, SEALED_CHUNK_SIZE_MAX, SHARD_ALIGNMENT, STRIPE_SHARDS_MAX,
};
use datamesh_core::scheme::Redundancy;

const LARGE: [(usize, usize); 7] = [(10, 6), (16, 8), (20, 20), (64, 64), (128, 127), (127, 128), (1, 128)];

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn redundancy(data: usize, parity: usize) -> Redundancy {
    Redundancy::new(data, parity).expect("a redundancy")
}

/// Every k + m with at most this many shards.
fn redundancies(shard_count_max: usize) -> impl Iterator<Item = (usize, usize)> {
    (1..=shard_count_max).flat_map(move |data| (0..=shard_count_max - data).map(move |parity| (data, parity)))
}

fn without(encoded: &EncodedStripe, lost: impl Fn(usize) -> bool) -> Vec<Option<Bytes>> {
    let kept = |(index, shard): (usize, &Bytes)| (!lost(index)).then(|| shard.clone());
    encoded.shards.iter().enumerate().map(kept).collect()
}

/// The stripe survives losing these shards: its chunk is decoded and each lost shard rebuilt.
fn assert_survives(coder: &Coder, sealed: &[u8], encoded: &EncodedStripe, lost: &[usize]) {
    let shards = without(encoded, |index| lost.contains(&index));
    let decoded = coder.decode(&encoded.stripe, &shards);
    assert_eq!(decoded.as_deref(), Ok(sealed), "{} without {lost:?}", coder.redundancy());
    let data = encoded.shards[..coder.redundancy().data_count()].concat();
    assert_eq!(coder.data(&encoded.stripe, &shards), Ok(data), "{} without {lost:?}", coder.redundancy());
    let rebuilt = coder.rebuild(&encoded.stripe, &shards, lost).expect("enough shards");
    let expected: Vec<Bytes> = lost.iter().map(|index| encoded.shards[*index].clone()).collect();
    assert_eq!(rebuilt, expected, "{} without {lost:?}", coder.redundancy());
}

#[test]
fn a_stripe_survives_any_m_lost_shards() {
    for (data, parity) in redundancies(10) {
        let coder = Coder::new(redundancy(data, parity));
        let sealed = noise(1, data * SHARD_ALIGNMENT - SHARD_ALIGNMENT / 2);
        let encoded = coder.encode(sealed.clone());
        for pattern in 0..1_u32 << (data + parity) {
            let lost: Vec<usize> = (0..data + parity).filter(|index| pattern >> index & 1 == 1).collect();
            if lost.len() <= parity {
                assert_survives(&coder, &sealed, &encoded, &lost);
            }
        }
    }
}

#[test]
fn a_large_stripe_survives_m_lost_shards_wherever_they_are() {
    for (data, parity) in LARGE {
        let coder = Coder::new(redundancy(data, parity));
        let sealed = noise(2, 20_000);
        let encoded = coder.encode(sealed.clone());
        let first: Vec<usize> = (0..parity.min(data)).collect();
        let last: Vec<usize> = (data..data + parity).collect();
        let every_second: Vec<usize> = (0..data + parity).step_by(2).take(parity).collect();
        let patterns = if data + parity > 100 { 3 } else { 100 };
        let random = (0..patterns).map(|seed| {
            let mut shuffled: Vec<(u8, usize)> = noise(seed, data + parity).into_iter().zip(0..).collect();
            shuffled.sort_unstable();
            shuffled.into_iter().map(|(_, index)| index).take(parity).collect()
        });
        for lost in [first, last, every_second].into_iter().chain(random) {
            assert_survives(&coder, &sealed, &encoded, &lost);
        }
    }
}

#[test]
fn a_stripe_does_not_survive_more_than_m_lost_shards() {
    for (data, parity) in redundancies(6).chain([(10, 6)]) {
        let coder = Coder::new(redundancy(data, parity));
        let encoded = coder.encode(noise(3, 1000));
        let shards = without(&encoded, |index| index <= parity);
        let expected = DecodeError::TooFewShards { found: data - 1, needed: data };
        assert_eq!(coder.decode(&encoded.stripe, &shards), Err(expected.clone()));
        assert_eq!(coder.rebuild(&encoded.stripe, &shards, &[0]), Err(expected));
    }
}

#[test]
fn a_stripe_says_what_its_shards_are() {
    for (data, parity) in [(1, 0), (1, 2), (4, 2), (5, 0), (10, 6)] {
        let coder = Coder::new(redundancy(data, parity));
        let sealed = noise(4, 12_345);
        let EncodedStripe { stripe, shards } = coder.encode(sealed.clone());
        assert_eq!((stripe.redundancy, stripe.sealed_size()), (coder.redundancy(), sealed.len()));
        assert_eq!(stripe.shards, shards.iter().map(|shard| ShardId::of(shard)).collect::<Vec<_>>());
        assert_eq!(shards.len(), data + parity);
        assert!(shards.iter().all(|shard| shard.len() == stripe.shard_size()));
        let joined = shards[..data].concat();
        assert!(joined.starts_with(&sealed));
        let mut hasher = blake3::Hasher::new_derive_key("datamesh 2026 stripe padding v1");
        let mut padding = vec![0; joined.len() - sealed.len()];
        hasher.update(&sealed[sealed.len() - 1024..]).finalize_xof().fill(&mut padding);
        assert_eq!(joined[sealed.len()..], padding);
        if data == 1 {
            let address = shards[0].as_ptr();
            assert!(shards.iter().all(|shard| shard.as_ptr() == address), "replicas share one buffer");
        }
    }
}

#[test]
fn encoding_moves_nothing_that_has_room_for_the_padding() {
    let coder = Coder::new(redundancy(4, 2));
    let mut sealed = Vec::with_capacity(5000 + 4 * SHARD_ALIGNMENT);
    sealed.resize(5000, 1);
    let address = sealed.as_ptr();
    let encoded = coder.encode(sealed);
    assert_eq!(encoded.shards[0].as_ptr(), address);
    assert_eq!(encoded.shards[1].as_ptr(), address.wrapping_add(encoded.stripe.shard_size()));
}

#[test]
fn the_shortest_and_the_longest_sealed_chunk_make_a_stripe() {
    for (data, parity) in [(1, 1), (4, 2), (128, 2)] {
        let coder = Coder::new(redundancy(data, parity));
        for size in [1, 2, SEALED_CHUNK_SIZE_MAX] {
            let sealed = noise(5, size);
            assert_survives(&coder, &sealed, &coder.encode(sealed.clone()), &[0]);
        }
    }
}

#[test]
fn a_shard_with_wrong_bytes_spoils_no_rebuilt_one_unnoticed() {
    let coder = Coder::new(redundancy(4, 2));
    let encoded = coder.encode(noise(6, 5000));
    for spoilt in 1..5 {
        let mut shards = without(&encoded, |index| index == 0);
        let mut bytes = encoded.shards[spoilt].to_vec();
        bytes[17] ^= 1;
        shards[spoilt] = Some(bytes.into());
        let expected = DecodeError::WrongBytes { index: 0, id: encoded.stripe.shards[0] };
        assert_eq!(coder.decode(&encoded.stripe, &shards), Err(expected.clone()));
        assert_eq!(coder.rebuild(&encoded.stripe, &shards, &[0]), Err(expected));
    }
}

#[test]
fn a_stripe_that_lies_is_an_error() {
    let coder = Coder::new(redundancy(4, 2));
    let encoded = coder.encode(noise(7, 5000));
    let shards = without(&encoded, |index| index == 1);
    let decode = |stripe| coder.decode(&stripe, &shards);

    let mut stripe = encoded.stripe.clone();
    stripe.redundancy = redundancy(5, 1);
    assert_eq!(
        decode(stripe),
        Err(DecodeError::Redundancy { found: redundancy(5, 1), expected: redundancy(4, 2) })
    );
    let mut stripe = encoded.stripe.clone();
    stripe.shards.pop();
    assert_eq!(decode(stripe), Err(DecodeError::ShardCount { found: 5, expected: 6 }));
    assert_eq!(
        coder.decode(&encoded.stripe, &shards[1..]),
        Err(DecodeError::ShardCount { found: 5, expected: 6 })
    );
    for (sealed_size, expected) in [
        (5121, DecodeError::ShardSize { index: 0, found: 1280, expected: 1344 }),
        (0, DecodeError::SealedSize(0)),
        (u32::MAX, DecodeError::SealedSize(4_294_967_295)),
    ] {
        let mut stripe = encoded.stripe.clone();
        stripe.sealed_size = sealed_size;
        assert_eq!(decode(stripe), Err(expected));
    }
    assert!(decode(encoded.stripe).is_ok());
}

fn any_redundancy() -> impl Strategy<Value = (usize, usize)> {
    let sum = |(data, parity): &(usize, usize)| data + parity <= STRIPE_SHARDS_MAX;
    let small = (1..=24_usize, 0..=12_usize);
    let any_size = (1..=DATA_SHARDS_MAX, 0..=PARITY_SHARDS_MAX).prop_filter("more shards than points", sum);
    prop_oneof![9 => small, 1 => any_size]
}

proptest! {
    #[test]
    fn what_was_striped_is_read_from_any_k_shards(
        (data, parity) in any_redundancy(),
        sealed in (any::<u64>(), prop_oneof![1..200_usize, 1..100_000_usize]).prop_map(|(seed, size)| noise(seed, size)),
        order in Just((0..STRIPE_SHARDS_MAX).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        let coder = Coder::new(redundancy(data, parity));
        let encoded = coder.encode(sealed.clone());
        let kept: Vec<usize> = order.into_iter().filter(|index| *index < data + parity).take(data).collect();
        let shards = without(&encoded, |index| !kept.contains(&index));
        prop_assert_eq!(coder.decode(&encoded.stripe, &shards), Ok(sealed));
        let lost: Vec<usize> = (0..data + parity).filter(|index| !kept.contains(index)).collect();
        let expected: Vec<Bytes> = lost.iter().map(|index| encoded.shards[*index].clone()).collect();
        prop_assert_eq!(coder.rebuild(&encoded.stripe, &shards, &lost), Ok(expected));
    }
}

/// The textbook's arithmetic, one bit at a time, to check the library against.
mod schoolbook {
    pub(super) fn product(mut left: u8, right: u8) -> u8 {
        let mut sum = 0;
        for bit in 0..8 {
            if right >> bit & 1 == 1 {
                sum ^= left;
            }
            let overflow = left >> 7;
            left = (left << 1) ^ (overflow * 0x1d);
        }
        sum
    }

    fn power(base: u8, exponent: usize) -> u8 {
        (0..exponent).fold(1, |power, _| product(power, base))
    }

    /// V · T⁻¹ below its identity, found by column operations that turn T into the identity.
    pub(super) fn parity_rows(data: usize, parity: usize) -> Vec<u8> {
        let mut rows: Vec<Vec<u8>> = (0..data + parity)
            .map(|row| {
                let point = u8::try_from(row).expect("the field has a point for every shard");
                (0..data).map(|column| power(point, column)).collect()
            })
            .collect();
        for pivot in 0..data {
            let swapped = (pivot..data).find(|column| rows[pivot][*column] != 0).expect("T is regular");
            let inverse =
                (1..=255).find(|factor| product(*factor, rows[pivot][swapped]) == 1).expect("a field");
            for row in &mut rows {
                row.swap(pivot, swapped);
                row[pivot] = product(row[pivot], inverse);
            }
            for column in (0..data).filter(|column| *column != pivot) {
                let factor = rows[pivot][column];
                for row in &mut rows {
                    row[column] ^= product(factor, row[pivot]);
                }
            }
        }
        rows.split_off(data).concat()
    }
}

#[test]
fn the_matrix_is_the_textbooks() {
    for (data, parity) in redundancies(10).chain([(10, 6), (16, 8), (40, 20)]) {
        let code = Code::new(redundancy(data, parity));
        assert_eq!(code.parity_rows(), schoolbook::parity_rows(data, parity), "{data}+{parity}");
    }
}

#[test]
fn parity_is_the_textbooks_on_every_instruction_set_of_this_machine() {
    let (data, parity, size) = (10, 6, 1000);
    let bytes = noise(8, data * size);
    let shards: Vec<&[u8]> = bytes.chunks(size).collect();
    let expected: Vec<u8> = schoolbook::parity_rows(data, parity)
        .chunks(data)
        .flat_map(|row| {
            let byte = |at| {
                row.iter().zip(&shards).fold(0, |sum, (factor, shard): (&u8, &&[u8])| {
                    sum ^ schoolbook::product(*factor, shard[at])
                })
            };
            (0..size).map(byte).collect::<Vec<u8>>()
        })
        .collect();
    let matrix = rusty_erasure::compat::reed_solomon_erasure_matrix(data, parity).expect("a matrix");
    let known = ["scalar", "ssse3", "avx2", "gfni", "neon", "auto"];
    for kernels in known.into_iter().filter_map(rusty_erasure::kernels_named) {
        let name = kernels.name;
        let coder = rusty_erasure::Coder::with_kernels(matrix.clone(), kernels).expect("parity rows");
        let mut computed = vec![0; parity * size];
        coder
            .encode(&shards, &mut computed.chunks_mut(size).collect::<Vec<_>>())
            .expect("shards of one size");
        assert!(computed == expected, "{name}");
    }
}

/// The matrix is part of the format: with another one, stored shards are lost.
#[test]
fn the_matrix_never_drifts() {
    // As in Backblaze's and klauspost's libraries.
    assert_eq!(Code::new(redundancy(4, 2)).parity_rows(), [27, 28, 18, 20, 28, 27, 20, 18]);
    let fixtures = [
        ((1, 2), "2022ec9d571ba774cf9e83d0194962f5d1e3aa1a48d486a67e2762a6c7959015"),
        ((2, 2), "89730ebc960a9cb69f51cb7c9a4cc5131933eb8dbf5f9cb06c1c27494f96c3fc"),
        ((4, 2), "231af36e00ff0a41c40de52cc4030f84c9e2d1973417ae57c7ed8776aad81125"),
        ((8, 4), "a0ae534e2e97ad223067a28e02dbf0d9dc6e7ebf985f8320af5c3b826f768b7b"),
        ((10, 6), "a7ca01444e7a34f42f2d05431cccb42295b45af4eade173df530e8d16a6e2cca"),
        ((16, 8), "4d1545eebb7f4e83fb1ac5a4aa81217b0211bf7e30bb72988f1ecaf3e1bfcb1a"),
        ((128, 127), "fbf48223126b090f48a0ffd9c1f14f387d24adf69c908cf330778f0438c66794"),
        ((127, 128), "f6ef28cf8535b0c3e200d18a4b43e6e9cee1b56db58d3084245da7f12e87c37c"),
    ];
    for ((data, parity), expected) in fixtures {
        let hash = blake3::hash(Code::new(redundancy(data, parity)).parity_rows());
        assert_eq!(hash.to_hex().as_str(), expected, "{data}+{parity}");
    }
}

/// The matrix is pinned above and its product with the shards compared to the textbook's: here are whole stripes, of a chunk
/// that needs no padding in any of these and of a short one that is mostly padding.
#[test]
fn stripes_never_drift() {
    let fixtures = [
        ((1, 2), 81_920, "a33dae0f7aa38d33df5062d3944f4cfb99ce850ce929b0db12ac88e3245758b4"),
        ((4, 2), 81_920, "7effdda45e67f94f6fd16cb55156645ac17fce96a55d4c4bac97d4ebbbcabfc3"),
        ((10, 6), 81_920, "d4e4c8ddd2fc754e283ddd270c917e8821b8f6ef2ad95c86568cad1e4f26c53e"),
        ((128, 127), 81_920, "b4eec7dc0114359c420c22373e9266e753a5ddde2052c2aa3b487d2f9df1688d"),
        ((4, 2), 100, "b4d8fe69441b5cab2dc9bc8016e12527ad4d81db58736efe33b7439ab9a67d98"),
    ];
    for ((data, parity), size, expected) in fixtures {
        let sealed: Vec<u8> = (0..=250).cycle().take(size).collect();
        let encoded = Coder::new(redundancy(data, parity)).encode(sealed);
        let ids: Vec<u8> = encoded.stripe.shards.iter().flat_map(|id| *id.as_bytes()).collect();
        assert_eq!(blake3::hash(&ids).to_hex().as_str(), expected, "{data}+{parity}");
    }
}

#[test]
fn short_chunks_share_no_padding_shards() {
    let coder = Coder::new("4+2".parse().expect("a redundancy"));
    let [left, right] = [[1_u8; 10], [2; 10]].map(|chunk| coder.encode(chunk.to_vec()).stripe.shards);
    assert!(left.iter().all(|shard| !right.contains(shard)));
    let distinct: std::collections::BTreeSet<_> = left.iter().collect();
    assert_eq!(distinct.len(), left.len(), "and none twice");
}
