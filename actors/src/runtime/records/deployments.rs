//! What is remembered of one deployment: what it brings, what was there before, how far it is. Every
//! activity of the saga goes on from here, whoever began it.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::{Tenant, TraceId, Value};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;

use crate::runtime::arbiter::{ServiceState, Standing};
use crate::runtime::compute::observed::{Asked, WHOLE};
use crate::runtime::compute::set::{Configuration, Limits, PROGRAM, SecretRef, Set, SetId, Variables};
use crate::runtime::model::secret::variable;
use crate::runtime::model::service::PROBES_MAX;
use crate::runtime::model::strategy::PROGRESS_DEADLINE;
use crate::runtime::model::{
    ConfigurationRef, Deployment, DeploymentId, DeploymentKind, Digest, Fault, ProbeSpec, Revision,
    RuntimeConfiguration, SecretBindingId, Strategy, TargetKind, fault, millis,
};
use crate::runtime::probing::HealthProbe;
use crate::runtime::records::place::Place;
use crate::runtime::records::secrets::reference;
use crate::runtime::rollout::RolloutState;
use crate::runtime::store::{self, RuntimeStore};

/// Name of the definition whose saga brings a revision, or the last good one back.
pub const DEFINITION: &str = "runtime_deployment";

/// What runs, besides the image and its configuration, and how it takes over.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    /// The program and its arguments; empty: the artifact itself.
    #[serde(default)]
    pub command: Vec<String>,
    /// Ports besides the one for HTTP.
    #[serde(default)]
    pub ports: Vec<String>,
    /// What one replica may take.
    #[serde(default)]
    pub limits: Limits,
    /// How replicas are asked whether they are well; absent: accepting connections is well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<HealthProbe>,
    /// How its health is watched; absent: by `probe`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeSpec>,
    /// What makes it busy; what is `eventDriven` may sleep (R087).
    #[serde(default, skip_serializing_if = "TargetKind::is_continuous")]
    pub target: TargetKind,
    /// How it takes over.
    #[serde(default)]
    pub strategy: Strategy,
    /// How long nothing may move, pauses apart (F35).
    #[serde(rename = "progressDeadlineMs", with = "millis", default = "progress_deadline")]
    pub progress_deadline: Duration,
}

const fn progress_deadline() -> Duration {
    PROGRESS_DEADLINE
}

impl Workload {
    /// Holds the sizes to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        if let Some(probe) = &self.probe {
            probe.check()?;
        }
        fault::at_most("probes", self.probes.len(), PROBES_MAX, "probes")?;
        for (number, probe) in self.probes.iter().enumerate() {
            probe.check().map_err(|fault| fault.within(format!("probes[{number}]")))?;
        }
        let deadline = u64::try_from(self.progress_deadline.as_millis()).unwrap_or(u64::MAX);
        fault::between("progressDeadlineMs", deadline, 100, 86_400_000)?;
        self.strategy.check().map_err(|fault| fault.within("strategy"))
    }
}

/// A revision with all that it takes to run it.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// The revision, as the arbiter knows it.
    pub revision: Revision,
    /// How it runs.
    pub workload: Workload,
    /// What compute calls it: the same content has the same name, so doing it again is doing nothing.
    pub set: String,
}

impl Running {
    /// Names what runs by its content.
    pub fn new(revision: Revision, workload: Workload) -> Self {
        let mut content = serde_json::json!([
            revision.image,
            revision.configuration,
            revision.secrets,
            workload.command,
            workload.ports,
            workload.limits,
        ]);
        // What was never restarted is called as by earlier releases.
        if let (1.., Some(parts)) = (revision.restarts, content.as_array_mut()) {
            parts.push(revision.restarts.into());
        }
        let hash = hex::encode(Sha256::digest(content.to_string()));
        Self { set: format!("r{}", &hash[..15]), revision, workload }
    }

    /// What compute is to run for `tenant`, with as many replicas as the revision says.
    pub async fn set(&self, store: &dyn RuntimeStore, place: &Place, tenant: &Tenant) -> Result<Set, Failure> {
        let configuration = match &self.revision.configuration {
            None => None,
            Some(at) => {
                let name = place.configuration(at);
                let read = store::read::<RuntimeConfiguration>(store, &place.space(), &name).await?;
                let Some(read) = read else {
                    let why = format!("the configuration {at} is not there; deploy with --config again");
                    return Err(Failure::named("ConfigurationMissing", why));
                };
                Some(read.value)
            }
        };
        self.set_with(configuration, place, tenant)
    }

    /// The same, where the configuration that the revision names is at hand.
    pub fn set_with(
        &self,
        configuration: Option<RuntimeConfiguration>,
        place: &Place,
        tenant: &Tenant,
    ) -> Result<Set, Failure> {
        let configuration = configuration.map_or_else(Configuration::default, |known| Configuration {
            version: known.at.to_string(),
            variables: Variables(known.entries),
        });
        let mut secrets = BTreeMap::new();
        for (binding, version) in &self.revision.secrets {
            let name = reference(&place.environment, binding)?.to_string();
            secrets.insert(variable(binding), SecretRef { name, version: *version });
        }
        let command = self.workload.command.first().cloned().unwrap_or_else(|| PROGRAM.to_owned());
        Ok(Set {
            id: self.id(place),
            tenant: tenant.to_string(),
            digest: hex_of(&self.revision.image).to_owned(),
            command,
            args: self.workload.command.iter().skip(1).cloned().collect(),
            configuration,
            secrets,
            ports: self.workload.ports.clone(),
            limits: self.workload.limits,
            replicas: self.revision.replicas,
        })
    }

