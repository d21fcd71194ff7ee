//! What is said between a worker's node and the keeper.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use actors::runtime::compute::{Log, Observed, Reading, Route, ServiceTraffic, Set, SetId};
use actors::runtime::model::scaling::Metric;
use actors::runtime::model::{EnvironmentId, ProbeSpec, ServiceId};
use actors::runtime::ports::metrics::{Query, Sample, Subject};
use actors::runtime::ports::probes::{self, Outcome, Place};
use flate2::Compression;
use flate2::read::DeflateDecoder;
use flate2::write::DeflateEncoder;
use protocol::Time;
use protocol::codec;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;

use super::environments::{EnvironmentAsk, EnvironmentTold};
use super::secrets::{SecretAsk, SecretTold};

/// The largest message once it is unpacked, in bytes: an environment of 100,000 replicas.
const UNPACKED_MAX_BYTES: u64 = 64 << 20;

/// What is asked.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Ask {
    Apply(Set),
    Observe { environment: String },
    Route { environment: String, service: String, routes: Vec<Route> },
    Remove(SetId),
    Logs { environment: String, replica: String, reading: Reading },
    Restart { environment: String, replica: String, incarnation: u64 },
    Erase { environment: String, service: String, tenant: String },
    Forget { environment: String },
    Traffic { environment: String },
    Probe { at: At, spec: ProbeSpec },
    Sample { environment: EnvironmentId, service: ServiceId, figure: Figure },
    Secret(SecretAsk),
    Environment(EnvironmentAsk),
}

impl Ask {
    /// How long an answer may take. Longer than what it takes at its slowest: an artifact that is
    /// fetched, requests that are drained.
    pub(super) fn within(&self) -> Duration {
        let seconds = match self {
            Self::Apply(_) | Self::Remove(_) | Self::Erase { .. } | Self::Forget { .. } | Self::Environment(_) => 60,
            Self::Observe { .. }
            | Self::Route { .. }
            | Self::Logs { .. }
            | Self::Restart { .. }
            | Self::Traffic { .. }
            | Self::Sample { .. }
            | Self::Secret(_) => 15,
            // With its turn, when thousands are asked at once.
            Self::Probe { spec, .. } => return spec.timeout + Duration::from_secs(20),
        };
        Duration::from_secs(seconds)
    }

    /// What it is called in an error.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Apply(_) => "apply",
            Self::Observe { .. } => "observe",
            Self::Route { .. } => "route",
            Self::Remove(_) => "remove",
            Self::Logs { .. } => "logs",
            Self::Restart { .. } => "restart",
            Self::Erase { .. } => "erase a service",
            Self::Forget { .. } => "forget an environment",
            Self::Traffic { .. } => "traffic",
            Self::Probe { .. } => "probe",
            Self::Sample { .. } => "sample",
            Self::Secret(ask) => ask.name(),
            Self::Environment(EnvironmentAsk::Preview(_)) => "preview an environment",
            Self::Environment(EnvironmentAsk::Apply { .. }) => "change an environment",
            Self::Environment(EnvironmentAsk::State(_)) => "look at an environment",
        }
    }
}

/// What is answered.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Told {
    Done,
    Observed(Observed),
    Logs(Log),
    Traffic(Vec<ServiceTraffic>),
    /// `why` is empty when it is well.
    Probed {
        why: Option<String>,
        took: Duration,
    },
    Sampled(Option<Figures>),
    Secret(SecretTold),
    Environment(EnvironmentTold),
    Failed(Failure),
}

impl Told {
    /// What it is called in an error.
    pub(super) const fn name(&self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Observed(_) => "what is there",
            Self::Logs(_) => "logs",
            Self::Traffic(_) => "traffic",
            Self::Probed { .. } => "a probe",
            Self::Sampled(_) => "a sample",
            Self::Secret(_) => "a secret",
            Self::Environment(_) => "an environment",
            Self::Failed(_) => "a failure",
        }
    }
}

/// Where a workload is.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct At {
    ip: IpAddr,
    ports: BTreeMap<u16, u16>,
    dir: Option<PathBuf>,
}

impl From<&Place> for At {
    fn from(place: &Place) -> Self {
        Self { ip: place.ip, ports: place.ports.clone(), dir: place.dir.clone() }
    }
}

impl From<At> for Place {
    fn from(at: At) -> Self {
        Self { ip: at.ip, ports: at.ports, dir: at.dir }
    }
}

/// Which figure.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) enum Figure {
    Metric(Metric),
    Named(String),
}

