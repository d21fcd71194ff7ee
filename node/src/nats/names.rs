//! Names as single tokens of a subject: readable where they can be, and always reversible.

use std::fmt::Write as _;

/// `name` as one subject token that is also a valid key of a bucket. Letters, digits, `-`, `_` and
/// `/` stay; every other byte becomes `=` and two capital hexadecimal digits. The empty name
/// becomes a lone `=`.
pub(crate) fn encode(name: &str) -> String {
    if name.is_empty() {
        return "=".into();
    }
    let mut token = String::with_capacity(name.len() + 8);
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'/' => token.push(char::from(byte)),
            other => {
                let _ = write!(token, "={other:02X}");
            }
        }
    }
    token
}

/// The name behind a token that [`encode`] made; `None` for any other text.
pub(super) fn decode(token: &str) -> Option<String> {
    if token == "=" {
        return Some(String::new());
    }
    let mut bytes = Vec::with_capacity(token.len());
    let mut rest = token.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first == b'=' {
            let (digits, tail) = rest.split_at_checked(2)?;
            if digits.iter().any(u8::is_ascii_lowercase) {
                return None;
            }
            bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
            rest = tail;
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

/// `text` as a header value: one line. How long it may be is for whoever knows what it says: a name
/// ends with a digest ([`identity`]), what a person reads is shortened.
///
/// [`identity`]: protocol::text::identity
pub(super) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_comes_back() {
        for name in ["", "acme/install-7.2=x", "a_b-c", "=", "=2E", "ä ☃ > *", "..", &"x./=".repeat(50)] {
            let token = encode(name);
            assert!(!token.contains(['.', ' ', '*', '>']) && !token.is_empty(), "{token}");
            assert_eq!(decode(&token).as_deref(), Some(name));
        }
        assert_eq!(encode("acme/install-7"), "acme/install-7");
        for bad in ["=zz", "a=2", "=barrier", "=2e"] {
            assert_eq!(decode(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_header_is_one_line() {
        assert_eq!(one_line("a\r\nb"), "a  b");
    }
}
