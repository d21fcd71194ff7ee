//! Texts that come from outside are kept in records and shown to people, so they have limits.

use std::borrow::Cow;

use protocol::activity::{CAUSE_MAX_BYTES, ERROR_MAX_BYTES};
use protocol::text::{identity, shortened};

/// The longest id of a signal, in bytes. Some hundreds are remembered per saga.
pub const SIGNAL_ID_MAX_BYTES: usize = 128;

/// An error's name as it is kept and compared: Retry and Catch match it, so it is never just cut.
pub(super) fn error_name(name: &str) -> Cow<'_, str> {
    identity(name, ERROR_MAX_BYTES)
}

/// Keeps an error's name.
pub(super) fn keep_error(name: &mut String) {
    if let Cow::Owned(kept) = error_name(name) {
        *name = kept;
    }
}

/// Keeps as much of a cause or a reason as a person reads.
pub(super) fn keep_cause(cause: &mut String) {
    shorten(cause, CAUSE_MAX_BYTES);
}

/// Shortens what a person reads to `max` bytes.
pub(super) fn shorten(text: &mut String, max: usize) {
    if let Cow::Owned(short) = shortened(text, max) {
        *text = short;
    }
}
