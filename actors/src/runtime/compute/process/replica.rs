//! One replica, as its keeper and everybody who asks share it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::super::observed::{ObservedReplica, ReplicaState};
use super::super::set::Set;
use super::record::{Process, Record};

/// A replica.
#[derive(Debug)]
pub struct Replica {
    /// What it is one of.
    pub set: Arc<Set>,
    /// Wakes its keeper, who then looks what changed.
    pub wake: Arc<Notify>,
    /// Held while the record is changed, on disk and here.
    changing: Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    record: Record,
    state: ReplicaState,
}

impl Replica {
    /// As `record` says. It has a keeper from now on.
    pub fn new(set: Arc<Set>, record: Record) -> Arc<Self> {
        let known = Known { record, state: ReplicaState::Starting };
        Arc::new(Self { set, wake: Arc::default(), changing: Mutex::default(), known: Mutex::new(known) })
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nobody else changes its record while this is held.
    pub fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it.
    pub fn record(&self) -> Record {
        self.known().record.clone()
    }

    /// It is on the disk that it is like this.
    pub fn recorded(&self, record: Record) {
        self.known().record = record;
    }

    /// It does something else now.
    pub fn set_state(&self, state: ReplicaState) {
        self.known().state = state;
    }

    /// What others see of it.
    pub fn observed(&self) -> ObservedReplica {
        let (record, state) = {
            let known = self.known();
            (known.record.clone(), known.state)
        };
        let (pid, started_at) = match &record.process {
            Process::Started { identity, at } => (Some(identity.pid), Some(*at)),
            Process::Absent | Process::Intended => (None, None),
        };
        ObservedReplica {
            id: record.id,
            state,
            incarnation: record.incarnation,
            address: pid.map(|_| address(record.port)),
            ports: if pid.is_some() { record.ports } else { BTreeMap::new() },
            pid,
            started_at,
            restarts: record.restarts,
            failures_in_row: record.failures_in_row,
            last_exit: record.last_exit,
            said: Vec::new(),
            config_version: self.set.configuration.version.clone(),
            digest: self.set.digest.clone(),
            unlimited: record.unlimited,
        }
    }
}

/// Where a replica with `port` is reached.
pub fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
