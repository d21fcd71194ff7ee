//! What is there.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use protocol::Time;
use protocol::text::beginning;
use serde::{Deserialize, Serialize};

/// All that was found of one environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Observed {
    /// Where its services are reached. `None`: nothing was ever applied.
    pub gateway: Option<SocketAddr>,
    /// What was applied, by service and revision.
    pub sets: Vec<ObservedSet>,
    /// What runs without belonging to any set.
    pub unmanaged: Vec<Unmanaged>,
}

/// All of a service's requests, in percent.
pub const WHOLE: u32 = 100;

/// What should be seen of a service of which nothing else is under way.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The service.
    pub service: &'a str,
    /// The revision that runs.
    pub revision: &'a str,
    /// How many replicas, no more and no fewer.
    pub replicas: u32,
    /// Whether all of them must be ready.
    pub ready: bool,
    /// Percent of the service's requests.
    pub weight: u32,
}

/// What is asked and not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// For a person.
    pub why: String,
    /// Whether a replica ends again and again, so that waiting does not help.
    pub hopeless: bool,
}

impl Observed {
    /// What of `asked` is not seen; `None`: all of it is. Whoever says that something is done has asked this.
    pub fn differs(&self, asked: &Asked<'_>) -> Option<Difference> {
        let differs = |why: String| Some(Difference { why, hopeless: false });
        let Asked { service, revision, replicas: wanted, ready, weight } = *asked;
        let Some(set) = self.set(service, revision) else {
            return match (wanted, weight) {
                (0, 0) => self.elsewhere(asked),
                (_, _) => differs("its replicas are not seen yet".to_owned()),
            };
        };
        let of = |state: ReplicaState| set.replicas.iter().filter(move |replica| replica.state == state);
        let (going, all) = (of(ReplicaState::Draining).count(), set.replicas.len());
        if let Some(crashing) = set.crashing().filter(|_| ready) {
            return Some(crashing);
        }
        let there = u32::try_from(all - going).unwrap_or(u32::MAX);
        if there < wanted {
            return differs(format!("{there} of {wanted} replicas exist"));
        }
        if there > wanted {
            return differs(format!("{there} replicas exist instead of {wanted}"));
        }
        if going > 0 {
            return differs(format!("{going} replicas are still stopping"));
        }
        if ready && set.ready != wanted {
            return differs(format!("{} of {wanted} replicas are ready", set.ready));
        }
        if set.weight != weight {
            return differs(format!("it has {} % of the requests instead of {weight} %", set.weight));
        }
        self.elsewhere(asked)
    }

    /// Another revision of the service that has requests.
    fn elsewhere(&self, asked: &Asked<'_>) -> Option<Difference> {
        let mut others = self.sets.iter().filter(|set| set.service == asked.service && set.revision != asked.revision);
        let other = others.find(|set| set.weight > 0)?;
        let why = format!("{} has {} % of the requests", other.revision, other.weight);
        Some(Difference { why, hopeless: false })
    }

    /// The set of `service` at `revision`.
    pub fn set(&self, service: &str, revision: &str) -> Option<&ObservedSet> {
        self.sets.iter().find(|set| set.service == service && set.revision == revision)
    }
}

/// One set, as wanted and as found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedSet {
    /// The service.
    pub service: String,
    /// The revision.
    pub revision: String,
    /// The artifact.
    pub digest: String,
    /// The configuration's version.
    pub config_version: String,
    /// How many should run.
    pub wanted: u32,
    /// How many do and accept connections, those being drained not counted.
    pub ready: u32,
    /// Percent of the service's requests.
    pub weight: u32,
    /// Whether it is on its way out.
    pub removing: bool,
    /// Each of them, those being drained as well.
    pub replicas: Vec<ObservedReplica>,
}

impl ObservedSet {
    /// A replica that ends again and again.
    pub fn crashing(&self) -> Option<Difference> {
        let why = self.replicas.iter().find_map(ObservedReplica::crashes)?;
        Some(Difference { why, hopeless: true })
    }
}

