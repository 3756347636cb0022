//! What a backend wants to be shown: never printed, and wiped from memory when it is dropped.

use std::fmt;

use zeroize::Zeroizing;

/// What a backend wants to be shown.
#[derive(Clone, Default)]
pub struct Secrets {
    /// Of S3: which key signs.
    pub access_key: Option<Zeroizing<String>>,
    /// Of S3: the key.
    pub secret_key: Option<Zeroizing<String>>,
    /// Of S3: what goes with a key that is lent for a while.
    pub session_token: Option<Zeroizing<String>>,
    /// Of Redis: who asks, where that is not the default user.
    pub user: Option<Zeroizing<String>>,
    /// Of Redis: the password.
    pub password: Option<Zeroizing<String>>,
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secrets(..)")
    }
}
