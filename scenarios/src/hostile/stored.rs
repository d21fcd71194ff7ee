//! Stored bytes, possibly damaged.

use protocol::Value;
use protocol::codec::{self, FORMAT_MESSAGEPACK, FORMAT_PACKED};
use protocol::command::Routed;
use supervisor::tree::recovery::Mark;

/// Damage is an error; what is readable is the same when it was stored and loaded again.
pub fn stored(data: &[u8]) {
    if let Ok(value) = codec::load::<Value>(data) {
        let again = codec::store(&value);
        assert_eq!(codec::load::<Value>(&again).expect("what was stored is loadable"), value);
        let packed = codec::store_packed(&value);
        assert_eq!(codec::load::<Value>(&packed).expect("what was packed is loadable"), value);
    }
    if let Ok(mark) = codec::load::<Mark>(data) {
        assert_eq!(codec::load::<Mark>(&codec::store(&mark)).expect("what was stored is loadable"), mark);
    }
    if let Ok(routed) = codec::load::<Routed>(data) {
        assert!(data[0] == FORMAT_PACKED || routed.body.len() <= data.len());
        assert_eq!(codec::load::<Routed>(&codec::store(&routed)).expect("what was stored is loadable"), routed);
    }
    if ![Some(&FORMAT_MESSAGEPACK), Some(&FORMAT_PACKED)].contains(&data.first()) {
        assert!(codec::load::<Value>(data).is_err(), "an unknown format was read");
    }
}
