//! What was not written so is refused: with an error, at its bound, before anything is allocated for it.

use bytes::Bytes;
use datamesh_codec::keys::{Identity, ObjectKey, wrap};
use datamesh_codec::manifest::{OpenBlockError, OpenRoot, OpenRootError, Subtree};
use datamesh_core::encode::encode;
use datamesh_core::id::{BlockId, ObjectId};
use datamesh_core::limits::{BLOCK_SIZE_MAX, INLINE_SIZE_MAX, RECIPIENTS_MAX};
use datamesh_core::manifest::{
    Body, Branch, BranchSizes, Child, Leaf, LeafChunks, ManifestError, Root, Tree,
};
use datamesh_core::scheme::{Cipher, Mode, Scheme};
use proptest::prelude::{any, prop, proptest};

use crate::support::{MODES, Stored, chunk, details, entropy, key, owner, scheme, stripe, writer};

/// Opens a root whose hash is right, as a hostile author would make it.
fn open(bytes: &[u8]) -> Result<OpenRoot, OpenRootError> {
    OpenRoot::open(bytes, ObjectId::of_root(BlockId::of(bytes)), &[owner()])
}

/// The root of a public object, which anybody can write.
fn public_root(body: Body, size: u64) -> Root {
    let sealed = encode(&details(size)).into();
    let scheme = scheme(Mode::Public, 4, 2);
    Root { version: 1, scheme, body, grants: vec![], commitment: Bytes::new(), sealed }
}

fn tree(depth: u8, stripe_count: u64) -> Body {
    Body::Tree(Tree { depth, top: Child { block: BlockId::of(b"top"), stripe_count } })
}

fn public_leaf(scheme: &Scheme, indices: core::ops::Range<u64>) -> Leaf {
    let chunks = LeafChunks(indices.clone().map(|index| chunk(scheme, index)).collect());
    Leaf { stripes: indices.map(|index| stripe(scheme, index)).collect(), sealed: encode(&chunks).into() }
}

fn sizes(indices: core::ops::Range<u64>) -> u64 {
    indices.map(|index| u64::from(chunk(&scheme(Mode::Public, 4, 2), index).size)).sum()
}

/// A public root with the given block on top, and that block as its reader knows it.
fn with_top(depth: u8, stripe_count: u64, size: u64, block: &[u8]) -> (OpenRoot, Subtree) {
    let top = Child { block: BlockId::of(block), stripe_count };
    let root = open(&public_root(Body::Tree(Tree { depth, top }), size).to_bytes()).expect("a good root");
    let top = root.top().expect("a tree");
    (root, top)
}

#[test]
fn a_root_cut_or_changed_at_any_byte_is_not_opened() {
    for mode in MODES {
        let finished = writer(scheme(mode, 4, 2)).finish_inline(vec![7; 50], &details(50)).expect("small");
        let bytes = finished.root.bytes.clone();
        assert!(open(&bytes).is_ok(), "unchanged it opens");
        for end in 0..bytes.len() {
            assert!(open(&bytes[..end]).is_err(), "{mode:?} first {end}");
        }
        for at in 0..bytes.len() {
            let mut changed = bytes.to_vec();
            changed[at] ^= 0x01;
            let by_hash = OpenRoot::open(&changed, finished.object(), &[owner()]).err();
            assert_eq!(by_hash, Some(OpenRootError::WrongBytes(finished.object())), "{mode:?} byte {at}");
            // A hostile node can't help the hash; a hostile author of a public object may write what they like.
            if mode != Mode::Public {
                let authentic =
                    open(&changed).and_then(|root| root.open_inline().map_err(|_| wrong(&finished.object())));
                assert!(authentic.is_err(), "{mode:?} byte {at}");
            }
        }
    }
}

fn wrong(object: &ObjectId) -> OpenRootError {
    OpenRootError::NotAuthentic(*object)
}

