//! Parts of requests, of which what is malformed is told as every other problem is.

use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use serde::de::DeserializeOwned;

use crate::http::Face;
use crate::http::answer::Problem;

/// The parameters of a path.
pub(super) struct InPath<T>(pub(super) T);

/// The parameters of a query.
pub(super) struct InQuery<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Face> for InPath<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, face: &Face) -> Result<Self, Problem> {
        let found = Path::<T>::from_request_parts(parts, face).await;
        found.map(|Path(value)| Self(value)).map_err(|error| Problem::usage(error.body_text()))
    }
}

impl<T: DeserializeOwned> FromRequestParts<Face> for InQuery<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, face: &Face) -> Result<Self, Problem> {
        let found = Query::<T>::from_request_parts(parts, face).await;
        found.map(|Query(value)| Self(value)).map_err(|error| Problem::usage(error.body_text()))
    }
}