    /// `revision`, with all that it takes to run it as the deployment `id` wrote that down. `None`: it is not known
    /// any more.
    pub async fn of(
        store: &dyn RuntimeStore,
        place: &Place,
        revision: &Revision,
        id: &DeploymentId,
    ) -> Result<Option<Self>, store::Error> {
        let record = store::read::<Record>(store, &place.space(), &place.deployment(id)).await?;
        Ok(record.map(|record| Self::new(revision.clone(), record.value.comes.workload)))
    }

    /// What should be seen of it while nothing is under way, where it is what `state` has as running.
    pub fn asked<'a>(&'a self, place: &'a Place, state: &ServiceState) -> Asked<'a> {
        let weight = match state.standing {
            Standing::Drained { .. } => 0,
            Standing::Open | Standing::Paused { .. } | Standing::Incident { .. } => WHOLE,
        };
        Asked { service: place.service.as_str(), revision: &self.set, replicas: state.replicas, ready: true, weight }
    }

    /// What compute calls it.
    pub fn id(&self, place: &Place) -> SetId {
        SetId::new(place.environment.as_str(), place.service.as_str(), &self.set)
    }
}

/// The hexadecimal digits of a digest.
pub fn hex_of(digest: &Digest) -> &str {
    digest.as_str().strip_prefix("sha256:").unwrap_or_else(|| digest.as_str())
}

/// Counts of the gateway, to tell what came since.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Baseline {
    /// Requests that had ended.
    pub requests: u64,
    /// Those that had failed.
    pub failures: u64,
    /// By latency.
    pub classes: Vec<u64>,
}

/// One deployment.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// What it is, and how far.
    pub deployment: Deployment,
    /// Whose.
    pub tenant: Tenant,
    /// Which saga carries it out.
    pub saga: String,
    /// What it brings; of a way back that leads nowhere, what goes.
    pub comes: Running,
    /// What ran before.
    #[serde(default)]
    pub previous: Option<Running>,
    /// It is so already, and nothing is done.
    #[serde(default)]
    pub unchanged: bool,
    /// It stops another deployment, of this number, and does nothing else.
    #[serde(default)]
    pub stops: Option<u64>,
    /// There is nothing good to go back to: all it does is to stop the traffic (H08).
    #[serde(default)]
    pub nowhere: bool,
    /// It was given up by whoever wanted it, and did not fail: nothing of it is held against it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub given_up: bool,
    /// The rollout, once it has begun.
    #[serde(default)]
    pub rollout: Option<RolloutState>,
    /// What the gateway had counted for the new set at the last measurement.
    #[serde(default)]
    pub baseline: Baseline,
    /// Whether a person said that nothing of it may move (D111).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspended: bool,
    /// How often a person said that it may go on.
    #[serde(default)]
    pub resumes: u32,
    /// How many of these it has heard.
    #[serde(default)]
    pub heard: u32,
    /// Secrets that this deployment bound the service to.
    #[serde(default)]
    pub bound: Vec<SecretBindingId>,
    /// What was asked: the saga's input, so that an incident can be replayed (R111). Its
    /// configuration is named by its version, and secrets are names anyway. Absent in records of
    /// earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<Value>,
    /// The trace of the saga.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceId>,
}

impl Record {
    /// Whether only the number of replicas changes.
    pub fn same_set(&self) -> bool {
        self.previous.as_ref().is_some_and(|previous| previous.set == self.comes.set)
    }

    /// What its rollout waits for, when that is a person; what was said to it and not heard yet lets it go on.
    pub fn waits_for(&self) -> Option<&'static str> {
        if self.is_told_to_go_on() {
            return None;
        }
        self.rollout.as_ref()?.waits_for()
    }

    /// Whether a person said that it may go on, and it has not heard that yet.
    pub const fn is_told_to_go_on(&self) -> bool {
        self.resumes > self.heard
    }

    /// Whether there is anything to roll out.
    pub fn idle(&self) -> bool {
        self.unchanged || self.stops.is_some()
    }

    /// Steps and analysis are for what could make things worse: not for the first revision, and not
    /// for the way back (D109).
    pub fn skips(&self) -> bool {
        match self.deployment.kind {
            DeploymentKind::Restore => true,
            DeploymentKind::Deploy | DeploymentKind::Remediate => self.previous.is_none(),
        }
    }
}

/// What is asked for: the saga's input, as far as the deployment is concerned.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// What is brought. Absent for a way back.
    #[serde(default)]
    pub artifact: Option<Digest>,
    /// What people call it; the beginning of the digest when absent.
    #[serde(default)]
    pub version: Option<String>,
    /// How many replicas; as many as there were, or one, when absent.
    #[serde(default)]
    pub replicas: Option<u32>,
    /// How it runs and takes over.
    #[serde(flatten)]
    pub workload: Workload,
    /// Its configuration; what it was when absent.
    #[serde(default)]
    pub configuration: Option<BTreeMap<String, String>>,
    /// Its configuration as a version that is there; counts before `configuration`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub configuration_at: Option<ConfigurationRef>,
    /// Its secrets; 0 stands for the current version.
    #[serde(default)]
    pub secrets: BTreeMap<SecretBindingId, u64>,
}