#[test]
fn a_branch_or_leaf_cut_or_changed_at_any_byte_is_not_opened() {
    let stored = Stored::write(scheme(Mode::Sealed, 1, 0), 257);
    let root = stored.open();
    let top = root.top().expect("a tree");
    let branch = &stored.blocks[&top.block()];
    let children = root.open_branch(&top, branch).expect("a branch");
    let last = children[1];
    let leaf = &stored.blocks[&last.block()];
    assert!(root.open_leaf(&last, leaf).is_ok(), "unchanged it opens");
    for at in 0..branch.len() {
        assert!(root.open_branch(&top, &branch[..at]).is_err(), "branch, first {at}");
        assert!(Branch::parse(&branch[..at]).is_err(), "branch, first {at}");
        let mut changed = branch.to_vec();
        changed[at] ^= 0x80;
        let found = root.open_branch(&top, &changed);
        assert_eq!(found, Err(ManifestError::WrongBytes(top.block()).into()), "branch, byte {at}");
        let _ = Branch::parse(&changed);
    }
    for at in 0..leaf.len() {
        assert!(root.open_leaf(&last, &leaf[..at]).is_err(), "leaf, first {at}");
        assert!(Leaf::parse(&leaf[..at]).is_err(), "leaf, first {at}");
        let mut changed = leaf.to_vec();
        changed[at] ^= 0x80;
        let found = root.open_leaf(&last, &changed);
        assert_eq!(found, Err(ManifestError::WrongBytes(last.block()).into()), "leaf, byte {at}");
        let _ = Leaf::parse(&changed);
    }
}

#[test]
fn the_blocks_of_a_tree_can_not_be_rearranged() {
    // Two leaves of one object with the same stripes: only their places tell them apart.
    let scheme = scheme(Mode::Sealed, 1, 0);
    let mut writer = writer(scheme);
    let mut blocks = std::collections::BTreeMap::new();
    for index in 0..512 {
        let written = writer.push(stripe(&scheme, index % 256), chunk(&scheme, index % 256)).expect("good");
        blocks.extend(written.into_iter().map(|block| (block.id, block.bytes)));
    }
    let size = 2 * (0..256).map(|index| u64::from(chunk(&scheme, index).size)).sum::<u64>();
    let finished = writer.finish(&details(size)).expect("good");
    let root = open(&finished.root.bytes).expect("a good root");
    let top = root.top().expect("a tree");
    let children = root.open_branch(&top, &finished.blocks[0].bytes).expect("a branch");
    assert_ne!(children[0].block(), children[1].block(), "the sealed halves differ");

    let public = finished.blocks[0].bytes.clone();
    let mut swapped = Branch::parse(&public).expect("a branch");
    swapped.children.swap(0, 1);
    let top = Child { block: BlockId::of(&swapped.to_bytes()), stripe_count: 512 };
    let mut forged = Root::parse(&finished.root.bytes).expect("a root");
    forged.body = Body::Tree(Tree { depth: 1, top });
    assert!(
        matches!(open(&forged.to_bytes()), Err(OpenRootError::NotAuthentic(_))),
        "the root binds its tree"
    );
}

#[test]
fn absurd_counts_and_depths_are_refused() {
    for depth in [5, 100, 255] {
        let error = open(&public_root(tree(depth, 1), 1).to_bytes()).expect_err("too deep");
        assert!(
            matches!(error, OpenRootError::Manifest(ManifestError::OutOfBounds { what: "depth", .. })),
            "{error}"
        );
    }
    for (depth, stripe_count) in [(0, 257), (0, u64::MAX), (1, 256 * 1024 + 1), (4, u64::MAX)] {
        let error =
            open(&public_root(tree(depth, stripe_count), stripe_count).to_bytes()).expect_err("too many");
        assert!(
            matches!(error, OpenRootError::Manifest(ManifestError::OutOfBounds { what: "stripes", .. })),
            "{error}"
        );
    }
    for (depth, stripe_count) in [(0, 0), (1, 1), (1, 256), (4, 1)] {
        let error =
            open(&public_root(tree(depth, stripe_count), stripe_count).to_bytes()).expect_err("absurd");
        assert!(matches!(error, OpenRootError::Manifest(ManifestError::Contradiction(_))), "{error}");
    }
    for size in [0, 9, 10 * 4 * 1024 * 1024 + 1, u64::MAX] {
        let error =
            open(&public_root(tree(0, 10), size).to_bytes()).expect_err("a size that ten stripes can't have");
        assert!(matches!(error, OpenRootError::Manifest(_)), "{error}");
    }
    assert!(open(&public_root(tree(0, 256), 1000).to_bytes()).is_ok());
    assert!(open(&public_root(tree(4, 1 << 40), 1 << 40).to_bytes()).is_ok());
}