impl ObservedReplica {
    /// Whether it ends again and again, and does not answer at the moment.
    pub fn is_crashing(&self) -> bool {
        match self.state {
            ReplicaState::CrashLoop => true,
            ReplicaState::Starting | ReplicaState::Waiting => self.failures_in_row >= CRASH_LOOP,
            ReplicaState::Ready | ReplicaState::Draining => false,
        }
    }

    /// That it does, with how it ended and what it said last, for a person.
    pub fn crashes(&self) -> Option<String> {
        if !self.is_crashing() {
            return None;
        }
        let how = self.last_exit.as_ref().map(|exit| format!(", last {}", exit.how)).unwrap_or_default();
        let said = match &self.said[..] {
            [] => "it said nothing".to_owned(),
            said => format!("it said: {}", said.join(" | ")),
        };
        Some(format!("{} ended {} times in a row{how}; {said}", self.id, self.failures_in_row))
    }
}

/// One replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ObservedReplica {
    /// Its name, unique in the environment and never used again.
    pub id: String,
    /// What it does.
    pub state: ReplicaState,
    /// How often it was started; each start is another incarnation.
    pub incarnation: u64,
    /// Where it answers. `None`: it does not run.
    pub address: Option<SocketAddr>,
    /// Its other ports, by name.
    pub ports: BTreeMap<String, u16>,
    /// Its process. `None`: it does not run.
    pub pid: Option<u32>,
    /// When this incarnation started.
    pub started_at: Option<Time>,
    /// How often it was started again after it had ended by itself.
    pub restarts: u32,
    /// Ends in a row without having run for long; three and more are a crash loop.
    pub failures_in_row: u32,
    /// How it last ended, when it ever did.
    pub last_exit: Option<Exit>,
    /// What it wrote last, where it ends again and again: at most [`SAID_LINES`] lines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub said: Vec<String>,
    /// The configuration that it runs with.
    pub config_version: String,
    /// The artifact that it runs.
    pub digest: String,
    /// The limits that nothing holds it to, by name.
    pub unlimited: Vec<String>,
}

/// Ends in a row that make a crash loop.
pub const CRASH_LOOP: u32 = 3;
/// Lines that are read of what a replica wrote before it ended.
pub const SAID_LINES: usize = 3;
/// The longest of these, in bytes; of a longer one the beginning is shown.
pub const SAID_MAX_BYTES: usize = 256;

/// The last lines of what a replica wrote, for whoever asks why it ended.
pub fn said(lines: &[String]) -> Vec<String> {
    // A program that fails in the same way says the same each time.
    let mut lines = lines.to_vec();
    lines.dedup();
    let lines = &lines[lines.len().saturating_sub(SAID_LINES)..];
    let short = |line: &String| match beginning(line, SAID_MAX_BYTES) {
        all if all.len() == line.len() => line.clone(),
        some => format!("{some}…"),
    };
    lines.iter().map(short).collect()
}

/// What a replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ReplicaState {
    /// It is being started, or runs and does not accept connections.
    Starting,
    /// It accepts connections.
    Ready,
    /// It ended and waits to be started again.
    Waiting,
    /// It ends again and again, and waits to be started again.
    CrashLoop,
    /// It gets no more requests and finishes those under way, or is being stopped.
    Draining,
}

/// How a process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// When that was noticed.
    pub at: Time,
    /// In which way.
    pub how: ExitHow,
}

/// In which way a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ExitHow {
    /// With a status.
    Status(i32),
    /// By a signal.
    Signal(i32),
    /// It is gone, and only its parent was told how.
    Unseen,
    /// It could not be started; the replica's log says why.
    NotStarted,
}

