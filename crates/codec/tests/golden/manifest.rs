//! Manifest blocks of each kind in each mode.

use std::collections::BTreeMap;

use bytes::Bytes;
use datamesh_codec::keys::{Identity, ObjectKey};
use datamesh_codec::manifest::{ManifestWriter, OpenRoot};
use datamesh_core::id::{BlockId, ObjectId, ShardId};
use datamesh_core::lease::LeaseTag;
use datamesh_core::manifest::{ChunkEntry, Details, Kind, Stripe};
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};
use datamesh_core::time::Timestamp;

use crate::fixture::{check, check_text, entropy, read};

/// One more than a leaf holds, so that there are two leaves and a branch.
const STRIPE_COUNT: u64 = 257;

fn schemes() -> [(&'static str, Scheme); 3] {
    let redundancy = Redundancy::new(1, 1).expect("a redundancy");
    let fixed = |mode, cipher| Scheme {
        mode,
        chunking: Chunking::Fixed,
        compression: Compression::None,
        cipher,
        redundancy,
    };
    let dedup = Scheme {
        chunking: Chunking::ContentDefined,
        compression: Compression::Zstd(1),
        ..fixed(Mode::Dedup, Cipher::Chacha20Poly1305)
    };
    [
        ("sealed", fixed(Mode::Sealed, Cipher::Aes256Gcm)),
        ("dedup", dedup),
        ("public", fixed(Mode::Public, Cipher::None)),
    ]
}

fn owner() -> Identity {
    Identity::from_seed(&[1; 32])
}

fn details(size: u64) -> Details {
    Details {
        name: "records.csv".to_owned(),
        kind: Kind::File,
        media_type: Some("text/csv".to_owned()),
        size,
        digest: [3; 32],
        metadata: BTreeMap::from([("colour".to_owned(), "green".to_owned())]),
        tag: LeaseTag::from_bytes([4; 16]),
        created: Timestamp::from_ms(1_700_000_000_000),
    }
}

fn stripe(scheme: &Scheme, index: u64) -> Stripe {
    let shard = |place: u8| ShardId::of(&[index.to_le_bytes().as_slice(), &[place]].concat());
    Stripe { redundancy: scheme.redundancy, sealed_size: 1_048_593, shards: vec![shard(0), shard(1)] }
}

fn chunk(scheme: &Scheme, index: u64) -> ChunkEntry {
    let byte = u8::try_from(index % 256).expect("below 256");
    let key = if scheme.mode == Mode::Dedup { Bytes::from(vec![byte; 32]) } else { Bytes::new() };
    ChunkEntry { size: 1_048_576, key }
}

fn writer(scheme: Scheme) -> ManifestWriter {
    let recipients = if scheme.mode == Mode::Public { vec![] } else { vec![owner().recipient().clone()] };
    ManifestWriter::new(scheme, &ObjectKey::from_bytes([2; 32]), &recipients, &mut entropy(1))
        .expect("few recipients")
}

fn object_of(block: &[u8]) -> ObjectId {
    ObjectId::of_root(BlockId::of(block))
}

#[test]
fn the_blocks_of_a_tree_keep_their_bytes_and_open() {
    let mut ids = String::new();
    for (name, scheme) in schemes() {
        let mut writer = writer(scheme);
        let mut blocks = Vec::new();
        for index in 0..STRIPE_COUNT {
            blocks.extend(writer.push(stripe(&scheme, index), chunk(&scheme, index)).expect("within bounds"));
        }
        let size = STRIPE_COUNT * 1_048_576;
        let finished = writer.finish(&details(size)).expect("within bounds");
        blocks.extend(finished.blocks.clone());
        let [first_leaf, last_leaf, branch] = &blocks[..] else { panic!("two leaves and a branch") };
        check(&format!("{name}-leaf"), &last_leaf.bytes);
        check(&format!("{name}-branch"), &branch.bytes);
        check(&format!("{name}-root"), &finished.root.bytes);
        ids += &format!("{name} {}\n", finished.object());

        let root = read(&format!("{name}-root"));
        let root = OpenRoot::open(&root, object_of(&root), &[owner()]).expect("it opens");
        assert_eq!(root.details(), &details(size));
        let top = root.top().expect("a tree");
        let children = root.open_branch(&top, &read(&format!("{name}-branch"))).expect("a branch");
        assert_eq!(children[0].block(), first_leaf.id);
        let entries = root.open_leaf(&children[1], &read(&format!("{name}-leaf"))).expect("a leaf");
        assert_eq!(entries[0].stripe, stripe(&scheme, 256));
        assert_eq!(entries[0].chunk, chunk(&scheme, 256));
    }
    check_text("object-ids.txt", &ids);
}

#[test]
fn a_root_with_its_object_inside_keeps_its_bytes_and_opens() {
    for (name, scheme) in schemes() {
        let finished = writer(scheme).finish_inline(b"a packed chunk".to_vec(), &details(13)).expect("small");
        check(&format!("{name}-inline"), &finished.root.bytes);
        let root = read(&format!("{name}-inline"));
        let root = OpenRoot::open(&root, object_of(&root), &[owner()]).expect("it opens");
        assert_eq!(root.details(), &details(13));
        assert_eq!(root.open_inline(), Ok(Some(b"a packed chunk".to_vec())));
    }
}

#[test]
fn a_stripe_keeps_its_id() {
    let [(_, scheme), ..] = schemes();
    let stripe = stripe(&scheme, 0);
    check_text("stripe-id.txt", &format!("{}\n", stripe.id()));
}
