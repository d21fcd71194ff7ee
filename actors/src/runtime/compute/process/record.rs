//! What is known of a replica across restarts of Skald.

use std::collections::BTreeMap;

use protocol::Time;
use serde::{Deserialize, Serialize};

use super::super::observed::Exit;
use super::super::set::{Set, SetId};
use super::proc::Identity;

/// The process of a replica, as far as the disk knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "is")]
pub enum Process {
    /// There is none.
    Absent,
    /// One is about to be started, or was: its marker tells.
    Intended,
    /// It was started and is this one; it may have ended since.
    Started {
        /// Which.
        identity: Identity,
        /// When.
        at: Time,
    },
}

/// A replica. Written before whatever it says can be seen from outside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Its name.
    pub id: String,
    /// The set it belongs to.
    pub set: SetId,
    /// When it was first wanted: the youngest go first.
    pub created: Time,
    /// How often it was started.
    pub incarnation: u64,
    /// Its process.
    pub process: Process,
    /// Where it listens for HTTP.
    pub port: u16,
    /// Where else it listens.
    pub ports: BTreeMap<String, u16>,
    /// How often it was started after it had ended by itself.
    pub restarts: u32,
    /// Ends in a row without having run for long.
    pub failures_in_row: u32,
    /// How it last ended.
    pub last_exit: Option<Exit>,
    /// The user it runs as. `None`: as ours.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// The limits that nothing holds it to.
    pub unlimited: Vec<String>,
    /// It is not wanted any more.
    pub leaving: bool,
    /// The incarnation that should be ended and replaced.
    pub renew: Option<u64>,
}

impl Record {
    /// A replica of `set` that was never started.
    pub fn new(set: &Set, created: Time) -> Self {
        let chance = uuid::Uuid::new_v4().simple().to_string();
        Self {
            id: format!("{}-{}-{}", set.id.service, set.id.revision, &chance[..8]),
            set: set.id.clone(),
            created,
            incarnation: 0,
            process: Process::Absent,
            port: 0,
            ports: BTreeMap::new(),
            restarts: 0,
            failures_in_row: 0,
            last_exit: None,
            user: None,
            unlimited: Vec::new(),
            leaving: false,
            renew: None,
        }
    }

    /// The process, when there is one.
    pub fn identity(&self) -> Option<&Identity> {
        match &self.process {
            Process::Started { identity, .. } => Some(identity),
            Process::Absent | Process::Intended => None,
        }
    }

    /// Whether what runs should end.
    pub fn to_end(&self) -> bool {
        self.leaving || self.renew == Some(self.incarnation)
    }
}