impl From<&Query> for Figure {
    fn from(query: &Query) -> Self {
        match query {
            Query::Metric(metric) => Self::Metric(*metric),
            Query::Named(name) => Self::Named(name.clone()),
        }
    }
}

impl From<Figure> for Query {
    fn from(figure: Figure) -> Self {
        match figure {
            Figure::Metric(metric) => Self::Metric(metric),
            Figure::Named(name) => Self::Named(name),
        }
    }
}

/// A sample.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Figures {
    value: f64,
    at: Time,
    missing: u32,
}

impl From<Sample> for Figures {
    fn from(sample: Sample) -> Self {
        Self { value: sample.value, at: sample.at, missing: sample.missing }
    }
}

impl From<Figures> for Sample {
    fn from(figures: Figures) -> Self {
        Self { value: figures.value, at: figures.at, missing: figures.missing }
    }
}

impl From<Outcome> for Told {
    fn from(outcome: Outcome) -> Self {
        let why = match outcome.answer {
            probes::Answer::Well => None,
            probes::Answer::Unwell { why } => Some(why),
        };
        Self::Probed { why, took: outcome.took }
    }
}

/// The outcome of a probe that was told like this.
pub(super) fn outcome(why: Option<String>, took: Duration) -> Outcome {
    let answer = why.map_or(probes::Answer::Well, |why| probes::Answer::Unwell { why });
    Outcome { answer, took }
}

/// Whose figures.
pub(super) const fn subject(environment: EnvironmentId, service: ServiceId) -> Subject {
    Subject { environment, service }
}

/// Packs what is said.
pub(super) fn pack<T: Serialize>(said: &T) -> Vec<u8> {
    let mut packed = DeflateEncoder::new(Vec::new(), Compression::fast());
    let written = packed.write_all(&codec::store(said)).and_then(|()| packed.finish());
    written.expect("a vector takes everything")
}

/// Unpacks what was said; `Err` says why it cannot be.
pub(super) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut plain = Vec::new();
    let read = DeflateDecoder::new(bytes).take(UNPACKED_MAX_BYTES + 1).read_to_end(&mut plain);
    match read {
        Err(error) => Err(error.to_string()),
        Ok(_) if plain.len() as u64 > UNPACKED_MAX_BYTES => Err(format!("more than {UNPACKED_MAX_BYTES} bytes")),
        Ok(_) => codec::load(&plain).map_err(|error| error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use actors::runtime::compute::observed::{ObservedReplica, ObservedSet, ReplicaState};
    use actors::runtime::model::{Probe, ProbeKind};

    use super::*;

    #[test]
    fn what_is_said_arrives_and_a_crowd_is_small() {
        let probe = ProbeSpec::new(ProbeKind::Liveness, Probe::Http { port: 80, path: "/".into() });
        let place = Place::at([127, 0, 0, 1]);
        let ask = Ask::Probe { at: At::from(&place), spec: probe };
        assert_eq!(unpack::<Ask>(&pack(&ask)), Ok(ask));
        let replica = |number: u32| ObservedReplica {
            id: format!("web-r0123456789abcde-{number:08x}"),
            state: ReplicaState::Ready,
            incarnation: 1,
            address: Some(([127, 0, 0, 1], 40_000).into()),
            ports: BTreeMap::new(),
            pid: Some(number),
            started_at: Some(Time::from_micros(1)),
            restarts: 0,
            failures_in_row: 0,
            last_exit: None,
            said: Vec::new(),
            config_version: "web@1".into(),
            digest: "a".repeat(64),
            unlimited: Vec::new(),
        };
        let set = ObservedSet {
            service: "web".into(),
            revision: "r0123456789abcde".into(),
            digest: "a".repeat(64),
            config_version: "web@1".into(),
            wanted: 10_000,
            ready: 10_000,
            weight: 100,
            removing: false,
            replicas: (0..10_000).map(replica).collect(),
        };
        let told = Told::Observed(Observed { sets: vec![set], ..Observed::default() });
        let packed = pack(&told);
        assert!(packed.len() < 512 << 10, "ten thousand replicas take {} bytes", packed.len());
        assert_eq!(unpack::<Told>(&packed), Ok(told));
    }

    #[test]
    fn what_is_no_word_is_an_error_and_a_bomb_is_not_unpacked() {
        assert!(unpack::<Told>(b"none").is_err());
        let mut bomb = DeflateEncoder::new(Vec::new(), Compression::best());
        bomb.write_all(&vec![0; 65 << 20]).unwrap();
        assert!(unpack::<Told>(&bomb.finish().unwrap()).unwrap_err().contains("more than"));
    }
}
