//! Problems: why a request is not met, as a status and as `{"error":{"kind","message","hint"}}`.

use std::error::Error;

use axum::Json;
use axum::http::header::{HeaderName, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use datamesh_core::bucket::{NameError, ParseStampError};
use datamesh_core::id::ParseIdError;
use datamesh_engine::WalkError;
use datamesh_engine::buckets::{ChangeError, ReadError, Refused, StoreError};
use datamesh_engine::get::GetError;
use datamesh_engine::put::PutError;
use datamesh_engine::transfer::Failure;
use datamesh_engine::world::MapError;
use schemars::JsonSchema;
use serde::Serialize;

/// Seconds after which what lacks nodes now may be worth another try.
const RETRY_AFTER_S: &str = "5";

/// Why a request is not met.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    kind: &'static str,
    message: String,
    hint: Option<&'static str>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// How a problem is told.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct ProblemView {
    error: ProblemText,
}

/// What is told of a problem.
#[derive(Debug, Serialize, JsonSchema)]
struct ProblemText {
    /// What sort of problem it is: `not-found`, `denied`, `usage`, `not-enough` and so on, as the command line has them.
    kind: &'static str,
    /// What is wrong.
    message: String,
    /// What may help.
    hint: Option<&'static str>,
}

impl Problem {
    pub(super) const fn new(status: StatusCode, kind: &'static str, message: String) -> Self {
        Self { status, kind, message, hint: None, headers: Vec::new() }
    }

    /// The request can't be meant so.
    pub(super) const fn usage(message: String) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "usage", message)
    }

    pub(super) const fn not_found(message: String) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", message)
    }

    /// Who asks may not.
    pub(super) const fn denied(message: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "denied", message)
    }

    /// Too much is going on.
    pub(super) fn busy(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", message).retry()
    }

    pub(super) const fn hint(mut self, hint: &'static str) -> Self {
        self.hint = Some(hint);
        self
    }

    pub(super) fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    pub(super) const fn status(&self) -> StatusCode {
        self.status
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    fn retry(self) -> Self {
        self.header(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S))
    }

    fn not_enough(message: String) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "not-enough", message)
            .hint("more nodes of the mesh must answer; GET /api/v1/health says which do not")
            .retry()
    }

    /// What the mesh gave is not what was put.
    fn corrupt(message: String) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "corrupt", message)
    }

    /// Something on this machine is broken.
    pub(super) const fn machine(message: String) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "failed", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        if self.status.is_server_error() {
            tracing::warn!(status = %self.status, message = self.message, "a request was not met");
        }
        let text = ProblemText { kind: self.kind, message: self.message, hint: self.hint };
        let mut response = (self.status, Json(ProblemView { error: text })).into_response();
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// An error and all that led to it.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        // Transparent errors say the same twice.
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

impl From<MapError> for Problem {
    fn from(error: MapError) -> Self {
        Self::machine(chain(&error))
    }
}

impl From<NameError> for Problem {
    fn from(error: NameError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<ParseStampError> for Problem {
    fn from(error: ParseStampError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<ParseIdError> for Problem {
    fn from(error: ParseIdError) -> Self {
        Self::usage(chain(&error))
    }
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let text = chain(&error);
        match error {
            ChangeError::Refused(refused) => match refused {
                Refused::NoBucket(_)
                | Refused::NoKey(_)
                | Refused::Deleted(_)
                | Refused::NoUpload(_)
                | Refused::NoPart(_)
                | Refused::NoAccessKey(_) => Self::not_found(text),
                Refused::BucketExists(_) | Refused::NotEmpty(_) => {
                    Self::new(StatusCode::CONFLICT, "conflict", text)
                }
                Refused::PartsUnordered | Refused::PartTooShort { .. } => Self::usage(text),
                Refused::Condition => Self::new(StatusCode::PRECONDITION_FAILED, "condition", text),
            },
            ChangeError::Index(_) => Self::machine(text),
            ChangeError::NotEnoughNodes { .. } | ChangeError::Scheme(_) => Self::not_enough(text),
            ChangeError::TooLarge(_) => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text),
            ChangeError::Closed => Self::busy(text),
        }
    }
}

impl From<GetError> for Problem {
    fn from(error: GetError) -> Self {
        let text = chain(&error);
        match error {
            GetError::NotFound { .. } => Self::not_found(text),
            GetError::NoKey(_) => Self::denied(text),
            GetError::MissingBlock { .. } | GetError::TooFewShards { .. } => Self::not_enough(text),
            GetError::Range { .. } => Self::new(StatusCode::RANGE_NOT_SATISFIABLE, "range", text),
            // The client has gone, or takes nothing any more: nobody reads this.
            GetError::Sink(_) => Self::new(StatusCode::REQUEST_TIMEOUT, "interrupted", text),
            GetError::Root(_)
            | GetError::Block(_)
            | GetError::Rebuild { .. }
            | GetError::Chunk(_)
            | GetError::Unpack { .. }
            | GetError::Digest => Self::corrupt(text),
        }
    }
}

impl From<ReadError> for Problem {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Index(error) => error.into(),
            ReadError::Get(error) => match error.into() {
                // The key is there, and what it names is not: that is no client's mistake.
                Self { status: StatusCode::NOT_FOUND, message, .. } => Self::not_enough(message),
                problem => problem,
            },
            error @ ReadError::MissingPart(_) => Self::machine(chain(&error)),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match error {
            StoreError::Put(PutError::Source(source))
                if source.kind() == std::io::ErrorKind::FileTooLarge =>
            {
                Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", text)
            }
            StoreError::Put(PutError::Source(_)) => Self::new(StatusCode::BAD_REQUEST, "interrupted", text)
                .hint("the body ended before it should"),
            StoreError::Put(PutError::NotEnoughNodes { failures, .. }) => {
                if failures.values().any(Failure::is_for_space) {
                    Self::new(StatusCode::INSUFFICIENT_STORAGE, "no-space", text)
                } else {
                    Self::not_enough(text)
                }
            }
            StoreError::Put(PutError::Recipients(_) | PutError::Manifest(_) | PutError::Details(_)) => {
                Self::usage(text)
            }
            StoreError::Put(PutError::Changed | PutError::Journal(_)) => Self::machine(text),
            StoreError::Scheme(_) => Self::not_enough(text),
        }
    }
}

impl From<WalkError> for Problem {
    fn from(error: WalkError) -> Self {
        let text = chain(&error);
        match error {
            WalkError::Missing { .. } => Self::not_found(text),
            WalkError::Manifest(_) => Self::corrupt(text),
        }
    }
}
