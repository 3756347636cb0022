//! Keys that follow from a seed, their texts, and what is sealed under them.

use datamesh_codec::keys::{Identity, LockedIdentity, MeshSecret, ObjectKey, lock, unlock, unwrap, wrap};
use datamesh_codec::seal::{Opener, Sealer};
use datamesh_core::encode::{decode, encode};
use datamesh_core::manifest::{ChunkEntry, Grant};
use datamesh_core::scheme::{Chunking, Cipher, Compression, Mode, Redundancy, Scheme};

use crate::fixture::{check, check_text, entropy, hex, read};

fn identity() -> Identity {
    Identity::from_seed(&[1; 32])
}

fn key() -> ObjectKey {
    ObjectKey::from_bytes([2; 32])
}

#[test]
fn an_identity_keeps_its_keys() {
    let identity = identity();
    let lines = [
        ("seed", hex(identity.seed())),
        ("secret", identity.to_text().to_string()),
        ("recipient", identity.recipient().to_string()),
        ("owner", identity.owner().to_string()),
        ("signing", hex(&identity.signing_key().to_bytes())),
        ("x25519", hex(&identity.recipient().to_bytes())),
        ("dedup", hex(identity.dedup_secret().as_bytes())),
        ("gear", hex(identity.gear_key())),
        ("object-key", hex(key().as_bytes())),
        ("commitment", hex(&key().commitment())),
        ("object-gear", hex(key().gear_key().as_slice())),
    ];
    let text: String = lines.iter().map(|(name, value)| format!("{name} {value}\n")).collect();
    check_text("keys.txt", &text);
}

#[test]
fn a_mesh_secret_keeps_its_text_and_no_other_key_passes_for_it() {
    let secret = MeshSecret::from_bytes(&[3; 32]);
    let text = secret.to_text();
    check_text("mesh_secret.txt", &format!("{}\n", text.as_str()));
    assert_eq!(MeshSecret::from_text(&text).expect("its own text"), secret);
    assert!(MeshSecret::from_text(&identity().to_text()).is_err());
    assert!(MeshSecret::from_text(&text.replace('q', "p")).is_err(), "the checksum");
    assert!(!format!("{secret:?}").contains("03"), "a secret is not shown");
}

#[test]
fn a_grant_keeps_its_bytes_and_opens() {
    check("grant", &encode(&wrap(&key(), identity().recipient(), &mut entropy(1))));
    let grant: Grant = decode(&read("grant")).expect("a grant");
    let opened = unwrap(&grant, &identity()).expect("it is granted");
    assert_eq!(opened.as_bytes(), key().as_bytes());
}

#[test]
fn a_locked_identity_keeps_its_bytes_and_opens() {
    check("locked-identity", &lock(&identity(), "correct horse", &mut entropy(2)).to_bytes());
    let locked = LockedIdentity::parse(&read("locked-identity")).expect("a locked identity");
    assert_eq!(unlock(&locked, "correct horse").map(|opened| opened.owner()), Ok(identity().owner()));
}

#[test]
fn a_sealed_chunk_keeps_its_bytes_and_opens() {
    for mode in [Mode::Sealed, Mode::Dedup] {
        for cipher in [Cipher::Aes256Gcm, Cipher::Chacha20Poly1305] {
            let redundancy = Redundancy::new(4, 2).expect("a redundancy");
            let scheme = Scheme {
                mode,
                chunking: Chunking::Fixed,
                compression: Compression::None,
                cipher,
                redundancy,
            };
            let name = format!("chunk-{mode:?}-{cipher:?}").to_lowercase();
            let sealed =
                Sealer::new(&scheme, &key(), identity().dedup_secret()).seal(258, b"a packed chunk".to_vec());
            check(&name, &encode(&(serde_bytes::Bytes::new(&sealed.bytes), &sealed.key)));
            let (bytes, key_bytes): (bytes::Bytes, bytes::Bytes) =
                decode(&read(&name)).expect("two byte strings");
            let entry = ChunkEntry { size: 14, key: key_bytes };
            let opened = Opener::new(&scheme, Some(&key())).open(258, &entry, bytes.to_vec());
            assert_eq!(opened.as_deref(), Ok(&b"a packed chunk"[..]), "{name}");
        }
    }
}
