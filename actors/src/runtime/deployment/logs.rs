//! `services.logs`: what the replicas of a service wrote, for people. Changes nothing.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::desk::Desk;
use crate::runtime::compute::{Log, Reading};
use crate::runtime::model::{EnvironmentId, ServiceId};

/// Lines of each replica that are read when nobody says how many.
const LINES: usize = 100;
/// The most bytes of one answer: it is one message of the bus, in which a byte may take six.
const BYTES_MAX: usize = 128 << 10;

/// What is read.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// Where.
    pub environment: EnvironmentId,
    /// What.
    pub service: ServiceId,
    /// Only of this replica.
    #[serde(default)]
    pub replica: Option<String>,
    /// The last lines of each.
    #[serde(default)]
    pub lines: Option<u32>,
    /// Of each of these only what came after.
    #[serde(default)]
    pub after: BTreeMap<String, String>,
}

/// What they wrote, by replica.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// By replica.
    pub replicas: BTreeMap<String, Log>,
}

/// The activity.
pub struct Logs {
    /// What it works with.
    pub desk: Desk,
}

#[async_trait]
impl Typed for Logs {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "services.logs";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let body = serde_json::to_value(&input).unwrap_or_default();
        let entered = self.desk.enter(attempt, Self::NAME, &input.environment, &input.service, body).await?;
        let (compute, place) = (&self.desk.ports.compute, &entered.place);
        let (environment, service) = (place.environment.as_str(), place.service.as_str());
        let observed = compute.observe(environment).await?;
        let sets = observed.sets.into_iter().filter(|set| set.service == service);
        let all = sets.flat_map(|set| set.replicas).map(|replica| replica.id);
        let names: Vec<String> = all.filter(|id| input.replica.as_ref().is_none_or(|only| only == id)).collect();
        if let Some(only) = input.replica.filter(|_| names.is_empty()) {
            let why =
                format!("{place} has no replica {only}; `skald logs {service} --environment {environment}` names them");
            return Err(Failure::named("UnknownReplica", why));
        }
        // One that went while it is followed has perhaps said something since.
        let gone = input.after.keys().filter(|name| is_replica_of(service, name) && !names.contains(*name));
        let names: Vec<String> = gone.cloned().chain(names.iter().cloned()).collect();
        let bytes = BYTES_MAX / names.len().max(1);
        let lines = input.lines.map_or(LINES, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
        let mut replicas = BTreeMap::new();
        for name in names {
            let reading = Reading { lines, bytes, after: input.after.get(&name).cloned() };
            match compute.logs(environment, &name, &reading).await {
                Ok(log) => drop(replicas.insert(name, log)),
                // It went meanwhile.
                Err(gone) if gone.error == "UnknownReplica" => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Output { replicas })
    }
}

/// Whether a replica goes by the name of `service`, which whoever follows its log only claims: service, revision and
/// eight digits, as `process` names them. No service's name makes it another's.
fn is_replica_of(service: &str, name: &str) -> bool {
    let rest = name.strip_prefix(service).and_then(|rest| rest.strip_prefix("-r"));
    let parts = rest.and_then(|rest| rest.split_once('-'));
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    parts.is_some_and(|(revision, number)| digits(revision, 15) && digits(number, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_reads_another_services_log_by_claiming_a_name() {
        let name = "web-r8e8a52fdca26bed-2be5028b";
        assert!(is_replica_of("web", name));
        for (service, name) in [
            ("web", "web-r8e8a52fdca26bed-r8e8a52fdca26bed-2be5028b"),
            ("web", "web-api-r8e8a52fdca26bed-2be5028b"),
            ("we", name),
            ("web", "web-r8e8a52fdca26bed-2be5028b/../x"),
            ("web", ""),
        ] {
            assert!(!is_replica_of(service, name), "{service} {name}");
        }
    }
}
