//! What others wrote, made fit to be seen: a name, a cause or a payload may hold characters that move
//! the cursor, change colours, answer for the keyboard, or turn the direction of what stands beside
//! them. A terminal is shown what they are instead.

use std::borrow::Cow;

use protocol::Value;

/// Whether a person could not see `c` for what it is: controls (C0, DEL, C1), separators of lines that
/// are none, marks of direction, invisible marks and tags. Joiners stay, they are part of words.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

fn replaced(text: &str, keep: impl Fn(char) -> bool, write: impl Fn(&mut String, char)) -> Cow<'_, str> {
    let hidden = |c: char| is_hidden(c) && !keep(c);
    if !text.contains(hidden) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if hidden(c) { write(&mut shown, c) } else { shown.push(c) }
    }
    Cow::Owned(shown)
}

fn named(to: &mut String, c: char) {
    to.extend(c.escape_unicode());
}

/// `text` with what cannot be seen written as `\u{1b}`; lines and tabs stay.
pub fn readable(text: &str) -> Cow<'_, str> {
    replaced(text, |c| matches!(c, '\n' | '\t'), named)
}

/// The same for a place that has one line, such as a cell of a table: what is painted stays painted.
pub(crate) fn cell(text: &str) -> Cow<'_, str> {
    let write = |to: &mut String, c: char| match c {
        '\n' => to.push('↵'),
        '\t' => to.push(' '),
        c => named(to, c),
    };
    replaced(text, |c| c == '\u{1b}', write)
}

/// Every text in `value`, readable.
pub(crate) fn readable_value(value: &mut Value) {
    match value {
        Value::String(text) => {
            if let Cow::Owned(shown) = readable(text) {
                *text = shown;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(readable_value),
        Value::Object(fields) => {
            if fields.keys().any(|name| matches!(readable(name), Cow::Owned(_))) {
                let all = std::mem::take(fields);
                fields.extend(all.into_iter().map(|(name, field)| (readable(&name).into_owned(), field)));
            }
            fields.values_mut().for_each(readable_value);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// What goes to a terminal: our own colours, and nothing else that it would not show.
pub(crate) fn screen(text: &str) -> Cow<'_, str> {
    if !text.contains('\u{1b}') {
        return readable(text);
    }
    let mut shown = String::with_capacity(text.len());
    for (at, part) in text.split('\u{1b}').enumerate() {
        match part.strip_prefix('[').and_then(|rest| rest.split_once('m')) {
            _ if at == 0 => shown.push_str(&readable(part)),
            Some((style, rest)) if style.bytes().all(|byte| byte.is_ascii_digit() || byte == b';') => {
                shown.push_str("\u{1b}[");
                shown.push_str(style);
                shown.push('m');
                shown.push_str(&readable(rest));
            }
            _ => {
                named(&mut shown, '\u{1b}');
                shown.push_str(&readable(part));
            }
        }
    }
    Cow::Owned(shown)
}

/// JSON that says the same and hides nothing: what cannot be seen is written as `\u009b`.
pub(crate) fn json(text: &str) -> Cow<'_, str> {
    let write = |to: &mut String, c: char| {
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            to.push_str(&format!("\\u{unit:04x}"));
        }
    };
    // Outside of texts there are only these, and inside them they are escaped already.
    replaced(text, |c| c == '\n', write)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOSTILE: &str = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\u{7}e\rf\u{200b}g\u{e0041}h\u{2028}i\u{1b}]0;x\u{7}";

    #[test]
    fn what_cannot_be_seen_is_named() {
        let shown = readable(HOSTILE);
        assert!(!shown.contains(is_hidden), "{shown}");
        assert!(shown.starts_with(r"a\u{1b}[2Jb\u{9b}31mc\u{202e}d\u{7}e\u{d}f"), "{shown}");
        assert_eq!(readable("Grüße, 日本, 👩‍👧\n\tok"), "Grüße, 日本, 👩‍👧\n\tok");
        assert_eq!(cell("one\ntwo"), "one↵two");
    }

    #[test]
    fn only_colours_reach_the_screen() {
        assert_eq!(screen("\u{1b}[31mred\u{1b}[0m\u{1b}[2J"), "\u{1b}[31mred\u{1b}[0m\\u{1b}[2J");
        assert_eq!(screen("x\u{1b}"), r"x\u{1b}");
        assert_eq!(screen("\u{1b}]0;title\u{7}"), r"\u{1b}]0;title\u{7}");
    }

    #[test]
    fn a_value_is_made_readable_through_and_through() {
        let mut value = serde_json::json!({ HOSTILE: [HOSTILE, { "in": HOSTILE }], "plain": 1 });
        readable_value(&mut value);
        assert!(!value.to_string().contains(is_hidden));
        assert_eq!(value["plain"], 1);
    }

    proptest! {
        #[test]
        fn json_says_the_same(text in any::<String>(), more in "[\u{80}-\u{9f}\u{202a}-\u{202e}\u{e0000}-\u{e007f}]{0,8}") {
            let value = Value::String(format!("{text}{more}{HOSTILE}"));
            let written = serde_json::to_string(&value).unwrap();
            let shown = json(&written);
            prop_assert!(!shown.contains(is_hidden));
            prop_assert_eq!(serde_json::from_str::<Value>(&shown).unwrap(), value);
        }
    }
}
