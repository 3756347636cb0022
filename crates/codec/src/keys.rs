//! The key hierarchy: passphrase or recipient to object key to chunk key.
//!
//! A password opens a [`LockedIdentity`]; an [`Identity`] opens a grant of an object's manifest, which holds an
//! [`ObjectKey`]; every other key follows from one of these by BLAKE3's key derivation under a context of its own.

mod grant;
mod identity;
mod lock;
mod log;
mod mesh;
mod object;
mod text;

pub use grant::{unwrap, wrap};
pub use identity::{DedupSecret, Identity, Recipient};
pub use lock::{LockedIdentity, LockedIdentityError, UnlockError, lock, unlock};
pub use log::{LogKey, OpenLogError};
pub use mesh::MeshSecret;
pub use object::ObjectKey;
pub(crate) use object::cipher_code;
pub use text::ParseKeyError;

/// Bytes of every secret key here.
pub const KEY_SIZE: usize = 32;

/// Where keys and salts come from: fills the buffer with bytes that nobody can predict.
pub type Entropy<'a> = &'a mut dyn FnMut(&mut [u8]);
