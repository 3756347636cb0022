//! Authenticated encryption in place: AES-256-GCM (NIST SP 800-38D) and ChaCha20-Poly1305 (RFC 8439), by `ring`.

use core::fmt;

use datamesh_core::scheme::Cipher;
use ring::aead::{AES_256_GCM, Aad, Algorithm, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};

use crate::keys::KEY_SIZE;

pub(crate) const NONCE_SIZE: usize = ring::aead::NONCE_LEN;
pub(crate) const TAG_SIZE: usize = 16;

/// The nonce under a key that seals one message only.
pub(crate) const NONCE_ZERO: [u8; NONCE_SIZE] = [0; NONCE_SIZE];

/// A key made ready for one cipher. Whoever seals sees to it that no nonce repeats.
pub(crate) struct Key(LessSafeKey);

impl Key {
    /// A key for this cipher; `None` where the cipher is none.
    pub(crate) fn new(cipher: Cipher, key: &[u8; KEY_SIZE]) -> Option<Self> {
        let algorithm: &'static Algorithm = match cipher {
            Cipher::None => return None,
            Cipher::Aes256Gcm => &AES_256_GCM,
            Cipher::Chacha20Poly1305 => &CHACHA20_POLY1305,
        };
        let key = UnboundKey::new(algorithm, key).expect("both ciphers have keys of 32 bytes");
        Some(Self(LessSafeKey::new(key)))
    }

    /// Encrypts where the bytes lie, and appends the tag.
    pub(crate) fn seal(&self, nonce: [u8; NONCE_SIZE], additional: &[u8], bytes: &mut Vec<u8>) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0
            .seal_in_place_append_tag(nonce, Aad::from(additional), bytes)
            .expect("both ciphers take far longer messages than a chunk or a block");
    }

    /// Decrypts where the bytes lie; `None` if they are not what was sealed so.
    pub(crate) fn open<'a>(
        &self,
        nonce: [u8; NONCE_SIZE],
        additional: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.0.open_in_place(nonce, Aad::from(additional), sealed).ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Key(secret)")
    }
}

#[cfg(test)]
mod tests {
    use datamesh_core::scheme::Cipher;

    use super::Key;

    struct KnownAnswer {
        cipher: Cipher,
        key: &'static str,
        nonce: &'static str,
        additional: &'static str,
        plaintext: &'static [u8],
        sealed: &'static str,
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digit = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        (0..hex.len()).step_by(2).map(digit).collect()
    }

    fn check(answer: &KnownAnswer) {
        let key = bytes(answer.key).try_into().expect("32 bytes");
        let key = Key::new(answer.cipher, &key).expect("a cipher");
        let nonce = bytes(answer.nonce).try_into().expect("12 bytes");
        let additional = bytes(answer.additional);
        let mut message = answer.plaintext.to_vec();
        key.seal(nonce, &additional, &mut message);
        assert_eq!(message, bytes(answer.sealed), "{:?}", answer.cipher);
        let opened = key.open(nonce, &additional, &mut message).expect("it opens");
        assert_eq!(opened, answer.plaintext, "{:?}", answer.cipher);
    }

    #[test]
    fn the_known_answer_of_rfc_8439_is_given() {
        check(&KnownAnswer {
            cipher: Cipher::Chacha20Poly1305,
            key: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f",
            nonce: "070000004041424344454647",
            additional: "50515253c0c1c2c3c4c5c6c7",
            plaintext: b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, \
                sunscreen would be it.",
            sealed: "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b\
                1a71de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc\
                3ff4def08e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
        });
    }

    /// McGrew and Viega, "The Galois/Counter Mode of Operation", test case 16, which NIST's submission carries.
    #[test]
    fn the_known_answer_of_the_gcm_specification_is_given() {
        let plaintext = b"\xd9\x31\x32\x25\xf8\x84\x06\xe5\xa5\x59\x09\xc5\xaf\xf5\x26\x9a\x86\xa7\xa9\x53\x15\x34\
            \xf7\xda\x2e\x4c\x30\x3d\x8a\x31\x8a\x72\x1c\x3c\x0c\x95\x95\x68\x09\x53\x2f\xcf\x0e\x24\x49\xa6\xb5\x25\
            \xb1\x6a\xed\xf5\xaa\x0d\xe6\x57\xba\x63\x7b\x39";
        check(&KnownAnswer {
            cipher: Cipher::Aes256Gcm,
            key: "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
            nonce: "cafebabefacedbaddecaf888",
            additional: "feedfacedeadbeeffeedfacedeadbeefabaddad2",
            plaintext,
            sealed: "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
                c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        });
    }
}
