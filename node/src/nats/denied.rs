//! What the server refused to a connection. NATS says so on its own, without naming the request,
//! which itself would only time out.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use protocol::subjects;
use tokio::sync::Notify;

/// How many refused subjects are remembered; a connection speaks of few kinds.
const DENIED_MAX: usize = 256;

/// What was refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Act {
    Publish,
    Subscribe,
}

/// Refusals of one connection.
#[derive(Debug, Default)]
pub(crate) struct Denied {
    said: Mutex<HashMap<(Act, String), (Instant, String)>>,
    more: Notify,
}

impl Denied {
    /// Takes note of what the server said, if it is a refusal.
    pub(crate) fn note(&self, said: &str) {
        // Permissions Violation for Publish to "a.b"; … for Subscription to "a.*" using queue "q".
        let mut quoted = said.split('"');
        let (Some(kind), Some(subject)) = (quoted.next(), quoted.next()) else { return };
        let act = match kind.trim().to_ascii_lowercase() {
            kind if kind.contains("permissions violation for publish") => Act::Publish,
            kind if kind.contains("permissions violation for subscription") => Act::Subscribe,
            _ => return,
        };
        // The server speaks of what it made of a command, whoever gave it of the command.
        let given = subjects::behind_door(subject).unwrap_or_else(|| subject.to_owned());
        let said = said.replace(subject, &given);
        let mut all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (act, given);
        if all.len() < DENIED_MAX || all.contains_key(&key) {
            all.insert(key, (Instant::now(), said));
        }
        drop(all);
        self.more.notify_waiters();
    }

    /// What the server said when it refused a message to `subject` after `since`.
    pub(crate) fn publish(&self, subject: &str, since: Instant) -> Option<String> {
        self.find(|act, denied, at| act == Act::Publish && denied == subject && at >= since)
    }

    /// Waits until the server refuses a message to `subject`, or the inbox below `inbox` that the
    /// answer would come to; gives back what it said.
    pub(crate) async fn request(&self, subject: &str, inbox: &str, since: Instant) -> String {
        loop {
            let more = self.more.notified();
            tokio::pin!(more);
            // From here on no refusal is missed.
            more.as_mut().enable();
            let found = self.find(|act, denied, at| match act {
                Act::Publish => denied == subject && at >= since,
                // Made once and kept by the library, so it may have been refused long ago.
                Act::Subscribe => denied.strip_prefix(inbox).is_some_and(|rest| rest.starts_with('.')),
            });
            if let Some(said) = found {
                return said;
            }
            more.await;
        }
    }

    fn find(&self, wanted: impl Fn(Act, &str, Instant) -> bool) -> Option<String> {
        let all = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().find(|((act, subject), (at, _))| wanted(*act, subject, *at)).map(|(_, (_, said))| said.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_refusal_is_remembered_by_what_it_refuses() {
        let denied = Denied::default();
        let before = Instant::now();
        denied.note("Permissions Violation for Publish to \"skald.journal.3\"");
        denied.note("Permissions Violation for Subscription to \"_INBOX.x.*\" using queue \"q\"");
        denied.note("Permissions Violation for Publish to \"skald.door.7.evil.eve.saga.start\"");
        denied.note("Maximum Connections Exceeded");
        assert!(denied.publish("skald.journal.3", before).is_some());
        let said = denied.publish("skald.cmd.evil.eve.saga.start", before).unwrap();
        assert!(said.contains("skald.cmd.evil.eve.saga.start"), "it is told in the asker's words: {said}");
        assert!(denied.publish("skald.journal.3", Instant::now()).is_none(), "only what came since counts");
        assert!(denied.publish("_INBOX.x.*", before).is_none(), "it was no message");
        assert!(denied.request("other", "_INBOX", before).await.contains("_INBOX.x.*"));
        assert!(denied.request("skald.journal.3", "_ELSE", before).await.contains("skald.journal.3"));
        let never = denied.request("skald.journal.4", "_INBO", before);
        assert!(tokio::time::timeout(std::time::Duration::from_millis(5), never).await.is_err());
    }
}
