//! Numbers as people and programs write them, against what is kept of them. Whole numbers of 64 bits
//! and decimals of some seventeen figures are kept as they are. What would come out as another number
//! is refused where it comes in: who needs it exactly sends it as a text.

use serde_json::Number;

/// Whether the number that `text` writes, in JSON, is the same number once it was read.
pub fn is_kept(text: &str) -> bool {
    if text.parse::<i64>().is_ok() || text.parse::<u64>().is_ok() {
        return true;
    }
    // Few figures are always kept, unless the number is too large or too small for any.
    let figures = text.bytes().take_while(|b| !matches!(b, b'e' | b'E')).filter(u8::is_ascii_digit).count();
    let powers = text.contains(['e', 'E']);
    if figures <= SAFE_FIGURES && !powers {
        return true;
    }
    match text.parse::<f64>() {
        Ok(read) => Number::from_f64(read).is_some_and(|read| figures_of(text) == figures_of(&read.to_string())),
        Err(_) => false,
    }
}

/// The whole number that `text` writes, in JSON, if it is one of 128 bits.
pub fn whole(text: &str) -> Option<i128> {
    if let Ok(whole) = text.parse() {
        return Some(whole);
    }
    let (figures, power) = figures_of(text)?;
    if figures.is_empty() {
        return Some(0);
    }
    let zeros = usize::try_from(power).ok()?.checked_sub(figures.len())?;
    // No number of 128 bits has more.
    if zeros > 40 {
        return None;
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    format!("{sign}{figures}{}", "0".repeat(zeros)).parse().ok()
}

/// Decimals with so many figures are different binary numbers, whatever they are.
const SAFE_FIGURES: usize = 15;

/// The figures of a number without the zeros around them, and the power of ten of the first.
fn figures_of(text: &str) -> Option<(String, i64)> {
    let text = text.trim_start_matches(['-', '+']);
    let (mantissa, power) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let power: i64 = power.parse().ok()?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    let figures = all.trim_start_matches('0');
    let zeros = i64::try_from(all.len() - figures.len()).ok()?;
    let figures = figures.trim_end_matches('0');
    if figures.is_empty() {
        return Some((String::new(), 0));
    }
    Some((figures.to_owned(), power.checked_add(i64::try_from(whole.len()).ok()?)? - zeros))
}

/// The first number in a JSON text that would not be kept.
pub fn first_not_kept(json: &[u8]) -> Option<&str> {
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => {
                at += 1;
                while at < json.len() && json[at] != b'"' {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let start = at;
                while at < json.len() && matches!(json[at], b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E') {
                    at += 1;
                }
                let text = std::str::from_utf8(&json[start..at]).expect("figures are ASCII");
                if !is_kept(text) {
                    return Some(text);
                }
            }
            _ => at += 1,
        }
    }
    None
}

/// The first number in a MessagePack body that JSON does not know: infinite, or none at all. It would
/// be read as nothing.
pub fn first_without_end(body: &[u8]) -> Option<f64> {
    let mut rest = body;
    while let Some((&marker, after)) = rest.split_first() {
        let length = |bytes: usize| -> Option<usize> {
            let head = after.get(..bytes)?;
            Some(head.iter().fold(0_usize, |sum, byte| sum << 8 | usize::from(*byte)).saturating_add(bytes))
        };
        let skip = match marker {
            0xca => {
                let float = f32::from_be_bytes(after.get(..4)?.try_into().ok()?);
                if !float.is_finite() {
                    return Some(f64::from(float));
                }
                Some(4)
            }
            0xcb => {
                let float = f64::from_be_bytes(after.get(..8)?.try_into().ok()?);
                if !float.is_finite() {
                    return Some(float);
                }
                Some(8)
            }
            0xa0..=0xbf => Some(usize::from(marker & 0x1f)),
            0xc4 | 0xd9 => length(1),
            0xc5 | 0xda => length(2),
            0xc6 | 0xdb => length(4),
            0xc7 => length(1).map(|bytes| bytes + 1),
            0xc8 => length(2).map(|bytes| bytes + 1),
            0xc9 => length(4).map(|bytes| bytes + 1),
            0xcc | 0xd0 => Some(1),
            0xcd | 0xd1 | 0xd4 | 0xdc | 0xde => Some(2),
            0xd5 => Some(3),
            0xce | 0xd2 | 0xdd | 0xdf => Some(4),
            0xd6 => Some(5),
            0xcf | 0xd3 => Some(8),
            0xd7 => Some(9),
            0xd8 => Some(17),
            // Small numbers, nothing, yes and no, and short lists and mappings, whose parts follow.
            0x00..=0x9f | 0xc0..=0xc3 | 0xe0..=0xff => Some(0),
        }?;
        rest = after.get(skip..)?;
    }
    None
}

