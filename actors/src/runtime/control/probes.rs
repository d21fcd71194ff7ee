//! Which probes a workload has, and where its replicas answer them.

use std::collections::BTreeMap;

use crate::runtime::compute::observed::ObservedReplica;
use crate::runtime::model::{Probe, ProbeKind, ProbeSpec};
use crate::runtime::ports::probes::Place;
use crate::runtime::records::deployments::Workload;

/// The port of a probe that names none: the replica's own for HTTP.
const ANY_PORT: u16 = 1;

/// The probes of `workload`: those that are written out, or else the one that its deployments ask,
/// as a liveness probe. None at all: who accepts connections is well.
pub fn of(workload: &Workload) -> Vec<ProbeSpec> {
    if !workload.probes.is_empty() {
        return workload.probes.clone();
    }
    let spec = workload.probe.as_ref().map(|probe| ProbeSpec {
        timeout: std::time::Duration::from_millis(probe.timeout_ms),
        ..ProbeSpec::new(ProbeKind::Liveness, Probe::Http { port: ANY_PORT, path: probe.path.clone() })
    });
    spec.into_iter().collect()
}

/// Where `replica` answers `probes`. A port that they name is the extra port of that name (`9090`),
/// and the replica's own where there is none. `None`: it answers nowhere.
pub fn place(replica: &ObservedReplica, probes: &[ProbeSpec]) -> Option<Place> {
    let address = replica.address?;
    let real = |port: u16| replica.ports.get(&port.to_string()).copied().unwrap_or(address.port());
    let named = probes.iter().filter_map(|spec| match &spec.probe {
        Probe::Http { port, .. } | Probe::Tcp { port } | Probe::Grpc { port, .. } => Some(*port),
        Probe::Command { .. } => None,
    });
    let ports: BTreeMap<u16, u16> = named.map(|port| (port, real(port))).collect();
    Some(Place { ip: address.ip(), ports, dir: None })
}
