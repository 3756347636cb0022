//! What is written is read back, whatever its shape.

use bytes::Bytes;
use datamesh_codec::keys::{Identity, ObjectKey};
use datamesh_codec::manifest::{
    FinishError, ManifestWriter, NewManifestError, OpenRoot, OpenRootError, StripeEntry, fits_inline, seek,
};
use datamesh_core::limits::{
    BLOCK_SIZE_MAX, BRANCH_CHILDREN_MAX, CHUNK_SIZE_MAX, DETAIL_TEXT_SIZE_MAX, INLINE_SIZE_MAX,
    METADATA_ENTRIES_MAX, RECIPIENTS_MAX,
};
use datamesh_core::manifest::{Link, ManifestError, Root, Stripe, leaf_stripe_count};
use datamesh_core::scheme::{Mode, Redundancy, Scheme};
use proptest::prelude::{ProptestConfig, prop, proptest};

use crate::support::{MODES, Stored, chunk, details, entropy, key, owner, scheme, stripe, writer};

fn assert_reads_back(stored: &Stored, scheme: &Scheme, stripe_count: u64) {
    let root = stored.open();
    assert_eq!(root.scheme(), scheme);
    assert_eq!(root.details(), &details(stored.size));
    let top = root.top().expect("a tree");
    assert_eq!(top.range(), 0..stored.size);
    let mut offset = 0;
    let mut chunk_index = 0;
    for entry in stored.read(&root, &top) {
        let (stripe, chunk) = (stripe(scheme, chunk_index), chunk(scheme, chunk_index));
        let size = u64::from(chunk.size);
        assert_eq!(entry, StripeEntry { chunk_index, offset, stripe, chunk });
        offset += size;
        chunk_index += 1;
    }
    assert_eq!(chunk_index, stripe_count);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_manifest_is_read_back_as_it_was_written(
        mode in prop::sample::select(MODES.to_vec()),
        (data, parity) in prop::sample::select(vec![(1, 0), (1, 1), (4, 2), (10, 6), (16, 8), (128, 127)]),
        stripe_count in 1_u64..3000,
    ) {
        // Many shard ids take long to hash: keep their number about even.
        let stripe_count = (stripe_count * 2 / u64::try_from(data + parity).expect("small")).max(1);
        let scheme = scheme(mode, data, parity);
        assert_reads_back(&Stored::write(scheme, stripe_count), &scheme, stripe_count);
    }
}

#[test]
fn a_tree_is_as_deep_as_its_stripes_need() {
    let scheme = scheme(Mode::Public, 128, 127);
    let leaf = u64::try_from(leaf_stripe_count(scheme.redundancy)).expect("small");
    let branch = leaf * u64::try_from(BRANCH_CHILDREN_MAX).expect("small");
    for (stripe_count, depth) in [(1, 0), (leaf, 0), (leaf + 1, 1), (branch, 1), (branch + 1, 2)] {
        let stored = Stored::write(scheme, stripe_count);
        let root = Root::parse(&stored.blocks[&stored.object.root()]).expect("a root");
        let top = root.top().expect("a tree");
        assert_eq!((top.place.level, top.child.stripe_count), (depth, stripe_count));
        assert_reads_back(&stored, &scheme, stripe_count);
        assert!(stored.blocks.values().all(|bytes| bytes.len() <= BLOCK_SIZE_MAX));
    }
}

#[test]
fn who_has_no_key_reads_every_stripe() {
    for mode in MODES {
        let scheme = scheme(mode, 4, 2);
        let stored = Stored::write(scheme, 1000);
        let root = Root::parse(&stored.blocks[&stored.object.root()]).expect("a root");
        let stripes = keyless(&stored, &root.top().expect("a tree"));
        assert_eq!(stripes, (0..1000).map(|index| stripe(&scheme, index)).collect::<Vec<_>>());
    }
}

fn keyless(stored: &Stored, link: &Link) -> Vec<Stripe> {
    let bytes = &stored.blocks[&link.child.block];
    if link.place.level == 0 {
        return link.leaf(bytes).expect("a leaf").stripes;
    }
    let branch = link.branch(bytes).expect("a branch");
    link.children(&branch).flat_map(|child| keyless(stored, &child)).collect()
}

#[test]
fn a_range_is_found_by_opening_one_path() {
    let scheme = scheme(Mode::Sealed, 4, 2);
    let stored = Stored::write(scheme, 600);
    let root = stored.open();
    let all = stored.read(&root, &root.top().expect("a tree"));
    let wanted = stored.size / 2..stored.size / 2 + 10_000_000;
    let top = root.top().expect("a tree");
    let children = root.open_branch(&top, &stored.blocks[&top.block()]).expect("a branch");
    let sizes = children.iter().map(|child| child.range().end - child.range().start);
    let mut found = Vec::new();
    for child in &children[seek(sizes, wanted.clone())] {
        let entries = root.open_leaf(child, &stored.blocks[&child.block()]).expect("a leaf");
        let begin = child.range().start;
        let relative = wanted.start.saturating_sub(begin)..wanted.end.saturating_sub(begin);
        let sizes = entries.iter().map(|entry| u64::from(entry.chunk.size));
        found.extend_from_slice(&entries[seek(sizes, relative)]);
    }
    let shares = |entry: &&StripeEntry| entry.range().start < wanted.end && wanted.start < entry.range().end;
    assert_eq!(found, all.iter().filter(shares).cloned().collect::<Vec<_>>());
    assert!(!found.is_empty() && found.len() < all.len());
}