/// What a person is told about a number that is not kept.
pub fn not_kept(text: &str) -> String {
    let shown = crate::text::shortened(text, SHOWN_MAX_BYTES);
    format!("the number {shown} cannot be kept exactly: send it as a text, in quotes")
}

/// The longest number that is shown whole.
const SHOWN_MAX_BYTES: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_written_back_as_the_same_number() {
        for kept in [
            "0",
            "-0",
            "0.0",
            "0e5",
            "1.10",
            "1e2",
            "0.1",
            "-0.10",
            "9007199254740993",
            "18446744073709551615",
            "-9223372036854775808",
            "1e300",
            "5e-324",
            "2.2250738585072014e-308",
            "0.30000000000000004",
            "1.7976931348623157e308",
            "100000000000000000000",
            "1E+2",
            "123456789012345.6",
            "1e22",
        ] {
            assert!(is_kept(kept), "{kept}");
        }
        for other in [
            "18446744073709551616.5",
            "18446744073709551617",
            "-9223372036854775809",
            "12345678901234567890.12",
            "0.12345678901234567891",
            "1e400",
            "-1e400",
            "1e-400",
            "9007199254740993.0",
            "0.10000000000000001",
            "1e99999999999999999999",
        ] {
            assert!(!is_kept(other), "{other}");
            assert!(not_kept(other).contains(other));
        }
    }

    #[test]
    fn a_whole_number_is_one_however_it_is_written() {
        for (text, number) in [
            ("1e18", Some(1_000_000_000_000_000_000)),
            ("-1.2345678901234567e19", Some(-12_345_678_901_234_567_000)),
            ("100.0", Some(100)),
            ("0.0", Some(0)),
            ("0e99", Some(0)),
            ("18446744073709551615", Some(i128::from(u64::MAX))),
            ("1.5", None),
            ("15e-1", None),
            ("1e300", None),
        ] {
            assert_eq!(whole(text), number, "{text}");
        }
    }

    #[test]
    fn a_number_is_found_wherever_it_stands() {
        assert_eq!(first_not_kept(br#"{"a":"1e400 \" 1e400","b":[1,{"c":-1e400}]}"#), Some("-1e400"));
        assert_eq!(first_not_kept(br#"{"1e400":"9007199254740993.0", "b": 12.5}"#), None);
        assert_eq!(first_not_kept(b"\"\\"), None);
        let pack = |value: &(&str, Vec<f64>, u64)| rmp_serde::to_vec(value).unwrap();
        assert_eq!(first_without_end(&pack(&("cb", vec![1.5, f64::INFINITY], 7))), Some(f64::INFINITY));
        assert!(first_without_end(&pack(&("x", vec![0.5, f64::NAN], u64::MAX))).is_some_and(f64::is_nan));
        assert_eq!(first_without_end(&pack(&("\u{cb}\u{7f}ð", vec![1.5, -3.0], u64::MAX))), None);
        assert_eq!(first_without_end(&[0xcb]), None);
    }

    proptest::proptest! {
        /// Whatever is said to be kept comes out of JSON and MessagePack as it went in.
        #[test]
        fn kept_is_kept(text in "-?(0|[1-9][0-9]{0,24})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?") {
            if is_kept(&text) {
                let read: crate::Value = serde_json::from_str(&text).unwrap();
                let written = read.to_string();
                proptest::prop_assert_eq!(figures_of(&written), figures_of(&text));
                let packed = crate::codec::store(&read);
                let back: crate::Value = crate::codec::load(&packed).unwrap();
                proptest::prop_assert_eq!(back.to_string(), written);
            }
        }

        #[test]
        fn whole_numbers_and_doubles_are_kept(whole: i64, natural: u64, double: f64) {
            proptest::prop_assert!(is_kept(&whole.to_string()) && is_kept(&natural.to_string()));
            if double.is_finite() {
                proptest::prop_assert!(is_kept(&crate::Value::from(double).to_string()));
            }
        }
    }
}
