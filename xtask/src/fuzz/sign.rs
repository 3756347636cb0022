//! Signatures of version 4, whose every part can be changed before and after.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::{digest, hmac};

/// What a request says that is signed without its body.
pub(super) const UNSIGNED: &str = "UNSIGNED-PAYLOAD";
/// What it says whose chunks are signed one by one.
pub(super) const STREAMING: &str = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD";
const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const SECONDS_OF_DAY: u64 = 86_400;

/// An access key.
#[derive(Debug, Clone, Default)]
pub(super) struct Key {
    pub(super) id: String,
    pub(super) secret: String,
}

impl Key {
    /// What the HTTP API is shown.
    pub(super) fn token(&self) -> String {
        format!("Bearer {}.{}", self.id, self.secret)
    }
}

/// When, where and for what something is signed.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// As `20260301T120000Z`.
    pub(super) instant: String,
    pub(super) region: String,
    pub(super) service: String,
}

impl Scope {
    /// Of now, as the gateway expects it.
    pub(super) fn now() -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |passed| passed.as_secs());
        Self { instant: stamp(now), region: "us-east-1".to_owned(), service: "s3".to_owned() }
    }

    fn day(&self) -> &str {
        self.instant.split('T').next().unwrap_or_default()
    }

    pub(super) fn text(&self) -> String {
        format!("{}/{}/{}/aws4_request", self.day(), self.region, self.service)
    }

    /// The signature of a text, in hexadecimal digits.
    pub(super) fn signature(&self, secret: &str, text: &str) -> String {
        let mut key = format!("AWS4{secret}").into_bytes();
        for part in [self.day(), &self.region, &self.service, "aws4_request"] {
            key = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), part.as_bytes()).as_ref().to_vec();
        }
        hex(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes()).as_ref())
    }

    /// The signature of a chunk that follows on what has this one.
    pub(super) fn chunk_signature(&self, secret: &str, previous: &str, chunk: &[u8]) -> String {
        let text = format!(
            "AWS4-HMAC-SHA256-PAYLOAD\n{}\n{}\n{previous}\n{}\n{}",
            self.instant,
            self.text(),
            sha256(b""),
            sha256(chunk)
        );
        self.signature(secret, &text)
    }
}

/// What of a request is signed. Path, names and values are escaped already.
#[derive(Debug)]
pub(super) struct Signed<'a> {
    pub(super) method: &'a str,
    pub(super) path: &'a str,
    pub(super) query: Vec<(String, String)>,
    /// Names in small letters.
    pub(super) headers: Vec<(String, String)>,
    /// The digest of the body, or what stands in its stead.
    pub(super) payload: &'a str,
}

impl Signed<'_> {
    /// The signature of a request, in hexadecimal digits.
    pub(super) fn signature(&self, key: &Key, scope: &Scope) -> String {
        let text = format!(
            "{ALGORITHM}\n{}\n{}\n{}",
            scope.instant,
            scope.text(),
            sha256(self.canonical().as_bytes())
        );
        scope.signature(&key.secret, &text)
    }

    /// The value of a header that has it.
    pub(super) fn authorization(&self, key: &Key, scope: &Scope) -> String {
        format!(
            "{ALGORITHM} Credential={}/{},SignedHeaders={},Signature={}",
            key.id,
            scope.text(),
            self.names(),
            self.signature(key, scope)
        )
    }

    /// The query of an address that has it, for so many seconds.
    pub(super) fn presigned(mut self, key: &Key, scope: &Scope, seconds: &str) -> Vec<(String, String)> {
        let credential = escaped(&format!("{}/{}", key.id, scope.text()));
        let names = escaped(&self.names());
        for (name, value) in [
            ("X-Amz-Algorithm", ALGORITHM),
            ("X-Amz-Credential", &credential),
            ("X-Amz-Date", &scope.instant),
            ("X-Amz-Expires", seconds),
            ("X-Amz-SignedHeaders", &names),
        ] {
            self.query.push((name.to_owned(), value.to_owned()));
        }
        let signature = self.signature(key, scope);
        self.query.push(("X-Amz-Signature".to_owned(), signature));
        self.query
    }

    fn names(&self) -> String {
        let mut names: Vec<&str> = self.headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names.join(";")
    }

    fn canonical(&self) -> String {
        let mut query = self.query.clone();
        query.sort();
        let query: Vec<String> = query.into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut headers = self.headers.clone();
        headers.sort();
        let headers: String =
            headers.into_iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
        format!(
            "{}\n{}\n{}\n{headers}\n{}\n{}",
            self.method,
            self.path,
            query.join("&"),
            self.names(),
            self.payload
        )
    }
}

/// A text with all but unreserved characters escaped.
pub(super) fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte {
        byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}

pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Seconds since 1970 as `20260301T120000Z`, by Howard Hinnant's `civil_from_days`.
pub(super) fn stamp(seconds: u64) -> String {
    let (days, second) = (seconds / SECONDS_OF_DAY + 719_468, seconds % SECONDS_OF_DAY);
    let (cycle, of_cycle) = (days / 146_097, days % 146_097);
    let year_of_cycle = (of_cycle - of_cycle / 1460 + of_cycle / 36_524 - of_cycle / 146_096) / 365;
    let of_year = of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let shifted = (5 * of_year + 2) / 153;
    let (day, month) =
        (of_year - (153 * shifted + 2) / 5 + 1, if shifted < 10 { shifted + 3 } else { shifted - 9 });
    let year = year_of_cycle + cycle * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}T{:02}{:02}{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::{Key, Scope, Signed, sha256, stamp};

    fn example() -> (Key, Scope) {
        let key = Key {
            id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
            secret: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        };
        let scope = Scope {
            instant: "20130524T000000Z".to_owned(),
            region: "us-east-1".to_owned(),
            service: "s3".to_owned(),
        };
        (key, scope)
    }

    fn pair(name: &str, value: &str) -> (String, String) {
        (name.to_owned(), value.to_owned())
    }

    #[test]
    fn headers_are_signed_as_the_documentation_of_s3_does_it() {
        let (key, scope) = example();
        let empty = sha256(b"");
        let signed = Signed {
            method: "GET",
            path: "/test.txt",
            query: Vec::new(),
            headers: vec![
                pair("host", "examplebucket.s3.amazonaws.com"),
                pair("range", "bytes=0-9"),
                pair("x-amz-content-sha256", &empty),
                pair("x-amz-date", "20130524T000000Z"),
            ],
            payload: &empty,
        };
        let expected = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
        assert_eq!(signed.signature(&key, &scope), expected);
    }

    #[test]
    fn addresses_are_signed_as_the_documentation_of_s3_does_it() {
        let (key, scope) = example();
        let signed = Signed {
            method: "GET",
            path: "/test.txt",
            query: Vec::new(),
            headers: vec![pair("host", "examplebucket.s3.amazonaws.com")],
            payload: super::UNSIGNED,
        };
        let query = signed.presigned(&key, &scope, "86400");
        let expected = "aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404";
        assert_eq!(query.last(), Some(&pair("X-Amz-Signature", expected)));
    }

    #[test]
    fn instants_are_those_of_the_calendar() {
        assert_eq!(stamp(0), "19700101T000000Z");
        assert_eq!(stamp(1_772_366_400), "20260301T120000Z");
        assert_eq!(stamp(1_709_164_799), "20240228T235959Z");
    }
}
