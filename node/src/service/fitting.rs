//! What the bus cannot carry is said to be too large: an answer that is not sent looks like a node that
//! is away.

use protocol::{Code, Problem};

/// Room for the headers of an answer.
const HEADERS_BYTES: usize = 4 * 1024;

/// Whether an answer of so many bytes fits into a message of `max_payload`; the refusal that is sent
/// instead where it does not.
pub(super) fn answer_fits(bytes: usize, max_payload: usize) -> Result<(), Problem> {
    let room = max_payload.saturating_sub(HEADERS_BYTES);
    if bytes <= room {
        return Ok(());
    }
    let message = format!("the answer has {bytes} bytes, and one message of the bus takes {room}");
    Err(Problem::new(Code::TooLarge, message).mend(
        "what was asked is done; to see it, ask for less (a page, a limit), or the debug endpoint of the node that \
         owns the shard (`skald owners`): /saga/TENANT/KEY and /saga/TENANT/KEY/history have no such limit; or raise \
         max_payload of every server",
    ))
}

/// The refusal of a command that cannot be passed on to the owner of its shard.
pub(super) fn command_too_large(bytes: usize, max_payload: usize) -> Problem {
    let message = format!("the command has {bytes} bytes as nodes pass it on, and one message takes {max_payload}");
    Problem::new(Code::TooLarge, message).mend("put large data into object storage and pass its address")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_says_what_to_do() {
        assert!(answer_fits(1_044_480, 1_048_576).is_ok());
        let refused = answer_fits(1_044_481, 1_048_576).unwrap_err();
        assert_eq!(refused.code, Code::TooLarge);
        assert!(refused.to_string().contains("1044481 bytes"), "{refused}");
    }
}