#[test]
fn a_length_that_is_not_there_is_refused_before_it_is_allocated() {
    // The length is that of the array of stripes, of a stripe's shard ids, and of the sealed half: 2^62 of them.
    let absurd = |major: u8| [[major << 5 | 27].as_slice(), &(1_u64 << 62).to_be_bytes()].concat();
    let leaf = public_leaf(&scheme(Mode::Public, 4, 2), 0..1).to_bytes();
    for at in 0..leaf.len() {
        for major in 2..=5 {
            let mut hostile = leaf[..at].to_vec();
            hostile.extend_from_slice(&absurd(major));
            hostile.extend_from_slice(&leaf[at..]);
            assert!(Leaf::parse(&hostile).is_err(), "byte {at}");
            assert!(Branch::parse(&hostile).is_err(), "byte {at}");
            assert!(Root::parse(&hostile).is_err(), "byte {at}");
        }
    }
    let nested = vec![0x81; BLOCK_SIZE_MAX];
    assert!(Root::parse(&nested).is_err());
    assert!(Leaf::parse(&nested).is_err());
}

#[test]
fn a_block_over_its_bound_is_refused_unread() {
    let mut root = public_root(tree(0, 1), 1);
    root.sealed = vec![0; BLOCK_SIZE_MAX].into();
    let error = open(&root.to_bytes()).expect_err("too large");
    assert!(
        matches!(error, OpenRootError::Manifest(ManifestError::OutOfBounds { what: "block size", .. })),
        "{error}"
    );
}

#[test]
fn a_root_whose_keys_contradict_its_mode_is_refused() {
    let good = Root::parse(
        &writer(scheme(Mode::Sealed, 4, 2)).finish_inline(vec![1], &details(1)).expect("small").root.bytes,
    )
    .expect("a root");
    assert!(open(&good.to_bytes()).is_ok());
    let grant = good.grants[0].clone();
    let changes: [&dyn Fn(&mut Root); 8] = [
        &|root| root.scheme.cipher = Cipher::None,
        &|root| root.grants.clear(),
        &|root| root.grants = vec![grant.clone(); RECIPIENTS_MAX + 1],
        &|root| root.commitment = Bytes::new(),
        &|root| root.commitment = vec![0; 33].into(),
        &|root| root.scheme.mode = Mode::Public,
        &|root| root.body = Body::Inline(vec![0; INLINE_SIZE_MAX + 1].into()),
        &|root| *root = Root { grants: vec![grant.clone()], ..public_root(tree(0, 1), 1) },
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut changed = good.clone();
        change(&mut changed);
        let error = open(&changed.to_bytes()).expect_err("contradiction");
        assert!(matches!(error, OpenRootError::Manifest(_)), "{index}: {error}");
    }
}

#[test]
fn a_later_version_is_told_whatever_else_has_changed() {
    #[derive(serde::Serialize)]
    struct Later {
        version: u16,
        stripes: u8,
    }
    let error = open(&encode(&Later { version: 300, stripes: 4 })).expect_err("later");
    assert_eq!(error, OpenRootError::Manifest(ManifestError::Version(300)));
    let error = open(&encode(&Later { version: 1, stripes: 4 })).expect_err("malformed");
    assert!(matches!(error, OpenRootError::Manifest(ManifestError::Encoding(_))), "{error}");
}

#[test]
fn a_key_that_was_not_committed_to_opens_nothing() {
    let finished = writer(scheme(Mode::Sealed, 4, 2)).finish_inline(vec![1], &details(1)).expect("small");
    let mut forged = Root::parse(&finished.root.bytes).expect("a root");
    let other = ObjectKey::from_bytes([99; 32]);
    forged.grants = vec![wrap(&other, owner().recipient(), &mut entropy(1))];
    assert!(matches!(open(&forged.to_bytes()), Err(OpenRootError::NoKey(_))));
    forged.commitment = Bytes::copy_from_slice(&other.commitment());
    assert!(matches!(open(&forged.to_bytes()), Err(OpenRootError::NotAuthentic(_))));
    forged.commitment = Bytes::copy_from_slice(&key().commitment());
    forged.grants = vec![wrap(&key(), owner().recipient(), &mut entropy(2))];
    assert!(matches!(open(&forged.to_bytes()), Err(OpenRootError::NotAuthentic(_))), "grants are bound too");
}

#[test]
fn a_wrong_key_does_not_say_what_is_wrong() {
    let finished = writer(scheme(Mode::Sealed, 4, 2)).finish_inline(vec![1], &details(1)).expect("small");
    let stranger = Identity::from_seed(&[50; 32]);
    let error = OpenRoot::open(&finished.root.bytes, finished.object(), &[stranger]).expect_err("no key");
    assert_eq!(error, OpenRootError::NoKey(finished.object()));
}

