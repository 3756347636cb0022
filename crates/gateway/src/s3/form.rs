//! Forms that browsers post: who sends one is read from its first fields, and refused before its file is.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;
use datamesh_core::bucket::Access;
use futures::{Stream, StreamExt};
use hyper::Method;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use multer::{Constraints, Multipart, SizeLimit};
use s3s::stream::{ByteStream, DynByteStream, RemainingLength};
use s3s::{Body, HttpRequest, S3Error, S3Result, StdError, s3_error};

use super::{FORM_FIELD_SIZE_MAX, FORM_FIELDS_SIZE_MAX};
use crate::Gateway;
use crate::auth::known_key;
use crate::s3::{host, text};

/// Bytes that may be read until the file of a form begins: its fields, what stands around them, and the part of the file that
/// came together with them.
const HEAD_SIZE_MAX: u64 = 2 * FORM_FIELDS_SIZE_MAX as u64;
/// What a request with a form says that its body is.
const FORM_TYPE: &[u8] = b"multipart/form-data";
/// The field that is the file.
const FILE: &str = "file";
/// The fields that say which key a form is signed with: of version 4, and of those before.
const CREDENTIAL: &str = "x-amz-credential";
const KEY_ID: &str = "awsaccesskeyid";
/// What stands in a key for the name of the file.
const FILE_NAME: &str = "${filename}";

/// What a browser calls the file of a form.
#[derive(Debug, Clone)]
pub(crate) struct FileName(String);

impl FileName {
    /// The key that a form asks for. Of a path only what follows its last separator is the name.
    pub(crate) fn in_key(&self, key: &str) -> String {
        key.replace(FILE_NAME, self.0.rsplit(['/', '\\']).next().unwrap_or_default())
    }
}

/// What stands before the file.
#[derive(Debug, Default)]
struct Head {
    key_id: Option<String>,
    file_name: Option<String>,
}

/// Passes on what is no form, and forms that name a key which may write to the bucket. Whether they are signed with it, and what
/// their policy allows, the library checks.
///
/// # Errors
/// `AccessDenied` where nobody is named, or one who may not write there; `InvalidAccessKeyId`; `MalformedPOSTRequest` where it
/// can't be read.
///
/// # Cancel safety
/// The request is lost.
pub(super) async fn admit(gateway: &Gateway, request: HttpRequest) -> S3Result<HttpRequest> {
    let Some(boundary) = boundary_of(&request)? else { return Ok(request) };
    let bucket = host::bucket_of(gateway, request.uri(), request.headers());
    let (mut parts, body) = request.into_parts();
    let (head, body) = head_of(body, boundary).await?;
    let Some(id) = head.key_id else {
        return Err(s3_error!(AccessDenied, "Requests must be signed"));
    };
    let key = known_key(&gateway.buckets, &id)?;
    let bucket = text::bucket(&bucket.ok_or_else(|| s3_error!(MethodNotAllowed))?)?;
    if !key.allows(&bucket, Access::Write) {
        return Err(s3_error!(AccessDenied));
    }
    if let Some(name) = head.file_name {
        parts.extensions.insert(FileName(name));
    }
    Ok(HttpRequest::from_parts(parts, body))
}

/// What separates the fields of a form; `None` where the request has none.
fn boundary_of(request: &HttpRequest) -> S3Result<Option<String>> {
    let kind = request.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
    let is_form = kind.get(..FORM_TYPE.len()).is_some_and(|kind| kind.eq_ignore_ascii_case(FORM_TYPE));
    if *request.method() != Method::POST || !is_form {
        return Ok(None);
    }
    let kind = core::str::from_utf8(kind).map_err(malformed)?;
    multer::parse_boundary(kind).map(Some).map_err(malformed)
}

fn malformed(error: impl std::error::Error + Send + Sync + 'static) -> S3Error {
    s3_error!(error, MalformedPOSTRequest, "the form can't be read")
}

/// Reads until the file begins. The body that comes with it is the whole one again.
async fn head_of(body: Body, boundary: String) -> S3Result<(Head, Body)> {
    let read = Arc::new(Mutex::new((VecDeque::new(), Some(body))));
    let tee = Tee { read: Arc::clone(&read) };
    let limit = SizeLimit::new().whole_stream(HEAD_SIZE_MAX).per_field(FORM_FIELD_SIZE_MAX as u64);
    let mut form = Multipart::with_constraints(tee, boundary, Constraints::new().size_limit(limit));
    let mut head = Head::default();
    while let Some(field) = form.next_field().await.map_err(malformed)? {
        let name = field.name().unwrap_or_default().to_ascii_lowercase();
        if name == FILE {
            head.file_name = field.file_name().map(str::to_owned);
            break;
        }
        let value = field.text().await.map_err(malformed)?;
        match name.as_str() {
            CREDENTIAL => head.key_id = value.split('/').next().map(str::to_owned),
            KEY_ID => head.key_id = Some(value),
            _ => {}
        }
    }
    drop(form);
    let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
    let (first, rest) = (std::mem::take(&mut read.0), read.1.take().unwrap_or_default());
    let whole: DynByteStream = Box::pin(Rejoined { first, rest });
    Ok((head, whole.into()))
}