impl fmt::Display for ExitHow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "with status {status}"),
            Self::Signal(signal) => write!(f, "by signal {signal}"),
            Self::Unseen => f.write_str("while nobody looked"),
            Self::NotStarted => f.write_str("because it could not be started"),
        }
    }
}

/// What says it belongs to the environment, and belongs to none of its replicas.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unmanaged {
    /// The process, where there is one to see.
    pub pid: Option<u32>,
    /// Whose it says it is, or its own name where it has one.
    pub claims: String,
    /// Its command line.
    pub command: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replica(number: usize, state: ReplicaState) -> ObservedReplica {
        ObservedReplica {
            id: format!("web-{number}"),
            state,
            incarnation: 1,
            address: None,
            ports: BTreeMap::new(),
            pid: None,
            started_at: None,
            restarts: 0,
            failures_in_row: 3,
            last_exit: Some(Exit { at: Time::default(), how: ExitHow::Status(1) }),
            said: vec!["no such table: users".to_owned(), "giving up".to_owned()],
            config_version: String::new(),
            digest: String::new(),
            unlimited: Vec::new(),
        }
    }

    fn seen(states: &[ReplicaState], weight: u32) -> Observed {
        let replicas: Vec<_> = states.iter().enumerate().map(|(number, state)| replica(number, *state)).collect();
        let ready = replicas.iter().filter(|replica| replica.state == ReplicaState::Ready).count();
        let set = ObservedSet {
            service: "web".into(),
            revision: "r1".into(),
            digest: String::new(),
            config_version: String::new(),
            wanted: 2,
            ready: u32::try_from(ready).unwrap(),
            weight,
            removing: false,
            replicas,
        };
        Observed { sets: vec![set], ..Observed::default() }
    }

    #[test]
    fn what_is_asked_against_what_is_seen() {
        use ReplicaState::{CrashLoop, Draining, Ready, Starting, Waiting};
        let asked = Asked { service: "web", revision: "r1", replicas: 2, ready: true, weight: 100 };
        for (states, weight, differs) in [
            (&[Ready, Ready][..], 100, None),
            (&[Ready], 100, Some("1 of 2 replicas exist")),
            (&[Ready, Ready, Ready], 100, Some("3 replicas exist instead of 2")),
            (&[Ready, Ready, Draining], 100, Some("1 replicas are still stopping")),
            (
                &[Ready, CrashLoop],
                100,
                Some("web-1 ended 3 times in a row, last with status 1; it said: no such table: users | giving up"),
            ),
            (&[Ready, Ready], 0, Some("it has 0 % of the requests instead of 100 %")),
        ] {
            let found = seen(states, weight).differs(&asked);
            assert_eq!(found.as_ref().map(|found| found.why.as_str()), differs, "{states:?}");
            assert_eq!(found.is_some_and(|found| found.hopeless), states.contains(&CrashLoop), "{states:?}");
        }
        // One that is being started once more is still one that ends again and again.
        for (failures, differs) in [(2, "1 of 2 replicas are ready"), (3, "web-1 ended 3 times in a row, ")] {
            let mut starting = seen(&[Ready, Waiting], 100);
            starting.sets[0].replicas[1].failures_in_row = failures;
            let found = starting.differs(&asked).unwrap();
            assert!(found.why.starts_with(differs), "{failures}: {}", found.why);
        }
        // Whether those that stay are well is not what was asked when some should go.
        let fewer = Asked { ready: false, ..asked };
        assert_eq!(seen(&[CrashLoop, Starting], 100).differs(&fewer), None);
        let nothing = Asked { replicas: 0, weight: 0, ..asked };
        assert_eq!(Observed::default().differs(&nothing), None);
        assert!(Observed::default().differs(&Asked { weight: 100, ..nothing }).is_some());
        // Drained is what nobody reaches, by whichever revision.
        let other = seen(&[Ready, Ready], 100).differs(&Asked { revision: "r2", ..nothing }).unwrap();
        assert_eq!(other.why, "r1 has 100 % of the requests");
    }
}
