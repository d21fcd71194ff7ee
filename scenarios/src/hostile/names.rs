//! Names, subjects, moments and tokens, as they stand in a subject, a path or a header.

use protocol::ids::{KEY_MAX_BYTES, NAME_MAX_BYTES};
use protocol::{EventId, NodeId, Principal, SagaId, SagaKey, Tenant, Time, TraceId, subjects};
use supervisor::machine::read_token;

/// What is accepted can stand in a subject and is read back as the same; what is not says why in a
/// bounded sentence.
pub fn names(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Some(read) = subjects::parse_command(text) {
        assert_eq!(subjects::command(&read.tenant, &read.principal, &read.command), text);
        assert_eq!(read.command.split('.').count(), 2);
        assert!(text.split('.').all(|token| !token.is_empty()), "{text:?} has an empty token");
        assert!(!text.contains(|c: char| c == '*' || c == '>' || c.is_whitespace() || c.is_control()), "{text:?}");
    }
    macro_rules! check {
        ($($name:ident: $max:expr),*) => { $(
            match $name::new(text) {
                Ok(name) => {
                    assert!(name.as_str() == text && text.len() <= $max && !text.is_empty());
                    assert!(!text.contains(['*', '>', ' ', '\n', '\0']));
                    assert_eq!(name.to_string().parse::<$name>().expect("a name is its own text"), name);
                }
                Err(error) => assert!(error.to_string().len() < 1_024),
            }
        )* };
    }
    check!(Tenant: NAME_MAX_BYTES, Principal: NAME_MAX_BYTES, NodeId: NAME_MAX_BYTES);
    check!(SagaKey: KEY_MAX_BYTES, EventId: KEY_MAX_BYTES, TraceId: NAME_MAX_BYTES);
    if let Ok(saga) = text.parse::<SagaId>() {
        assert_eq!(saga.to_string(), text);
        assert!(saga.shard(7).0 < 7 && saga.shard(0).0 == 0);
    }
    if let Ok(at) = text.parse::<Time>() {
        assert_eq!(at.to_string().parse::<Time>().expect("a moment is its own text"), at);
    }
    if let Some((saga, attempt)) = read_token(text) {
        assert!(text.len() >= saga.to_string().len(), "{attempt:?}");
    }
}
