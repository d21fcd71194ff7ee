//! Bringing a published configuration to the workloads that use it (W037–W042, D501–D505).
//!
//! A burst of versions becomes one roll: the newest counts once the burst has been quiet for a moment
//! (D503). The content decides, not the number: the same content under a new number reloads nobody
//! (D502). What was published is remembered with the version, so a restart loses none (F51).

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::Time;

use crate::runtime::model::published::Sync;
use crate::runtime::model::{ConfigurationRef, Digest, Fault, RequestKey, ServiceId};

/// How long a configuration must be quiet before it is rolled out: long enough for a script that
/// changes several values one by one.
pub const QUIET: Duration = Duration::from_secs(10);
/// The longest a stream of versions may put it off.
pub const PUT_OFF_MAX: Duration = Duration::from_secs(120);

/// A workload that uses the configuration.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Which.
    pub service_id: ServiceId,
    /// The version it runs on, as seen; `None`: none yet.
    pub runs: Option<u64>,
    /// What the content of that version is.
    pub digest: Option<Digest>,
    /// Whether it wants no reloads (D501).
    pub opted_out: bool,
}

/// What follows from a look.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Look {
    /// Ask the arbiters for these, each under its key: `ApplyConfiguration`.
    pub apply: Vec<(RequestKey, ServiceId, ConfigurationRef)>,
    /// Look again then: the burst is not over.
    pub look_at: Option<Time>,
    /// Say `ConfigurationSynced` for this version: every user runs on its content. Said once.
    pub synced: Option<ConfigurationRef>,
}

/// The key of a roll (W042): configuration, service and version.
pub fn key(at: &ConfigurationRef, service: &ServiceId) -> Result<RequestKey, Fault> {
    RequestKey::new(format!("configure/{}/{service}/{}", at.configuration_id, at.version))
}

/// What to do about the users of a configuration. Asked for again until it is seen; the keys make
/// that one request each.
pub fn look(sync: &Sync, users: &[User], now: Time) -> Result<(Sync, Look), Fault> {
    let mut look = Look::default();
    let quiet_at = sync.published_at.after(QUIET).min(sync.burst_since.after(PUT_OFF_MAX));
    if now < quiet_at {
        look.look_at = Some(quiet_at);
        return Ok((sync.clone(), look));
    }
    let mut waiting = false;
    let mut seen: BTreeMap<&ServiceId, ()> = BTreeMap::new();
    for user in users.iter().filter(|user| !user.opted_out) {
        let same = user.runs == Some(sync.newest.version) || user.digest.as_ref() == Some(&sync.digest);
        // A user may run ahead: somebody published and rolled out while this look was under way.
        let ahead = user.runs.is_some_and(|runs| runs > sync.newest.version);
        if same || ahead || seen.insert(&user.service_id, ()).is_some() {
            continue;
        }
        waiting = true;
        look.apply.push((key(&sync.newest, &user.service_id)?, user.service_id.clone(), sync.newest.clone()));
    }
    let mut next = sync.clone();
    if !waiting && sync.told < sync.newest.version {
        next.told = sync.newest.version;
        look.synced = Some(sync.newest.clone());
    }
    Ok((next, look))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::model::ConfigurationId;
    use crate::runtime::model::published::published;

    fn at(seconds: u64) -> Time {
        Time::from_micros(0).after(Duration::from_secs(seconds))
    }

    fn version(version: u64) -> ConfigurationRef {
        ConfigurationRef { configuration_id: ConfigurationId::new("web").unwrap(), version }
    }

    fn digest(n: u8) -> Digest {
        Digest::new(format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
    }

    fn user(n: u8, runs: u64) -> User {
        User {
            service_id: ServiceId::new(format!("s{n}")).unwrap(),
            runs: Some(runs),
            digest: Some(digest(runs as u8)),
            opted_out: false,
        }
    }

    fn versions(look: &Look) -> Vec<(&str, u64)> {
        look.apply.iter().map(|(_, service, at)| (service.as_str(), at.version)).collect()
    }

    /// D503, F51.
    #[test]
    fn a_burst_becomes_one_roll() {
        let mut sync = published(None, &version(2), &digest(2), at(0)).unwrap();
        for n in 3..=5u64 {
            sync = published(Some(&sync), &version(n), &digest(n as u8), at(3 * n)).unwrap();
            let (same, quiet) = look(&sync, &[user(1, 1)], at(3 * n)).unwrap();
            assert_eq!((same, quiet.apply.len(), quiet.look_at), (sync.clone(), 0, Some(at(3 * n).after(QUIET))));
        }
        assert_eq!(published(Some(&sync), &version(4), &digest(4), at(16)), None, "it arrived late");
        assert_eq!(published(Some(&sync), &version(5), &digest(5), at(16)), None, "it arrived twice");
        let (_, roll) = look(&sync, &[user(1, 1), user(2, 1)], at(25)).unwrap();
        assert_eq!(versions(&roll), [("s1", 5), ("s2", 5)]);
    }

    #[test]
    fn a_stream_of_versions_does_not_put_it_off_for_ever() {
        let mut sync = published(None, &version(1), &digest(1), at(0)).unwrap();
        for n in 2..=30 {
            sync = published(Some(&sync), &version(n), &digest(n as u8), at(n * 5)).unwrap();
        }
        assert_eq!(look(&sync, &[user(1, 0)], at(150)).unwrap().1.apply.len(), 1);
    }

    /// W042, W074, D502.
    #[test]
    fn what_runs_already_is_not_rolled_and_is_said_once() {
        let sync = published(None, &version(3), &digest(3), at(0)).unwrap();
        let late = at(60);
        let (same, roll) = look(&sync, &[user(1, 2), user(2, 3)], late).unwrap();
        assert_eq!((versions(&roll), roll.synced.clone(), &same), (vec![("s1", 3)], None, &sync));
        let (told, done) = look(&sync, &[user(1, 3), user(2, 4)], late).unwrap();
        assert_eq!((versions(&done), done.synced.clone()), (vec![], Some(version(3))));
        assert_eq!(look(&told, &[user(1, 3), user(2, 4)], late).unwrap(), (told.clone(), Look::default()));
        // The same content under another number reloads nobody.
        let renamed = published(Some(&told), &version(9), &digest(3), at(100)).unwrap();
        let (_, nothing) = look(&renamed, &[user(1, 3)], at(200)).unwrap();
        assert_eq!((versions(&nothing), nothing.synced.clone()), (vec![], Some(version(9))));
    }

    /// D501.
    #[test]
    fn who_wants_no_reloads_gets_none() {
        let sync = published(None, &version(3), &digest(3), at(0)).unwrap();
        let out = User { opted_out: true, ..user(1, 1) };
        assert_eq!(look(&sync, &[out], at(60)).unwrap().1.synced, Some(version(3)));
    }
}
