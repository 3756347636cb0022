//! The names of workers and batches.

use core::fmt;
use core::str::FromStr;
use std::sync::Arc;

use datamesh_core::limits::WORKER_TEXT_SIZE_MAX;

/// A text names no worker and no batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseWorkerIdError {
    /// It names nothing.
    #[error("id is empty")]
    Empty,
    /// It is longer than any id.
    #[error("id of {0} bytes is longer than {WORKER_TEXT_SIZE_MAX}")]
    TooLong(usize),
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = ParseWorkerIdError;

            fn from_str(text: &str) -> Result<Self, ParseWorkerIdError> {
                match text.len() {
                    0 => Err(ParseWorkerIdError::Empty),
                    1..=WORKER_TEXT_SIZE_MAX => Ok(Self(text.into())),
                    size => Err(ParseWorkerIdError::TooLong(size)),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str(&self.0)
            }
        }
    };
}

text_id! {
    /// Who works: any text that no other worker has, as a node's id or a machine's name.
    WorkerId
}
text_id! {
    /// What is worked on: any text that no other batch has.
    BatchId
}
