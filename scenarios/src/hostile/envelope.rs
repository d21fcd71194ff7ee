//! An event's envelope, from a stream that others may write to.

use protocol::codec::Format;
use protocol::envelope::{header, trace_of, traceparent};
use protocol::{Envelope, subjects};

/// An envelope is whole or refused; its headers, subject and trace follow from it.
pub fn envelope(data: &[u8]) {
    for format in [Format::Json, Format::MessagePack] {
        let Ok(envelope) = format.read::<Envelope>(data) else { continue };
        let again = format.read::<Envelope>(&format.write(&envelope));
        assert_eq!(again.expect("what was written is readable"), envelope);
        let headers = envelope.headers();
        assert!(headers.iter().any(|(name, value)| *name == header::TENANT && value == envelope.tenant_id.as_str()));
        if let Some(parent) = traceparent(&envelope.trace_id) {
            assert_eq!(parent.len(), 55);
            let lower = envelope.trace_id.as_str().to_ascii_lowercase();
            let empty = lower.bytes().all(|byte| byte == b'0');
            assert_eq!(trace_of(&parent).map(|id| id.to_string()), (!empty).then_some(lower));
        }
        let subject = subjects::event(&envelope.tenant_id, "X");
        assert_eq!(subject.split('.').nth(2), Some(envelope.tenant_id.as_str()));
    }
    if let Ok(text) = std::str::from_utf8(data)
        && let Some(trace) = trace_of(text)
    {
        assert_eq!(trace_of(&traceparent(&trace).expect("a usable id")), Some(trace));
    }
}
