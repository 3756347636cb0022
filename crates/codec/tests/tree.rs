//! What a proof of a shard's leaves must show, and what must never pass for one.

use core::ops::Range;

use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use datamesh_codec::tree::{LEAF_SIZE, Leaves, LeavesError, PROOF_HASHES_MAX, VerifyError, prove, verify};
use datamesh_core::id::{ID_SIZE, ShardId};
use datamesh_core::limits::SHARD_SIZE_MAX;

fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut bytes = vec![0; size];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn leaves(run: Range<usize>, shard_size: usize) -> Leaves {
    Leaves::new(run, shard_size).expect("a run within the shard")
}

/// Every run of leaves that a shard of this size has.
fn runs(shard_size: usize) -> impl Iterator<Item = Leaves> {
    let leaf_count = shard_size.div_ceil(LEAF_SIZE);
    (0..leaf_count)
        .flat_map(move |first| (first + 1..=leaf_count).map(move |end| leaves(first..end, shard_size)))
}

fn sizes_about_leaf_boundaries() -> impl Iterator<Item = usize> {
    (1..=9).flat_map(|leaf_count| {
        [leaf_count * LEAF_SIZE - 1023, leaf_count * LEAF_SIZE - 1, leaf_count * LEAF_SIZE]
    })
}

/// The algorithm's authors' test vectors: bytes counting from 0 to 250 and over again.
#[test]
fn proofs_lead_to_the_published_hashes() {
    let vectors = [
        (1024, "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7"),
        (1025, "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444"),
        (102_400, "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085"),
    ];
    for (size, hash) in vectors {
        let shard: Vec<u8> = (0..=250).cycle().take(size).collect();
        let id: ShardId = hash.parse().expect("a hash");
        for run in [0..1, size.div_ceil(LEAF_SIZE) - 1..size.div_ceil(LEAF_SIZE), 0..size.div_ceil(LEAF_SIZE)]
        {
            let leaves = leaves(run, size);
            assert_eq!(verify(id, &leaves, &prove(&shard, &leaves)), Ok(&shard[leaves.bytes()]));
        }
    }
}

#[test]
fn every_run_of_a_small_shard_has_a_proof() {
    for size in sizes_about_leaf_boundaries() {
        let shard = noise(1, size);
        for leaves in runs(size) {
            let proof = prove(&shard, &leaves);
            assert_eq!(proof.len(), leaves.proof_size());
            assert_eq!(
                verify(ShardId::of(&shard), &leaves, &proof),
                Ok(&shard[leaves.bytes()]),
                "{leaves:?}"
            );
        }
    }
}

