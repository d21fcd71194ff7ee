//! A body in JSON, from outside.

use protocol::codec::{BODY_MAX_BYTES, DEPTH_MAX, Format};
use protocol::{Code, Value};

use super::depth;

/// What is read is bounded, and is the same when it was written and read again, in both formats.
pub fn json_body(data: &[u8]) {
    match Format::Json.read::<Value>(data) {
        Ok(value) => {
            assert!(data.len() <= BODY_MAX_BYTES && depth(&value) <= DEPTH_MAX);
            for format in [Format::Json, Format::MessagePack] {
                let written = format.write(&value);
                // Escapes make a text longer, never by more than six.
                assert!(written.len() <= data.len() * 6 + 16, "{} bytes became {}", data.len(), written.len());
                if written.len() <= BODY_MAX_BYTES {
                    assert_eq!(format.read::<Value>(&written).expect("what was written is readable"), value);
                }
            }
        }
        Err(problem) => {
            assert!(matches!(problem.code, Code::BadRequest | Code::TooLarge), "{problem:?}");
            assert_eq!(problem.code == Code::TooLarge, data.len() > BODY_MAX_BYTES);
            assert!(problem.message.len() < 1_024, "a refusal of {} bytes", problem.message.len());
        }
    }
}