#[test]
fn a_branch_that_contradicts_its_parent_is_refused() {
    let block = |number: u8| BlockId::of(&[number]);
    let branch = |counts: &[u64], sizes: &[u64]| Branch {
        children: (0..)
            .zip(counts)
            .map(|(number, count)| Child { block: block(number), stripe_count: *count })
            .collect(),
        sealed: encode(&BranchSizes(sizes.to_vec())).into(),
    };
    let opened = |branch: &Branch, stripe_count, size| {
        let bytes = branch.to_bytes();
        let (root, top) = with_top(1, stripe_count, size, &bytes);
        root.open_branch(&top, &bytes)
    };
    assert!(opened(&branch(&[256, 44], &[1000, 200]), 300, 1200).is_ok(), "the right one opens");
    let wrong = [
        branch(&[256, 43], &[1000, 200]),
        branch(&[255, 45], &[1000, 200]),
        branch(&[44, 256], &[200, 1000]),
        branch(&[256, 44, 1], &[1000, 100, 100]),
        branch(&[256], &[1200]),
        branch(&[300], &[1200]),
        branch(&[256, 44], &[1200]),
        branch(&[256, 44], &[1000, 100, 100]),
        branch(&[256, 44], &[1000, 201]),
        branch(&[256, 44], &[255, 945]),
        branch(&[256, 44], &[1200, u64::MAX]),
        branch(&[256, 0, 44], &[1000, 0, 200]),
        branch(&[], &[]),
    ];
    for (index, wrong) in wrong.iter().enumerate() {
        let error = opened(wrong, 300, 1200).expect_err("contradiction");
        assert!(matches!(error, OpenBlockError::Manifest(_)), "{index}: {error}");
    }
    // Sizes that add up only modulo 2^64.
    assert!(opened(&branch(&[256, 44], &[u64::MAX, 1201]), 300, 1200).is_err());
}

#[test]
fn a_leaf_that_contradicts_its_parent_is_refused() {
    let public = scheme(Mode::Public, 4, 2);
    let opened = |leaf: &Leaf, stripe_count, size| {
        let bytes = leaf.to_bytes();
        let (root, top) = with_top(0, stripe_count, size, &bytes);
        root.open_leaf(&top, &bytes)
    };
    let size = sizes(0..3);
    assert!(opened(&public_leaf(&public, 0..3), 3, size).is_ok(), "the right one opens");
    assert!(opened(&public_leaf(&public, 0..3), 2, size).is_err(), "another count");
    assert!(opened(&public_leaf(&public, 0..3), 3, size + 1).is_err(), "another size");
    assert!(opened(&public_leaf(&scheme(Mode::Public, 4, 3), 0..3), 3, size).is_err(), "another redundancy");
    let with_chunks = |indices: core::ops::Range<u64>, mode| {
        let chunks = indices.map(|index| chunk(&scheme(mode, 4, 2), index)).collect();
        Leaf { sealed: encode(&LeafChunks(chunks)).into(), ..public_leaf(&public, 0..3) }
    };
    assert!(opened(&with_chunks(0..2, Mode::Public), 3, sizes(0..2)).is_err(), "too few chunks");
    assert!(opened(&with_chunks(0..4, Mode::Public), 3, sizes(0..4)).is_err(), "too many chunks");
    assert!(opened(&with_chunks(0..3, Mode::Dedup), 3, size).is_err(), "keys in a public object");
}

#[test]
fn a_leaf_without_stripes_is_an_error_and_not_a_panic() {
    #[derive(serde::Serialize)]
    struct Empty {
        redundancy: (u8, u8),
        stripes: Vec<(u32, Bytes)>,
        sealed: Bytes,
    }
    let empty = encode(&Empty { redundancy: (4, 2), stripes: vec![], sealed: Bytes::new() });
    assert!(matches!(Leaf::parse(&empty), Err(ManifestError::Encoding(_))));
}

proptest! {
    #[test]
    fn any_bytes_are_a_block_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = open(&bytes);
        let _ = Branch::parse(&bytes);
        let _ = Leaf::parse(&bytes);
    }

    #[test]
    fn a_root_with_any_bytes_in_its_midst_does_no_harm(at in 0_usize..200, bytes in prop::collection::vec(any::<u8>(), 1..20)) {
        let mut root = public_root(tree(1, 300), 1200).to_bytes().to_vec();
        let at = at.min(root.len());
        root.splice(at..(at + bytes.len()).min(root.len()), bytes);
        let _ = open(&root);
    }
}
