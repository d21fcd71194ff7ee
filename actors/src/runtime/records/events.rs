//! What events are called.

use protocol::EventId;
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;

/// An event's id: the same for the same parts, however long they are.
pub fn event_id(kind: &str, parts: &[&str], number: u64) -> Result<EventId, Failure> {
    let mut hash = Sha256::new();
    for part in parts {
        // Lengths go in, or `a` and `bc` would be `ab` and `c`.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let id = format!("{kind}:{}:{number}", &hex::encode(hash.finalize())[..32]);
    EventId::new(id).map_err(|error| Failure::permanent("naming an event", error))
}
