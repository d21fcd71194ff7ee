//! What is known of the environments of this machine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::super::{Plan, PreviewId, Quota, Wanted};
use crate::runtime::model::{Environment, EnvironmentId, Status};

/// The most environments that are gone and remembered; a message about one that is delayed for
/// longer than a thousand removals does not come any more.
const GONE_MAX: usize = 1_000;

/// All of it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Book {
    /// Counts the changes of all of them.
    #[serde(default)]
    pub serial: u64,
    /// By name.
    #[serde(default)]
    pub environments: BTreeMap<EnvironmentId, Record>,
}

/// One environment, also when it is gone: a preview from before its end must not make it anew.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// The serial of its last change.
    #[serde(default)]
    pub revision: u64,
    /// What is there.
    #[serde(default)]
    pub present: Option<Present>,
    /// What was begun and is not known to be done.
    #[serde(default)]
    pub unfinished: Option<Unfinished>,
    /// What was applied last.
    #[serde(default)]
    pub applied: Option<PreviewId>,
}

/// An environment that is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// Which.
    pub environment: Environment,
    /// How much its services may take.
    pub quota: Quota,
    /// The port of its gateway.
    pub port: u16,
}

/// A change on its way.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfinished {
    /// Which.
    pub preview: PreviewId,
    /// The port that the environment gets. `None`: it goes.
    pub port: Option<u16>,
}

impl Book {
    /// How many are there.
    pub fn present(&self) -> usize {
        self.environments.values().filter(|record| record.present.is_some()).count()
    }

    /// The ports that are somebody's, or will be.
    pub fn ports(&self) -> BTreeSet<u16> {
        let present = self.environments.values().filter_map(|record| Some(record.present.as_ref()?.port));
        let coming = self.environments.values().filter_map(|record| record.unfinished.as_ref()?.port);
        present.chain(coming).collect()
    }

    /// After `plan` was carried out.
    pub fn finish(&mut self, plan: &Plan, preview: &PreviewId, port: Option<u16>) {
        self.serial += 1;
        let present = match (&plan.wanted, port) {
            (Wanted::Present { quota }, Some(port)) => {
                let environment = Environment { status: Status::Provisioned, ..plan.environment.clone() };
                Some(Present { environment, quota: *quota, port })
            }
            (Wanted::Present { .. } | Wanted::Absent, _) => None,
        };
        let record = Record { revision: self.serial, present, unfinished: None, applied: Some(preview.clone()) };
        self.environments.insert(plan.environment.environment_id.clone(), record);
        let gone = |record: &Record| record.present.is_none() && record.unfinished.is_none();
        while self.environments.values().filter(|record| gone(record)).count() > GONE_MAX {
            let oldest = self.environments.iter().filter(|(_, record)| gone(record));
            let Some(oldest) = oldest.min_by_key(|(_, record)| record.revision).map(|(id, _)| id.clone()) else {
                return;
            };
            self.environments.remove(&oldest);
        }
    }
}
