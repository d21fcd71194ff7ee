//! The arbiter, told as stories, as a table and by chance.

mod properties;
mod stories;
mod table;

use protocol::{Principal, Time};

use super::*;
use crate::runtime::model::{DeploymentId, Digest, RequestKey, Revision, ServiceId, Stage};

pub(super) fn at(seconds: i64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

pub(super) fn image(n: u8) -> Digest {
    Digest::new(format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
}

pub(super) fn revision(n: u8) -> Revision {
    Revision {
        deployment_id: DeploymentId::new(format!("d{n}")).unwrap(),
        image: image(n),
        version: format!("{n}.0"),
        replicas: 3,
        configuration: None,
        secrets: Default::default(),
        restarts: 0,
    }
}

pub(super) fn desired(n: u8) -> Desired {
    Desired { image: image(n), configuration: None }
}

/// An arbiter that is asked one thing after another, a second apart.
pub(super) struct Story {
    pub state: ServiceState,
    pub now: i64,
}

impl Story {
    pub fn new(stage: Stage) -> Self {
        Self { state: ServiceState::new(ServiceId::new("web").unwrap(), stage), now: 0 }
    }

    pub fn request(&self, key: &str, source: Source, command: Command) -> Request {
        Request {
            key: RequestKey::new(key).unwrap(),
            source,
            by: Principal::new("anna").unwrap(),
            asked_at: at(self.now),
            command,
        }
    }

    pub fn give(&mut self, request: &Request) -> Decision {
        let decision = decide(&self.state, request, at(self.now));
        if let Decision::Accepted { state, .. } = &decision {
            self.state = (**state).clone();
        }
        decision
    }

    pub fn ask(&mut self, source: Source, command: Command) -> Decision {
        self.now += 1;
        let request = self.request(&format!("key-{}", self.now), source, command);
        self.give(&request)
    }

    /// Asks, expects yes, and answers what is to be done.
    pub fn yes(&mut self, source: Source, command: Command) -> Vec<Act> {
        match self.ask(source, command.clone()) {
            Decision::Accepted { acts, .. } => acts,
            other => panic!("{command:?} was not accepted: {other:?}"),
        }
    }

    pub fn no(&mut self, source: Source, command: Command) -> Refusal {
        match self.ask(source, command.clone()) {
            Decision::Refused(refusal) => refusal,
            other => panic!("{command:?} was not refused: {other:?}"),
        }
    }

    pub fn end(&mut self, outcome: Outcome) -> Vec<Act> {
        let sequence = self.state.under_way.as_ref().expect("something is under way").sequence;
        self.yes(Source::Runner, Command::Finished { sequence, outcome })
    }

    pub fn deployed(&mut self, n: u8) {
        self.yes(Source::Operator, Command::Deploy { to: revision(n), anew: false });
        self.end(Outcome::Succeeded);
    }
}