#[test]
fn a_small_object_travels_inside_its_root() {
    for mode in MODES {
        let scheme = scheme(mode, 4, 2);
        let sealed_size = if mode == Mode::Public { 0 } else { 16 };
        for packed_size in [0, 1, 1000, INLINE_SIZE_MAX - sealed_size] {
            let packed = vec![9; packed_size];
            assert!(fits_inline(mode, packed_size));
            let finished = writer(scheme).finish_inline(packed.clone(), &details(77)).expect("small");
            assert!(finished.blocks.is_empty());
            let root = OpenRoot::open(&finished.root.bytes, finished.object(), &[owner()]).expect("it opens");
            assert_eq!(root.open_inline(), Ok(Some(packed)));
            assert_eq!(root.top(), None);
        }
        let found = INLINE_SIZE_MAX - sealed_size + 1;
        assert!(!fits_inline(mode, found));
        let error = writer(scheme).finish_inline(vec![9; found], &details(77)).expect_err("too large");
        assert_eq!(error, FinishError::NotSmall { found });
    }
    let in_stripes = Stored::write(scheme(Mode::Sealed, 4, 2), 1);
    assert_eq!(in_stripes.open().open_inline(), Ok(None));
}

#[test]
fn every_recipient_opens_a_private_object_and_nobody_else_does() {
    let people: Vec<Identity> = (0..4).map(|number| Identity::from_seed(&[number; 32])).collect();
    let (readers, stranger) = (&people[..3], &people[3]);
    let recipients: Vec<_> = readers.iter().map(|reader| reader.recipient().clone()).collect();
    for mode in [Mode::Sealed, Mode::Dedup] {
        let writer = ManifestWriter::new(scheme(mode, 4, 2), &key(), &recipients, &mut entropy(8));
        let finished = writer.expect("three recipients").finish_inline(vec![1], &details(1)).expect("small");
        let open = |identities: &[Identity]| {
            OpenRoot::open(&finished.root.bytes, finished.object(), identities)
                .map(|root| root.details().clone())
        };
        for reader in readers {
            let reader = Identity::from_seed(reader.seed());
            assert_eq!(open(&[reader]), Ok(details(1)));
        }
        let stranger = Identity::from_seed(stranger.seed());
        assert_eq!(open(&[stranger]), Err(OpenRootError::NoKey(finished.object())));
        assert_eq!(open(&[]), Err(OpenRootError::NoKey(finished.object())));
        assert_eq!(open(&people), Ok(details(1)));
    }
}

#[test]
fn a_public_object_needs_no_key() {
    let stored = Stored::write(scheme(Mode::Public, 4, 2), 3);
    let root = OpenRoot::open(&stored.blocks[&stored.object.root()], stored.object, &[]).expect("public");
    assert_eq!(root.details(), &details(stored.size));
    assert_eq!(stored.read(&root, &root.top().expect("a tree")).len(), 3);
}

#[test]
fn the_largest_root_is_within_the_bound_of_a_block() {
    let mut large = details(1);
    large.name = "n".repeat(DETAIL_TEXT_SIZE_MAX);
    large.media_type = Some("m".repeat(DETAIL_TEXT_SIZE_MAX));
    large.metadata =
        (0..METADATA_ENTRIES_MAX).map(|index| (format!("{index:04}"), "v".repeat(1020))).collect();
    let recipients = vec![owner().recipient().clone(); RECIPIENTS_MAX];
    let new = || ManifestWriter::new(scheme(Mode::Sealed, 4, 2), &key(), &recipients, &mut entropy(9));
    let packed = vec![0; INLINE_SIZE_MAX - 16];
    let finished = new().expect("64 recipients").finish_inline(packed.clone(), &large).expect("the largest");
    assert!(finished.root.bytes.len() <= BLOCK_SIZE_MAX, "{}", finished.root.bytes.len());
    assert!(OpenRoot::open(&finished.root.bytes, finished.object(), &[owner()]).is_ok());

    large.metadata.insert("0000".to_owned(), "v".repeat(1021));
    let error = new().expect("64 recipients").finish_inline(packed, &large).expect_err("a byte more");
    assert!(matches!(error, FinishError::Details(ManifestError::OutOfBounds { .. })), "{error}");
}

