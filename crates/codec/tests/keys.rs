//! Identities, their texts, and grants of object keys.

use datamesh_codec::keys::{Identity, ObjectKey, ParseKeyError, Recipient, lock, unlock, unwrap, wrap};
use proptest::prelude::{any, prop, proptest};

/// Bytes that follow from a number, as entropy for tests.
fn entropy(number: u64) -> impl FnMut(&mut [u8]) {
    let mut stream = blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof();
    move |buffer| stream.fill(buffer)
}

fn identity(number: u64) -> Identity {
    Identity::random(&mut entropy(number))
}

#[test]
fn an_identity_follows_from_its_seed_and_each_of_its_keys_is_another() {
    let (one, same, other) = (identity(1), identity(1), identity(2));
    assert_eq!(one.owner(), same.owner());
    assert_eq!(one.recipient(), same.recipient());
    assert_ne!(one.owner(), other.owner());
    assert_ne!(one.recipient(), other.recipient());
    let keys = [
        *one.seed(),
        one.signing_key().to_bytes(),
        one.recipient().to_bytes(),
        *one.dedup_secret().as_bytes(),
        *one.gear_key(),
        *one.owner().as_bytes(),
    ];
    for (index, key) in keys.iter().enumerate() {
        assert!(!keys[..index].contains(key), "{index}");
    }
}

#[test]
fn secrets_are_not_printed() {
    let identity = identity(3);
    let text = identity.to_text();
    let printed = format!("{identity:?} {:?} {:?}", ObjectKey::from_bytes([65; 32]), identity.dedup_secret());
    assert!(!printed.contains(text.trim_start_matches("datamesh-secret-1")), "{printed}");
    assert!(!printed.contains("65"), "{printed}");
    let mut mistyped = text.to_string();
    mistyped.replace_range(20..21, if &text[20..21] == "q" { "p" } else { "q" });
    let error = mistyped.parse::<Identity>().expect_err("mistyped").to_string();
    assert!(!error.contains(&text[30..40]), "{error}");
}

#[test]
fn keys_are_read_back_from_their_texts() {
    let identity = identity(4);
    let secret = identity.to_text();
    assert!(secret.starts_with("datamesh-secret-1"), "{}", secret.as_str());
    assert_eq!(secret.parse::<Identity>().map(|read| *read.seed()), Ok(*identity.seed()));
    let recipient = identity.recipient().to_string();
    assert!(recipient.starts_with("datamesh-recipient-1"), "{recipient}");
    assert_eq!(recipient.parse::<Recipient>().as_ref(), Ok(identity.recipient()));
}

#[test]
fn a_truncated_and_a_mistyped_key_are_told_apart() {
    let text = identity(5).recipient().to_string();
    for end in 0..text.len() {
        let error = text[..end].parse::<Recipient>().expect_err("truncated");
        assert!(matches!(error, ParseKeyError::Truncated { .. }), "{end}: {error}");
    }
    let secret = identity(5).to_text();
    let wrong =
        [secret.to_string(), format!("{text}q"), text.replace("recipient", "recipiemt"), "ü".repeat(79)];
    for wrong in wrong {
        let error = wrong.parse::<Recipient>().expect_err("mistyped");
        assert!(matches!(error, ParseKeyError::Mistyped { .. }), "{wrong}: {error}");
    }
}

#[test]
fn every_single_wrong_character_of_a_key_is_noticed() {
    let text = identity(6).recipient().to_string();
    for at in 0..text.len() {
        for other in "qpzry9x8gf2tvdw0s3jn54khce6mua7lb-1oQ".chars() {
            let mut wrong = text.clone();
            wrong.replace_range(at..=at, &other.to_string());
            assert!(wrong == text || wrong.parse::<Recipient>().is_err(), "{at}: {wrong}");
        }
    }
}

#[test]
fn a_recipient_that_everybody_agrees_with_is_refused() {
    assert!(Recipient::from_bytes(&[0; 32]).is_none());
    let mut one = [0; 32];
    one[0] = 1;
    assert!(Recipient::from_bytes(&one).is_none());
    assert!(Recipient::from_bytes(&identity(7).recipient().to_bytes()).is_some());
}

#[test]
fn a_grant_opens_for_its_recipient_alone() {
    let key = ObjectKey::random(&mut entropy(8));
    let (reader, stranger) = (identity(9), identity(10));
    let grant = wrap(&key, reader.recipient(), &mut entropy(11));
    assert_eq!(unwrap(&grant, &reader).map(|opened| *opened.as_bytes()), Some(*key.as_bytes()));
    assert!(unwrap(&grant, &stranger).is_none());
    let again = wrap(&key, reader.recipient(), &mut entropy(12));
    assert_ne!(grant, again, "two grants of one key to one recipient have nothing in common");
}

#[test]
fn a_flipped_bit_anywhere_spoils_a_grant() {
    let key = ObjectKey::random(&mut entropy(13));
    let reader = identity(14);
    let grant = wrap(&key, reader.recipient(), &mut entropy(15));
    for bit in 0..8 * 48 {
        let mut forged = grant.clone();
        forged.wrapped[bit / 8] ^= 1 << (bit % 8);
        assert!(unwrap(&forged, &reader).is_none(), "wrapped bit {bit}");
    }
    // X25519 ignores the topmost bit of a point, but the key schedule hashes it.
    for bit in 0..8 * 32 {
        let mut forged = grant.clone();
        forged.encapsulated[bit / 8] ^= 1 << (bit % 8);
        assert!(unwrap(&forged, &reader).is_none(), "encapsulated bit {bit}");
    }
}

#[test]
fn a_commitment_names_one_key() {
    let (key, other) = (ObjectKey::from_bytes([1; 32]), ObjectKey::from_bytes([2; 32]));
    assert!(key.is_committed_by(&key.commitment()));
    assert!(!other.is_committed_by(&key.commitment()));
    assert!(!key.is_committed_by(&key.commitment()[..31]));
    assert!(!key.is_committed_by(&[]));
    assert_ne!(key.commitment(), *key.as_bytes());
}

#[test]
fn a_password_of_the_standard_cost_locks_and_unlocks() {
    let identity = identity(16);
    let locked = lock(&identity, "pässword", &mut entropy(17));
    assert_eq!(unlock(&locked, "pässword").map(|opened| opened.owner()), Ok(identity.owner()));
    assert_eq!(unlock(&locked, "password").map(|opened| opened.owner()).ok(), None);
}

proptest! {
    #[test]
    fn any_text_is_a_key_or_an_error(text in ".{0,100}") {
        let _ = text.parse::<Identity>();
        let _ = text.parse::<Recipient>();
        let _ = format!("datamesh-secret-1{text}").parse::<Identity>();
    }

    #[test]
    fn any_bytes_are_a_locked_identity_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = datamesh_codec::keys::LockedIdentity::parse(&bytes);
    }
}
