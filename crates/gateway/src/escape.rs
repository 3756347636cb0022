//! Bytes as hexadecimal digits, and texts as URLs have them (RFC 3986).

use core::fmt::Write;

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes any text");
        text
    })
}

/// The bytes that hexadecimal digits are.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let plain = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let byte = |pair: &[u8]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    if plain { text.as_bytes().chunks(2).map(byte).collect() } else { None }
}

/// A text in which all but letters, digits and these characters are escaped.
pub(crate) fn escaped(text: &str, plain: &[u8]) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut escaped, byte| {
        if byte.is_ascii_alphanumeric() || plain.contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            write!(escaped, "%{byte:02X}").expect("a string takes any text");
        }
        escaped
    })
}

/// The text that was escaped; none for what is malformed or no UTF-8.
pub(crate) fn unescaped(text: &str) -> Option<String> {
    let mut parts = text.split('%');
    let mut bytes = parts.next()?.as_bytes().to_vec();
    for part in parts {
        let (digits, rest) = part.split_at_checked(2)?;
        bytes.extend(unhex(digits)?);
        bytes.extend_from_slice(rest.as_bytes());
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::{escaped, hex, unescaped, unhex};

    #[test]
    fn texts_are_escaped_and_back() {
        for text in ["", "a b/c%2f", "größe\n", "%"] {
            for plain in [&b""[..], b"-._~/"] {
                assert_eq!(unescaped(&escaped(text, plain)).as_deref(), Some(text));
            }
        }
        assert_eq!(escaped("a/b c", b"/"), "a/b%20c");
        for wrong in ["%", "%4", "%zz", "%+1", "%é", "%ff", "a%2"] {
            assert_eq!(unescaped(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn hexadecimal_digits_go_there_and_back() {
        assert_eq!(unhex(&hex(b"\x00\xffkey")).as_deref(), Some(&b"\x00\xffkey"[..]));
        for wrong in ["0", "0g", "+1", "é"] {
            assert_eq!(unhex(wrong), None, "{wrong}");
        }
    }
}