#[test]
fn details_out_of_bounds_are_refused_when_written() {
    let refused = |change: &dyn Fn(&mut datamesh_core::manifest::Details)| {
        let mut wrong = details(1);
        change(&mut wrong);
        let error =
            writer(scheme(Mode::Sealed, 4, 2)).finish_inline(vec![1], &wrong).expect_err("out of bounds");
        assert!(matches!(error, FinishError::Details(ManifestError::OutOfBounds { .. })), "{error}");
    };
    let long = || "x".repeat(DETAIL_TEXT_SIZE_MAX + 1);
    refused(&|details| details.name = long());
    refused(&|details| details.media_type = Some(long()));
    refused(&|details| details.metadata = [(long(), String::new())].into());
    refused(&|details| details.metadata = [("key".to_owned(), long())].into());
    refused(&|details| details.metadata = (0..65).map(|index| (index.to_string(), String::new())).collect());
}

#[test]
fn a_manifest_needs_recipients_if_and_only_if_it_is_private() {
    let recipients = |count| vec![owner().recipient().clone(); count];
    let new = |mode, count| {
        ManifestWriter::new(scheme(mode, 4, 2), &key(), &recipients(count), &mut entropy(1)).map(|_| ()).err()
    };
    assert_eq!(new(Mode::Sealed, 0), Some(NewManifestError::NoRecipients));
    assert_eq!(new(Mode::Sealed, RECIPIENTS_MAX), None);
    assert_eq!(new(Mode::Dedup, 65), Some(NewManifestError::TooManyRecipients { found: 65 }));
    assert_eq!(new(Mode::Public, 1), Some(NewManifestError::RecipientsOfPublic));
    assert_eq!(new(Mode::Public, 0), None);
}

#[test]
fn what_does_not_fit_the_object_is_not_taken() {
    let scheme = scheme(Mode::Sealed, 4, 2);
    let mut writer = writer(scheme);
    let (good, entry) = (stripe(&scheme, 0), chunk(&scheme, 0));
    let other = Redundancy::new(4, 3).expect("a redundancy");
    let mut shards = good.shards.clone();
    shards.pop();
    let wrong_stripes = [
        Stripe { redundancy: other, ..good.clone() },
        stripe(&Scheme { redundancy: other, ..scheme }, 0),
        Stripe { shards, ..good.clone() },
        Stripe { sealed_size: 0, ..good.clone() },
        Stripe { sealed_size: u32::MAX, ..good.clone() },
    ];
    for wrong in wrong_stripes {
        assert!(writer.push(wrong, entry.clone()).is_err());
    }
    let too_long = u32::try_from(CHUNK_SIZE_MAX + 1).expect("small");
    for (size, key_size) in [(0, 0), (too_long, 0), (1, 31), (1, 33)] {
        let wrong = datamesh_core::manifest::ChunkEntry { size, key: Bytes::from(vec![0; key_size]) };
        assert!(writer.push(good.clone(), wrong).is_err(), "{size} {key_size}");
    }
    assert_eq!(writer.finish(&details(0)), Err(FinishError::NoStripes));
}

#[test]
fn details_of_another_size_than_the_chunks_are_refused() {
    let scheme = scheme(Mode::Sealed, 4, 2);
    let mut writer = writer(scheme);
    writer.push(stripe(&scheme, 0), chunk(&scheme, 0)).expect("within bounds");
    assert_eq!(writer.finish(&details(5)), Err(FinishError::Size { details: 5, chunks: 1 }));
}

#[test]
fn the_same_journal_gives_the_same_blocks_and_another_key_gives_others() {
    let scheme = scheme(Mode::Sealed, 4, 2);
    let (one, same) = (Stored::write(scheme, 700), Stored::write(scheme, 700));
    assert_eq!(one.blocks, same.blocks);
    let write = |key: &ObjectKey| {
        let recipients = [owner().recipient().clone()];
        let writer = ManifestWriter::new(scheme, key, &recipients, &mut entropy(6)).expect("one recipient");
        writer.finish_inline(vec![1], &details(1)).expect("small").object()
    };
    assert_ne!(write(&ObjectKey::from_bytes([1; 32])), write(&ObjectKey::from_bytes([2; 32])));
}

#[test]
fn a_block_written_twice_with_other_content_repeats_no_key_stream() {
    let roots = [1_u64, 2].map(|created| {
        let mut details = details(1);
        details.created = datamesh_core::time::Timestamp::from_ms(created);
        details.name = "n".repeat(4000);
        let root = writer(scheme(Mode::Sealed, 4, 2)).finish_inline(vec![1], &details).expect("small").root;
        Root::parse(&root.bytes).expect("a root").sealed
    });
    let equal = roots[0].iter().zip(&roots[1]).filter(|(one, other)| one == other).count();
    assert!(equal < 100, "{equal} of {} bytes are equal", roots[0].len());
}