#[test]
fn no_flipped_bit_passes() {
    let shard = noise(2, 4 * LEAF_SIZE + 9);
    let id = ShardId::of(&shard);
    for run in [0..1, 2..4, 4..5, 0..5] {
        let leaves = leaves(run, shard.len());
        let mut proof = prove(&shard, &leaves);
        for bit in 0..proof.len() * 8 {
            proof[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(id, &leaves, &proof), Err(VerifyError::WrongBytes(id)), "bit {bit}");
            proof[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(verify(id, &leaves, &proof).is_ok());
    }
}

#[test]
fn a_proof_passes_for_nothing_else() {
    let shard = noise(3, 7 * LEAF_SIZE + 100);
    let (id, other) = (ShardId::of(&shard), ShardId::of(b"other"));
    for proven in runs(shard.len()) {
        let proof = prove(&shard, &proven);
        assert_eq!(verify(other, &proven, &proof), Err(VerifyError::WrongBytes(other)));
        for asked in runs(shard.len()).filter(|asked| *asked != proven) {
            assert!(verify(id, &asked, &proof).is_err(), "{proven:?} for {asked:?}");
        }
        let (longer, shorter) = ([&proof[..], &[0]].concat(), &proof[..proof.len() - 1]);
        for wrong in [&longer[..], shorter, &[]] {
            let expected = VerifyError::Size { found: wrong.len(), expected: proof.len() };
            assert_eq!(verify(id, &proven, wrong), Err(expected));
        }
    }
}

/// An inner node's two hashes are 64 bytes: they must not pass for a leaf of 64 bytes, nor a subtree for the root.
#[test]
fn inner_hashes_do_not_pass_for_a_shard() {
    let shard = noise(4, 2 * LEAF_SIZE);
    let hash_beside = |leaf: usize| prove(&shard, &leaves(leaf..leaf + 1, shard.len()))[..ID_SIZE].to_vec();
    let joined = [hash_beside(1), hash_beside(0)].concat();
    let whole = leaves(0..1, joined.len());
    assert!(verify(ShardId::of(&shard), &whole, &joined).is_err());
}

#[test]
fn only_runs_within_a_shard_are_leaves() {
    assert_eq!(Leaves::new(2..2, 5000), Err(LeavesError::Empty { first: 2, end: 2 }));
    assert_eq!(Leaves::new(0..1, 0), Err(LeavesError::OutOfShard { first: 0, end: 1, leaf_count: 0 }));
    assert_eq!(Leaves::new(4..6, 5000), Err(LeavesError::OutOfShard { first: 4, end: 6, leaf_count: 5 }));
    assert_eq!(
        Leaves::new(0..usize::MAX, 5000).map_err(|error| error.to_string()),
        Err(format!("leaves 0..{} of a shard of 5", usize::MAX))
    );
    assert_eq!(Leaves::new(0..1, SHARD_SIZE_MAX + 1), Err(LeavesError::ShardSize(SHARD_SIZE_MAX + 1)));
    assert_eq!(Leaves::covering(1023..1025, 5000), Leaves::new(0..2, 5000));
    assert_eq!(Leaves::covering(4999..5000, 5000), Leaves::new(4..5, 5000));
    assert!(Leaves::covering(9..9, 5000).is_err());
    assert!(Leaves::covering(4999..6000, 5000).is_err());
}

#[test]
fn a_proof_is_short() {
    let longest = (0..SHARD_SIZE_MAX.div_ceil(LEAF_SIZE))
        .map(|leaf| leaves(leaf..leaf + 1, SHARD_SIZE_MAX).proof_size())
        .max();
    // 4,097 leaves are 13 levels, with one hash beside a single leaf on each.
    assert!(longest.is_some_and(|longest| longest <= 13 * ID_SIZE + LEAF_SIZE), "{longest:?}");
}

fn any_run() -> impl Strategy<Value = (Vec<u8>, Leaves)> {
    (any::<u64>(), 1..200_000_usize, any::<(u16, u16)>()).prop_map(|(seed, size, (one, other))| {
        let leaf_count = size.div_ceil(LEAF_SIZE);
        let (one, other) = (usize::from(one) % leaf_count, usize::from(other) % leaf_count);
        (noise(seed, size), leaves(one.min(other)..one.max(other) + 1, size))
    })
}

proptest! {
    #[test]
    fn a_proven_run_is_the_shards_bytes((shard, leaves) in any_run()) {
        let proof = prove(&shard, &leaves);
        prop_assert_eq!(proof.len(), leaves.proof_size());
        prop_assert!(proof.len() - leaves.bytes().len() <= PROOF_HASHES_MAX * ID_SIZE);
        prop_assert_eq!(verify(ShardId::of(&shard), &leaves, &proof), Ok(&shard[leaves.bytes()]));
    }

    #[test]
    fn a_changed_byte_is_refused((shard, leaves) in any_run(), at in any::<usize>(), change in 1..=255_u8) {
        let id = ShardId::of(&shard);
        let mut proof = prove(&shard, &leaves);
        let at = at % proof.len();
        proof[at] ^= change;
        prop_assert_eq!(verify(id, &leaves, &proof), Err(VerifyError::WrongBytes(id)));
    }

    #[test]
    fn hostile_proofs_are_refused((shard, leaves) in any_run(), proof in proptest::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(verify(ShardId::of(&shard), &leaves, &proof).is_err());
    }
}
