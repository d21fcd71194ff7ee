//! A body in MessagePack, from outside.

use protocol::codec::{BODY_MAX_BYTES, DEPTH_MAX, Format};
use protocol::{Code, Value};

use super::depth;

/// What is read is bounded, and is the same when it was written and read again. A length that
/// promises gigabytes is an error, not an allocation.
pub fn msgpack_body(data: &[u8]) {
    match Format::MessagePack.read::<Value>(data) {
        Ok(value) => {
            assert!(data.len() <= BODY_MAX_BYTES && depth(&value) <= DEPTH_MAX);
            let written = Format::MessagePack.write(&value);
            if written.len() <= BODY_MAX_BYTES {
                let read = Format::MessagePack.read::<Value>(&written).expect("what was written is readable");
                assert_eq!(read, value);
            }
            // The same value is also speakable as JSON.
            assert!(serde_json::to_string(&value).is_ok());
        }
        Err(problem) => {
            assert!(matches!(problem.code, Code::BadRequest | Code::TooLarge), "{problem:?}");
            assert!(problem.message.len() < 1_024, "a refusal of {} bytes", problem.message.len());
        }
    }
}
