//! Keys as text: Bech32m over a version byte and 32 bytes, under a name that says what the key is.

use bech32::primitives::decode::{CheckedHrpstring, CheckedHrpstringError};
use bech32::{Bech32m, Hrp};
use zeroize::Zeroizing;

use crate::keys::KEY_SIZE;

/// The name of secrets; the separator `1` follows it.
pub(super) const SECRET: &str = "datamesh-secret-";
/// The name of recipients.
pub(super) const RECIPIENT: &str = "datamesh-recipient-";
/// The name of mesh secrets.
pub(super) const MESH: &str = "datamesh-mesh-";

const VERSION: u8 = 1;
const BITS_PER_CHARACTER: usize = 5;
const CHECKSUM_LENGTH: usize = 6;
/// Characters after the name: the separator, version and key, checksum.
const REST_LENGTH: usize = 1 + (8 * (1 + KEY_SIZE)).div_ceil(BITS_PER_CHARACTER) + CHECKSUM_LENGTH;

/// Why a text is no key. It never repeats the text, which may be a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseKeyError {
    /// The text ends too early.
    #[error("key is truncated: {found} of {expected} characters")]
    Truncated {
        /// Characters found.
        found: usize,
        /// Characters that a whole key has.
        expected: usize,
    },
    /// The text has a wrong character, too many of them, or is another kind of key.
    #[error("key is mistyped: {why}")]
    Mistyped {
        /// What is wrong with it.
        why: String,
    },
    /// The key is of a later version of the program.
    #[error("key version {0}: this program reads version {VERSION}; a newer one is needed")]
    Version(u8),
}

pub(super) fn encode(name: &str, key: &[u8; KEY_SIZE]) -> String {
    let mut payload = Zeroizing::new([VERSION; 1 + KEY_SIZE]);
    payload[1..].copy_from_slice(key);
    let name = Hrp::parse(name).expect("the names above are lower case");
    bech32::encode::<Bech32m>(name, payload.as_slice())
        .expect("a key is shorter than the code's longest word")
}

pub(super) fn decode(name: &str, text: &str) -> Result<Zeroizing<[u8; KEY_SIZE]>, ParseKeyError> {
    let mistyped = |why: String| ParseKeyError::Mistyped { why };
    let (found, expected) = (text.chars().count(), name.len() + REST_LENGTH);
    let begins_well =
        name.starts_with(text) || text.strip_prefix(name).is_some_and(|rest| rest.starts_with('1'));
    if !begins_well {
        return Err(mistyped(format!("it does not begin with `{name}1`")));
    }
    if found < expected {
        return Err(ParseKeyError::Truncated { found, expected });
    }
    if found > expected {
        return Err(mistyped(format!("{found} characters where it has {expected}")));
    }
    let checked = CheckedHrpstring::new::<Bech32m>(text).map_err(|error| mistyped(reason(&error)))?;
    let mut payload = Zeroizing::new([0; 1 + KEY_SIZE]);
    for (byte, read) in payload.iter_mut().zip(checked.byte_iter()) {
        *byte = read;
    }
    let [version, key @ ..] = *payload;
    if version != VERSION {
        return Err(ParseKeyError::Version(version));
    }
    Ok(Zeroizing::new(key))
}

/// The library's own texts repeat characters of the key.
fn reason(error: &CheckedHrpstringError) -> String {
    let why = match error {
        CheckedHrpstringError::Parse(_) => "it has a character that no key has",
        _ => "its checksum does not match",
    };
    why.to_owned()
}
