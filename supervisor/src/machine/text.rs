//! Texts that come from outside are kept in records and shown to people, so they have limits.

/// The longest name of an error, in bytes: the same figure as the language's best-known service.
pub const ERROR_MAX_BYTES: usize = 256;
/// The longest cause or reason that is kept, in bytes: the head of a stack trace. It stands in
/// records, in the state, and in every list of what went wrong.
pub const CAUSE_MAX_BYTES: usize = 4 * 1024;
/// The longest id of a signal, in bytes. Some hundreds are remembered per saga.
pub const SIGNAL_ID_MAX_BYTES: usize = 128;

/// Cuts `text` to at most `max` bytes, which leave room for the mark that says so.
pub(super) fn cut(text: &mut String, max: usize) {
    if text.len() <= max {
        return;
    }
    let mark = format!("… ({} bytes in all)", text.len());
    let mut end = max.saturating_sub(mark.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text.push_str(&mark);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_text_is_cut_between_letters_and_says_so() {
        let mut text = "é".repeat(50);
        cut(&mut text, 40);
        assert_eq!(text, format!("{}… (100 bytes in all)", "é".repeat(9)));
        let mut short = "é".repeat(20);
        cut(&mut short, 40);
        assert_eq!(short, "é".repeat(20));
    }
}
