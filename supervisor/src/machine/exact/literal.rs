//! Numbers written in the source of an expression. The engine's parser makes binary numbers of them, so
//! those that are none become numerals before it reads the source.

use jsonata_core::parser::{Lexer, Token};
use protocol::text::shortened;
use serde_json::Value;

use super::{MARK, numeral, of};

/// The longest number that is shown whole.
const SHOWN_MAX_BYTES: usize = 80;

/// The source with every number that the engine cannot hold as a numeral; `None` when there is none.
///
/// # Errors
/// When a number is not kept at all.
pub(in crate::machine) fn with_numerals(source: &str) -> Result<Option<String>, String> {
    if source.contains(MARK) {
        return Err("the character U+FDD0 stands in no text".to_owned());
    }
    let mut found = Vec::new();
    for (at, text) in literals(source) {
        if !protocol::number::is_kept(text) {
            let shown = shortened(text, SHOWN_MAX_BYTES);
            return Err(format!("the number {shown} would be rounded: write it as a text, in quotes"));
        }
        let Ok(Value::Number(number)) = serde_json::from_str(text) else { continue };
        if let Some(figures) = numeral(&of(&number)) {
            found.push((at, text, format!("\"{MARK}{figures}\"")));
        }
    }
    if found.is_empty() {
        return Ok(None);
    }
    if !told_apart(source) {
        let text = shortened(found[0].1, SHOWN_MAX_BYTES);
        return Err(format!(
            "the number {text} has more than 53 bits: give it in as data, or put the pattern of a /…/ elsewhere"
        ));
    }
    let mut out = source.to_owned();
    for (at, text, numeral) in found.into_iter().rev() {
        out.replace_range(at..at + text.len(), &numeral);
    }
    Ok(Some(out))
}

/// Whether the numbers found here are those that the engine's own reader finds.
fn told_apart(source: &str) -> bool {
    let mut lexer = Lexer::new(source.to_owned());
    let mut theirs = Vec::new();
    loop {
        match lexer.next_token() {
            Ok(Token::Number(number)) => theirs.push(number),
            Ok(Token::Eof) => break,
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    let ours: Vec<f64> = literals(source).into_iter().filter_map(|(_, text)| text.parse().ok()).collect();
    ours == theirs
}

/// Where each number stands, and its text.
fn literals(source: &str) -> Vec<(usize, &str)> {
    let bytes = source.as_bytes();
    let byte = |at: usize| bytes.get(at).copied().unwrap_or_default();
    let (mut found, mut at, mut before) = (Vec::new(), 0, b'(');
    while at < bytes.len() {
        let start = at;
        match bytes[at] {
            quote @ (b'"' | b'\'' | b'`') => {
                at += 1;
                while at < bytes.len() && bytes[at] != quote {
                    at += if bytes[at] == b'\\' && quote != b'`' { 2 } else { 1 };
                }
                at += 1;
            }
            b'/' if byte(at + 1) == b'*' => {
                at = source[at + 2..].find("*/").map_or(bytes.len(), |end| at + 2 + end + 2);
                continue;
            }
            // A pattern stands where a value may begin.
            b'/' if b"(,=<>~[{&:;?|!^+-*%/".contains(&before) => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'/' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
                while byte(at).is_ascii_alphabetic() {
                    at += 1;
                }
            }
            b'0'..=b'9' => {
                let digits = |mut at: usize| {
                    while byte(at).is_ascii_digit() {
                        at += 1;
                    }
                    at
                };
                at = if byte(at) == b'0' { at + 1 } else { digits(at) };
                if byte(at) == b'.' && byte(at + 1).is_ascii_digit() {
                    at = digits(at + 1);
                }
                if matches!(byte(at), b'e' | b'E') {
                    let sign = usize::from(matches!(byte(at + 1), b'+' | b'-'));
                    if byte(at + 1 + sign).is_ascii_digit() {
                        at = digits(at + 1 + sign);
                    }
                }
                found.push((start, &source[start..at]));
            }
            b'$' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | 0x80..=0xff => {
                while matches!(byte(at), b'$' | b'_' | b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | 0x80..=0xff) {
                    at += 1;
                }
            }
            space if space.is_ascii_whitespace() => {
                at += 1;
                continue;
            }
            _ => at += 1,
        }
        before = byte(at.min(bytes.len()).saturating_sub(1));
    }
    found
}