/// What was read of a body, and what is left of it.
type Read = (VecDeque<Bytes>, Option<Body>);

/// Reads a body and keeps what it has read.
struct Tee {
    read: Arc<Mutex<Read>>,
}

impl Stream for Tee {
    type Item = Result<Bytes, StdError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        let (first, Some(body)) = &mut *read else { return Poll::Ready(None) };
        let next = body.poll_next_unpin(context);
        if let Poll::Ready(Some(Ok(bytes))) = &next {
            first.push_back(bytes.clone());
        }
        next
    }
}

/// A body of which the first bytes were read before.
struct Rejoined {
    first: VecDeque<Bytes>,
    rest: Body,
}

impl Stream for Rejoined {
    type Item = Result<Bytes, StdError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match self.first.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(bytes))),
            None => self.rest.poll_next_unpin(context),
        }
    }
}

impl ByteStream for Rejoined {
    fn remaining_length(&self) -> RemainingLength {
        RemainingLength::unknown()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures::{StreamExt, stream};
    use s3s::Body;

    use super::{FileName, HEAD_SIZE_MAX, Rejoined, head_of};

    const FORM: &str = "--b\r\ncontent-disposition: form-data; name=\"key\"\r\n\r\nup/${filename}\r\n\
                        --b\r\ncontent-disposition: form-data; name=\"X-Amz-Credential\"\r\n\r\nDM1/2026/us-east-1/s3\r\n\
                        --b\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a.txt\"\r\n\r\nbytes\r\n--b--\r\n";

    /// A body that comes in frames of this size.
    fn body(text: &str, frame: usize) -> Body {
        let frames: std::collections::VecDeque<Bytes> =
            text.as_bytes().chunks(frame).map(Bytes::copy_from_slice).collect();
        let stream: s3s::stream::DynByteStream = Box::pin(Rejoined { first: frames, rest: Body::empty() });
        stream.into()
    }

    #[tokio::test]
    async fn the_key_and_the_name_of_the_file_are_read_and_the_body_is_whole_again() {
        for frame in [1, 7, 64, FORM.len()] {
            let (head, whole) = head_of(body(FORM, frame), "b".to_owned()).await.expect("it is a form");
            assert_eq!(head.key_id.as_deref(), Some("DM1"), "{frame}");
            assert_eq!(head.file_name.as_deref(), Some("a.txt"), "{frame}");
            let bytes: Vec<Bytes> = whole.map(|bytes| bytes.expect("it is there")).collect().await;
            assert_eq!(bytes.concat(), FORM.as_bytes(), "{frame}");
        }
    }

    #[tokio::test]
    async fn a_form_that_never_comes_to_its_file_is_refused() {
        let endless =
            format!("--b\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\n{}", "x".repeat(70_000));
        assert!(head_of(body(&endless, 1000), "b".to_owned()).await.is_err(), "a field too large");
        let field = "--b\r\ncontent-disposition: form-data; name=\"x\"\r\n\r\nx\r\n";
        let many = field.repeat(usize::try_from(HEAD_SIZE_MAX).expect("small") / field.len() + 1);
        assert!(head_of(body(&many, 4096), "b".to_owned()).await.is_err(), "too many fields");
        assert!(head_of(body("--c\r\n", 1), "b".to_owned()).await.is_err(), "another boundary");
        let broken = stream::empty::<u8>().collect::<Vec<_>>().await;
        assert!(head_of(Body::from(broken), "b".to_owned()).await.is_err(), "nothing");
    }

    #[test]
    fn only_the_last_part_of_a_path_is_the_name_of_a_file() {
        for (name, key) in [("a.txt", "up/a.txt"), ("C:\\x\\b", "up/b"), ("../../c", "up/c"), ("", "up/")] {
            assert_eq!(FileName(name.to_owned()).in_key("up/${filename}"), key);
        }
        assert_eq!(FileName("a".to_owned()).in_key("fixed"), "fixed");
    }
}
