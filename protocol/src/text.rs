//! Texts that have to fit. What identifies something is never just cut: two names with the same
//! beginning would become one. What only a person reads may be shortened, and says so.

use std::borrow::Cow;

use sha2::{Digest, Sha256};

/// What stands between the beginning of a name and the digest of all of it.
const DIGEST_MARK: &str = "…sha256:";
/// Bytes that a digest takes at the end of a name: the mark, and 64 hexadecimal digits.
pub const DIGEST_BYTES: usize = DIGEST_MARK.len() + 64;

/// `name` in at most `max` bytes: itself where it fits, or else its beginning and the SHA-256 of the
/// whole. Equal names stay equal and different ones different, and what fits already is not changed
/// again, so that it may be asked for wherever a name goes out or is compared.
///
/// # Panics
/// When `max` leaves no room for a digest.
pub fn identity(name: &str, max: usize) -> Cow<'_, str> {
    if name.len() <= max {
        return Cow::Borrowed(name);
    }
    assert!(max >= DIGEST_BYTES, "{max} bytes have no room for a digest");
    let beginning = beginning(name, max - DIGEST_BYTES);
    Cow::Owned(format!("{beginning}{DIGEST_MARK}{:x}", Sha256::digest(name)))
}

/// `text` in at most `max` bytes, for a person: itself where it fits, or else its beginning and how
/// long it is in all.
pub fn shortened(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let mark = format!("… ({} bytes in all)", text.len());
    Cow::Owned(format!("{}{mark}", beginning(text, max.saturating_sub(mark.len()))))
}

/// The longest beginning of `text` that has at most `max` bytes and ends between two letters.
pub fn beginning(text: &str, max: usize) -> &str {
    &text[..text.floor_char_boundary(max)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_behind_the_limit_stay_apart() {
        let long = |last: char| format!("{}{last}", "é".repeat(200));
        let (one, other) = (long('1'), long('2'));
        let cut = identity(&one, 256);
        assert!(cut.len() <= 256 && cut.starts_with("éé"), "{cut}");
        assert_ne!(cut, identity(&other, 256));
        assert_eq!(identity(&cut, 256), cut, "what fits is not changed again");
        assert_eq!(identity(&one[..256], 256), &one[..256]);
        assert_eq!(identity(&one, DIGEST_BYTES).len(), DIGEST_BYTES);
    }

    #[test]
    fn a_long_text_is_cut_between_letters_and_says_so() {
        assert_eq!(shortened(&"é".repeat(50), 40), format!("{}… (100 bytes in all)", "é".repeat(9)));
        assert_eq!(shortened(&"é".repeat(20), 40), "é".repeat(20));
        assert_eq!(shortened("abc", 0), "… (3 bytes in all)", "the mark is never cut");
    }
}
