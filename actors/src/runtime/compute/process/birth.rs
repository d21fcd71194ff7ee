//! How a replica gets its process, such that no crash leaves one that nobody knows.
//!
//! It is on the disk that a process will be started, then it is started with a marker that says
//! whose it is, then it is on the disk which one it is. A Skald that dies in between is followed
//! by one that finds the intention, looks for the marker, and takes the process over or starts one.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::super::observed::{Exit, ExitHow};
use super::proc::{self, Identity, Marker};
use super::record::{Process, Record};
use super::replica::Replica;
use super::secrets::Values;
use super::shared::Shared;
use super::start::{Start, free_ports, say};
use super::steps::Step;

/// What a replica's processes carry.
pub fn marker(shared: &Shared, record: &Record) -> Marker {
    Marker {
        instance: shared.store.instance().to_owned(),
        environment: record.set.environment.clone(),
        replica: record.id.clone(),
        incarnation: record.incarnation,
    }
}

/// Starts the process of `replica` with these values of its secrets. `None`: it could not be
/// started, which counts as a failure. Blocks, and is not to be left half way.
pub fn start(shared: &Shared, replica: &Replica, secrets: Result<Values, String>) -> io::Result<Option<Identity>> {
    let _changing = replica.changing();
    shared.check_open()?;
    let mut record = replica.record();
    let log = shared.store.log(&record.set.environment, &record.id);
    let secrets = match secrets {
        Ok(secrets) => secrets,
        Err(why) => {
            say(&log, &format!("{:?} is not started: {why}", replica.set.command))?;
            ended(shared, &mut record, ExitHow::NotStarted);
            put(shared, replica, &record)?;
            return Ok(None);
        }
    };
    let mut ports = free_ports(1 + replica.set.ports.len())?.into_iter();
    record.port = ports.next().unwrap_or_default();
    record.ports = replica.set.ports.iter().cloned().zip(ports).collect::<BTreeMap<_, _>>();
    record.incarnation += 1;
    record.process = Process::Intended;
    record.renew = None;
    put(shared, replica, &record)?;
    shared.steps.done(Step::Intended);
    let spawned = prepare(shared, replica, &record, &secrets).and_then(|start| {
        let pid = start.spawn(shared.launcher()?)?;
        Ok((pid, start.user, start.held.loose))
    });
    let pid = match spawned {
        Ok((pid, user, loose)) => {
            (record.user, record.unlimited) = (user, loose);
            pid
        }
        Err(error) => {
            say(&log, &format!("{:?} cannot be started: {error}", replica.set.command))?;
            ended(shared, &mut record, ExitHow::NotStarted);
            put(shared, replica, &record)?;
            return Ok(None);
        }
    };
    shared.steps.done(Step::Spawned);
    // It may have ended already; its number is its own until we reap it.
    let identity = Identity::of(pid)?.ok_or_else(|| io::Error::other(format!("process {pid} is gone unreaped")))?;
    started(shared, replica, &mut record, identity.clone())?;
    shared.steps.done(Step::Recorded);
    Ok(Some(identity))
}

fn prepare<'a>(
    shared: &'a Shared,
    replica: &'a Replica,
    record: &'a Record,
    secrets: &'a Values,
) -> io::Result<Start<'a>> {
    let (set, confinement) = (&*replica.set, &shared.confinement);
    let user = shared.user(set)?;
    let state = shared.state(set, user)?;
    Ok(Start {
        set,
        secrets,
        marker: marker(shared, record),
        artifact: shared.shelf.path(&set.digest),
        state,
        user,
        space: confinement.space,
        filter: confinement.filter,
        held: shared.limiter.hold(&record.id, &set.limits, &shared.settings, user.is_some()),
        settings: &shared.settings,
        port: record.port,
        ports: &record.ports,
        log: shared.store.log(&record.set.environment, &record.id),
    })
}

/// Looks for the process that was intended before we came, and takes it over. `None`: there is
/// none, and the record says so now.
pub fn find(shared: &Shared, replica: &Replica) -> io::Result<Option<Identity>> {
    let _changing = replica.changing();
    shared.check_open()?;
    let mut record = replica.record();
    let marker = marker(shared, &record);
    for found in proc::marked(&marker.instance)? {
        if found.first
            && found.marker == marker
            && let Some(identity) = Identity::of(found.pid)?
        {
            started(shared, replica, &mut record, identity.clone())?;
            return Ok(Some(identity));
        }
    }
    record.process = Process::Absent;
    put(shared, replica, &record)?;
    Ok(None)
}

/// Changes what is known of `replica`, on the disk first.
pub async fn change(
    shared: &Arc<Shared>,
    replica: &Arc<Replica>,
    how: impl FnOnce(&Shared, &mut Record) + Send + 'static,
) -> io::Result<()> {
    let (shared, replica) = (shared.clone(), replica.clone());
    let changing = tokio::task::spawn_blocking(move || {
        let _changing = replica.changing();
        shared.check_open()?;
        let mut record = replica.record();
        how(&shared, &mut record);
        put(&shared, &replica, &record)
    });
    changing.await.map_err(io::Error::other)?
}

/// The process of `record` ended by itself.
pub fn ended(shared: &Shared, record: &mut Record, how: ExitHow) {
    let now = shared.clock.now();
    let ran = match &record.process {
        Process::Started { at, .. } => now.since(*at),
        Process::Absent | Process::Intended => std::time::Duration::ZERO,
    };
    let before = if ran >= shared.settings.stable_after { 0 } else { record.failures_in_row };
    record.failures_in_row = before.saturating_add(1);
    record.restarts = record.restarts.saturating_add(1);
    record.last_exit = Some(Exit { at: now, how });
    record.process = Process::Absent;
}

fn started(shared: &Shared, replica: &Replica, record: &mut Record, identity: Identity) -> io::Result<()> {
    record.process = Process::Started { identity, at: shared.clock.now() };
    put(shared, replica, record)
}

fn put(shared: &Shared, replica: &Replica, record: &Record) -> io::Result<()> {
    shared.store.put_replica(record)?;
    replica.recorded(record.clone());
    Ok(())
}
