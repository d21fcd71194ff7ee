//! What is known of the environments beside their stacks.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::super::{Outputs, Plan, PreviewId, Quota, Wanted};
use crate::runtime::model::{Environment, EnvironmentId, Status};

/// All of it. One that is gone is remembered too: a preview from before its end must not make it
/// anew. Each takes some hundred bytes.
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

/// One environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// Which.
    pub environment: Environment,
    /// How much its services may take.
    pub quota: Quota,
    /// What its stack told.
    pub outputs: Outputs,
}

/// A change on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unfinished {
    /// Which.
    pub preview: PreviewId,
    /// Of which plan.
    pub plan: Plan,
}

impl Book {
    /// After `plan` was carried out.
    pub fn finish(&mut self, plan: &Plan, preview: &PreviewId, outputs: Outputs) {
        self.serial += 1;
        let present = match &plan.wanted {
            Wanted::Present { quota } => {
                let environment = Environment { status: Status::Provisioned, ..plan.environment.clone() };
                Some(Present { environment, quota: *quota, outputs })
            }
            Wanted::Absent => None,
        };
        let record = Record { revision: self.serial, present, unfinished: None, applied: Some(preview.clone()) };
        self.environments.insert(plan.environment.environment_id.clone(), record);
    }
}
