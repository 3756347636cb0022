//! Requests as they should be, which corpora then spoil.

use super::sign::{Key, Scope, Signed, UNSIGNED, escaped, sha256};

/// A request. Path and query are escaped already, or are not escaped on purpose.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: String,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    pub(super) headers: Vec<(String, Vec<u8>)>,
    pub(super) body: Vec<u8>,
}

impl Request {
    pub(super) fn new(method: &str, path: &str, host: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: path.to_owned(),
            query: Vec::new(),
            headers: vec![("host".to_owned(), host.as_bytes().to_vec())],
            body: Vec::new(),
        }
    }

    /// Adds a parameter, escaped.
    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((escaped(name), escaped(value)));
        self
    }

    pub(super) fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(super) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    pub(super) fn token(self, key: &Key) -> Self {
        let token = key.token();
        self.header("authorization", token)
    }

    /// Signs it and its body in headers.
    pub(super) fn signed(self, key: &Key) -> Self {
        let payload = sha256(&self.body);
        self.signed_as(key, &Scope::now(), &payload)
    }

    /// Signs it in headers, with this in the stead of the body's digest.
    pub(super) fn signed_as(self, key: &Key, scope: &Scope, payload: &str) -> Self {
        let dated = self.header("x-amz-date", scope.instant.as_str()).header("x-amz-content-sha256", payload);
        let signed = Signed {
            method: &dated.method,
            path: &dated.path,
            query: dated.query.clone(),
            headers: dated.to_sign(),
            payload,
        };
        let authorization = signed.authorization(key, scope);
        dated.header("authorization", authorization)
    }

    /// Signs it in its query, for so many seconds.
    pub(super) fn presigned(mut self, key: &Key, scope: &Scope, seconds: &str) -> Self {
        let signed = Signed {
            method: &self.method,
            path: &self.path,
            query: self.query.clone(),
            headers: self.to_sign(),
            payload: UNSIGNED,
        };
        self.query = signed.presigned(key, scope, seconds);
        self
    }

    /// The headers that S3 wants to be signed.
    fn to_sign(&self) -> Vec<(String, String)> {
        let wanted = |name: &str| name == "host" || name == "content-md5" || name.starts_with("x-amz-");
        let of = |(name, value): &(String, Vec<u8>)| {
            let name = name.to_ascii_lowercase();
            let value = String::from_utf8(value.clone()).ok().filter(|_| wanted(&name))?;
            Some((name, value))
        };
        self.headers.iter().filter_map(of).collect()
    }

    /// The signature in its headers or query, as the bytes that it is sent as.
    pub(super) fn target(&self) -> String {
        let query: Vec<String> = self.query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        if query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, query.join("&")) }
    }

    /// The value of a header, to be changed.
    pub(super) fn value(&mut self, name: &str) -> Option<&mut Vec<u8>> {
        self.headers.iter_mut().find(|(found, _)| found == name).map(|(_, value)| value)
    }

    /// As it is sent: with its size, unless a header says how it is framed.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let framed = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        let mut bytes = self.head();
        if !framed && (!self.body.is_empty() || matches!(self.method.as_str(), "PUT" | "POST" | "PATCH")) {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }

    /// Its first line and its headers, without the line that ends them.
    pub(super) fn head(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target()).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    }
}

/// Bytes in Base64.
pub(super) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let [first, second, third] = three.map(usize::from);
        let digits =
            [first >> 2, (first & 3) << 4 | second >> 4, (second & 15) << 2 | third >> 6, third & 63];
        for (at, digit) in digits.into_iter().enumerate() {
            text.push(if at <= group.len() { char::from(DIGITS[digit]) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{Request, base64};

    #[test]
    fn a_request_says_how_long_its_body_is_unless_it_is_framed_otherwise() {
        let request = Request::new("PUT", "/a", "h").query("x y", "&").body("abc");
        let text = String::from_utf8(request.bytes()).expect("it is text");
        assert_eq!(text, "PUT /a?x%20y=%26 HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc");
        let framed = request.header("Transfer-Encoding", "chunked");
        assert!(!String::from_utf8(framed.bytes()).expect("it is text").contains("content-length"));
    }

    #[test]
    fn base64_is_that_of_its_standard() {
        let pairs = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in pairs {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
    }
}
