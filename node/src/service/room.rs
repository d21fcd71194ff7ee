//! Room for so many things at once, of which no tenant takes all: requests, commands, and commands
//! that wait for an outcome. Who finds it full is told which setting says so, and when to come again.

use std::sync::Arc;

use actors::permits::{Permit, Permits};
use protocol::{Code, Problem};

/// How much room there is for what, and what to say when it is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    /// What takes a place, as in "64 HTTP requests at once".
    pub what: &'static str,
    /// At once.
    pub all: usize,
    /// Those of them that may be one tenant's.
    pub each: usize,
    /// The settings that say so, of `all` and of `each`.
    pub settings: [&'static str; 2],
    /// What else one can do.
    pub mend: &'static str,
    /// When a place is likely to be free, in milliseconds.
    pub again_ms: u64,
}

/// The room, with who is in it.
#[derive(Debug)]
pub struct Room {
    size: Size,
    permits: Arc<Permits>,
}

impl Room {
    /// An empty room.
    pub fn new(size: Size) -> Self {
        Self { size, permits: Arc::default() }
    }

    /// Takes a place for `tenant`.
    pub fn enter(&self, tenant: &str) -> Result<Permit, Problem> {
        let Size { what, all, each, settings, mend, again_ms } = self.size;
        let full = |who: &str, most: usize, setting: &str| {
            let message = format!("{who} may have {most} {what} at once ({setting}), and has them");
            Err(Problem::new(Code::Busy, message).mend(mend).retry_after_ms(again_ms))
        };
        self.permits.acquire(tenant, |own, taken| {
            if own >= each {
                return full(&format!("tenant {tenant} on this node"), each, settings[1]);
            }
            if taken >= all {
                return full("this node", all, settings[0]);
            }
            Ok(())
        })
    }

    /// Whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.permits.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_tenant_does_not_take_all_the_room() {
        let settings = ["limits.waits_in_flight", "limits.waits_per_tenant"];
        let size = Size { what: "waits", all: 3, each: 2, settings, mend: "wait less", again_ms: 7 };
        let room = Room::new(size);
        let first = room.enter("acme").unwrap();
        let second = room.enter("acme").unwrap();
        let refused = room.enter("acme").unwrap_err();
        assert_eq!((refused.code, refused.retry_after_ms), (Code::Busy, Some(7)));
        assert!(refused.message.contains("acme") && refused.message.contains("limits.waits_per_tenant"), "{refused:?}");
        let third = room.enter("other").unwrap();
        assert!(room.enter("other").unwrap_err().message.contains("limits.waits_in_flight"));
        drop(first);
        let fourth = room.enter("acme").unwrap();
        drop((second, third, fourth));
        assert!(room.is_empty());
    }
}
