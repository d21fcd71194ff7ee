//! The promise to answer a command exactly once, also when whoever held it fails.

use protocol::{Code, Problem, Value};

/// What a command is answered with.
pub type Answer = Result<Value, Problem>;

/// An answer that is owed. Dropped unanswered, as when an actor panics or the shard steps down, it
/// answers "unavailable, try again": silence is never an answer.
pub struct Reply(To);

enum To {
    Nobody,
    /// Nobody either; what is held is dropped when the answer is given.
    Held(Box<dyn Send>),
    Channel(tokio::sync::oneshot::Sender<Answer>),
    Call(Box<dyn FnOnce(Answer) + Send>),
}

impl Reply {
    /// Owes `answer` an answer.
    pub fn new(answer: impl FnOnce(Answer) + Send + 'static) -> Self {
        Self(To::Call(Box::new(answer)))
    }

    /// Answers nobody.
    pub const fn nobody() -> Self {
        Self(To::Nobody)
    }

    /// Answers nobody, and holds `held` until it is answered: whoever sends many things of our own
    /// sees by that how many are under way.
    pub fn holding(held: impl Send + 'static) -> Self {
        Self(To::Held(Box::new(held)))
    }

    /// Whether it was made for nobody: what comes with it is our own.
    pub const fn is_nobodys(&self) -> bool {
        matches!(self.0, To::Nobody | To::Held(_))
    }

    /// A promise and the future that waits for it.
    pub fn channel() -> (Self, tokio::sync::oneshot::Receiver<Answer>) {
        let (tell, told) = tokio::sync::oneshot::channel();
        (Self(To::Channel(tell)), told)
    }

    /// Whether nobody waits any more.
    pub fn is_gone(&self) -> bool {
        match &self.0 {
            To::Nobody | To::Held(_) => true,
            To::Channel(tell) => tell.is_closed(),
            To::Call(_) => false,
        }
    }

    /// Answers.
    pub fn send(mut self, answer: Answer) {
        std::mem::replace(&mut self.0, To::Nobody).send(answer);
    }

    /// Answers with something writable.
    pub fn ok(self, what: &impl serde::Serialize) {
        self.send(serde_json::to_value(what).map_err(|error| Problem::new(Code::Internal, error.to_string())));
    }

    /// Refuses.
    pub fn refuse(self, problem: Problem) {
        self.send(Err(problem));
    }
}

impl To {
    fn send(self, answer: Answer) {
        match self {
            Self::Nobody => {}
            Self::Held(held) => drop(held),
            Self::Channel(tell) => {
                // The one who asked may have gone away.
                let _ = tell.send(answer);
            }
            Self::Call(call) => call(answer),
        }
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        std::mem::replace(&mut self.0, To::Nobody).send(Err(moved()));
    }
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_gone() { "answered" } else { "owed" })
    }
}

/// The answer of a shard that is changing hands.
pub fn moved() -> Problem {
    Problem::new(Code::Unavailable, "the shard is changing hands")
        .mend("try again; nothing accepted is lost")
        .retry_after_ms(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_promise_still_answers() {
        let (reply, mut told) = Reply::channel();
        drop(reply);
        assert_eq!(told.try_recv().unwrap().unwrap_err().code, Code::Unavailable);
    }
}
