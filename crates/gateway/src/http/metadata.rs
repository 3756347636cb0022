//! The `Upload-Metadata` of tus: pairs of a name and a value in Base64.

use std::collections::BTreeMap;

use crate::http::answer::Problem;

/// Bytes of the header at the most.
const HEADER_SIZE_MAX: usize = 8 * 1024;

/// Reads the pairs. A name without a value has an empty one.
///
/// # Errors
/// For what is no such header.
pub(super) fn pairs(header: &str) -> Result<BTreeMap<String, String>, Problem> {
    if header.len() > HEADER_SIZE_MAX {
        return Err(Problem::usage(format!("Upload-Metadata has more than {HEADER_SIZE_MAX} bytes")));
    }
    let mut pairs = BTreeMap::new();
    for pair in header.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once(' ').unwrap_or((pair, ""));
        let text = decode(value.trim()).and_then(|bytes| String::from_utf8(bytes).ok());
        let text =
            text.ok_or_else(|| Problem::usage(format!("Upload-Metadata: {name} is no text in Base64")))?;
        pairs.insert(name.to_owned(), text);
    }
    Ok(pairs)
}

/// The bytes that Base64 (RFC 4648, 4) stands for, padded or not.
fn decode(text: &str) -> Option<Vec<u8>> {
    let bare = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(bare.len());
    let (mut bits, mut count) = (0_u32, 0_u32);
    for letter in bare.bytes() {
        let six = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6 | u32::from(six)) & 0xffff;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).ok()?);
        }
    }
    // What is left over is no part of a byte.
    (count < 6 && bits & ((1 << count) - 1) == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::{decode, pairs};

    #[test]
    fn base64_is_read_as_the_rfc_has_it() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("Zg==", b"f"),
            ("Zg", b"f"),
            ("Zm8=", b"fo"),
            ("Zm9v", b"foo"),
            ("Zm9vYmFy", b"foobar"),
            ("+/8=", b"\xfb\xff"),
        ] {
            assert_eq!(decode(text).as_deref(), Some(bytes), "{text}");
        }
        for wrong in ["Z", "Zh==", "Z!==", "Zm9=v"] {
            assert_eq!(decode(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn pairs_may_lack_values_and_nothing_else_may() {
        let found = pairs("filename Z3LDtsOfZQ==,empty, bucket Zm9v").expect("pairs");
        assert_eq!(found["filename"], "größe");
        assert_eq!((found["empty"].as_str(), found["bucket"].as_str()), ("", "foo"));
        assert!(pairs("filename ÿ").is_err());
        assert!(pairs("filename /w==").is_err(), "no UTF-8");
    }
}
