//! How far a request came: tells a body that can't be read from a fault of the gateway's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use hyper::http::Extensions;
use s3s::{S3Error, s3_error};

use super::XML_SIZE_MAX;

/// It is allowed, and its document is read.
const ALLOWED: u8 = 1;
/// Its operation has begun.
const BEGUN: u8 = 2;

/// How far one request came. All clones are of the same request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stage(Arc<AtomicU8>);

impl Stage {
    /// A request with these extensions may be made.
    pub(crate) fn allow(extensions: &Extensions) {
        Self::reach(extensions, ALLOWED);
    }

    /// The operation of a request with these extensions begins.
    pub(super) fn begin(extensions: &Extensions) {
        Self::reach(extensions, BEGUN);
    }

    fn reach(extensions: &Extensions, stage: u8) {
        if let Some(Self(reached)) = extensions.get() {
            reached.store(stage, Ordering::Relaxed);
        }
    }

    /// What is to be said where the library says that something inside has failed. Between the check and the operation it reads the
    /// document, and whatever is wrong with that it takes for a fault of the server's.
    pub(super) fn refusal(&self, size: Option<u64>) -> Option<S3Error> {
        if self.0.load(Ordering::Relaxed) != ALLOWED {
            return None;
        }
        let size_max = u64::try_from(XML_SIZE_MAX).unwrap_or(u64::MAX);
        Some(if size.is_some_and(|size| size > size_max) {
            s3_error!(MaxMessageLengthExceeded, "a document has {XML_SIZE_MAX} bytes at most")
        } else {
            s3_error!(
                IncompleteBody,
                "the document does not come to its end, or is not the one that was signed"
            )
        })
    }
}
