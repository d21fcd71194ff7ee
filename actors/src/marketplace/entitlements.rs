//! What each tenant may use: its licence policy, its entitlements, and the seats taken.
//!
//! One file per tenant, changed under a lock and replaced as a whole, so that several processes
//! count the same seats (D1003). A seat belongs to an idempotency key: granting again under a key
//! is the same seat, and a key that gave its seat back never gets one again, so that a grant which
//! was delayed on its way cannot leak one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use protocol::{Tenant, Time};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

/// Keys that are remembered as given back, per tenant. An installation takes one; the oldest are
/// forgotten first, long after their sagas have ended.
const RELEASED_MAX: usize = 50_000;

/// An asset that stands for all.
pub const ANY_ASSET: &str = "*";

/// The right of a tenant to use an asset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Entitlement {
    /// The asset, or [`ANY_ASSET`].
    pub asset: String,
    /// Installations at a time. `None`: any number.
    #[serde(default)]
    pub seats: Option<u32>,
    /// When it ends. `None`: never.
    #[serde(default)]
    pub expires: Option<Time>,
    /// Not to be used for now.
    #[serde(default)]
    pub suspended: bool,
}

/// Which licences a tenant accepts: SPDX identifiers, with their exceptions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Policy {
    /// As in `MIT` or `Apache-2.0 WITH LLVM-exception`.
    pub allow: Vec<String>,
    /// Whether a package without an SPDX expression is accepted.
    #[serde(default)]
    pub allow_unlicensed: bool,
}

impl Default for Policy {
    /// Licences that ask for no more than a notice.
    fn default() -> Self {
        let allow = [
            "0BSD",
            "Apache-2.0",
            "Apache-2.0 WITH LLVM-exception",
            "BSD-2-Clause",
            "BSD-3-Clause",
            "BSL-1.0",
            "CC0-1.0",
            "CDLA-Permissive-2.0",
            "ISC",
            "MIT",
            "MIT-0",
            "MPL-2.0",
            "Unicode-3.0",
            "Unicode-DFS-2016",
            "Unlicense",
            "Zlib",
        ];
        Self { allow: allow.map(str::to_owned).to_vec(), allow_unlicensed: false }
    }
}

/// A seat that is taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Seat {
    /// The asset it is used for.
    pub asset: String,
    /// The entitlement it belongs to, by that one's asset.
    pub entitlement: String,
    /// Since when.
    pub since: Time,
}

/// Why there is no seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Denied {
    /// Nobody gave the tenant a right to the asset.
    NoEntitlement,
    /// The right is suspended.
    Suspended,
    /// It ended.
    Expired(Time),
    /// All its seats are taken.
    NoSeat(u32),
    /// The key gave its seat back before.
    Released,
}

/// What one tenant has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Account {
    /// The licences it accepts; `None`: what the product accepts.
    #[serde(default)]
    pub policy: Option<Policy>,
    /// Its rights.
    #[serde(default)]
    pub entitlements: Vec<Entitlement>,
    /// Its seats, by key.
    #[serde(default)]
    pub seats: BTreeMap<String, Seat>,
    /// Keys that gave their seats back, and when.
    #[serde(default)]
    pub released: BTreeMap<String, Time>,
}

impl Account {
    /// Takes a seat for `asset` under `key`. `fallback` is the right of a tenant that has none.
    pub fn grant(&mut self, key: &str, asset: &str, now: Time, fallback: Option<&Entitlement>) -> Result<Seat, Denied> {
        if self.released.contains_key(key) {
            return Err(Denied::Released);
        }
        if let Some(seat) = self.seats.get(key) {
            return Ok(seat.clone());
        }
        let named = self.entitlements.iter().filter(|right| right.asset == asset);
        let any = self.entitlements.iter().filter(|right| right.asset == ANY_ASSET);
        let mut denied = None;
        for right in named.chain(any).chain(fallback.filter(|_| self.entitlements.is_empty())) {
            let taken = self.seats.values().filter(|seat| seat.entitlement == right.asset).count();
            let why = match (right.suspended, right.expires, right.seats) {
                (true, _, _) => Denied::Suspended,
                (false, Some(end), _) if end <= now => Denied::Expired(end),
                (false, _, Some(seats)) if taken >= seats as usize => Denied::NoSeat(seats),
                (false, _, _) => {
                    let seat = Seat { asset: asset.into(), entitlement: right.asset.clone(), since: now };
                    self.seats.insert(key.to_owned(), seat.clone());
                    return Ok(seat);
                }
            };
            denied.get_or_insert(why);
        }
        Err(denied.unwrap_or(Denied::NoEntitlement))
    }

    /// Gives the seat of `key` back, whether it has one or not.
    pub fn release(&mut self, key: &str, now: Time) {
        self.seats.remove(key);
        self.released.entry(key.to_owned()).or_insert(now);
        while self.released.len() > RELEASED_MAX {
            let Some(oldest) = self.released.iter().min_by_key(|(_, at)| **at).map(|(key, _)| key.clone()) else {
                return;
            };
            self.released.remove(&oldest);
        }
    }
}

/// The accounts of all tenants, in a directory that several processes may share.
#[derive(Debug, Clone)]
pub struct Entitlements {
    dir: PathBuf,
}

impl Entitlements {
    /// The accounts below `dir`, which is created when it is not there.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    /// The account of `tenant` as it is.
    pub fn account(&self, tenant: &Tenant) -> io::Result<Account> {
        read(&self.file(tenant))
    }

    /// Changes the account of `tenant`; nobody else changes it meanwhile. Waits for its turn,
    /// which is as long as writing a small file.
    pub fn change<T>(&self, tenant: &Tenant, change: impl FnOnce(&mut Account) -> T) -> io::Result<T> {
        let lock =
            File::options().create(true).truncate(false).write(true).open(self.dir.join(format!("{tenant}.lock")))?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive)?;
        let file = self.file(tenant);
        let mut account = read(&file)?;
        let before = account.clone();
        let answer = change(&mut account);
        if account != before {
            let mut next = tempfile::NamedTempFile::new_in(&self.dir)?;
            serde_json::to_writer_pretty(&mut next, &account)?;
            next.flush()?;
            next.as_file().sync_all()?;
            next.persist(&file).map_err(|error| error.error)?;
            File::open(&self.dir)?.sync_all()?;
        }
        Ok(answer)
    }

    fn file(&self, tenant: &Tenant) -> PathBuf {
        self.dir.join(format!("{tenant}.json"))
    }
}

fn read(file: &Path) -> io::Result<Account> {
    match fs::read(file) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| io::Error::other(format!("{} cannot be read: {error}; mend it", file.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Account::default()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    const NOW: Time = Time::from_micros(1_000_000);

    fn right(asset: &str, seats: Option<u32>) -> Entitlement {
        Entitlement { asset: asset.into(), seats, expires: None, suspended: false }
    }

    fn account(rights: Vec<Entitlement>) -> Account {
        Account { entitlements: rights, ..Account::default() }
    }

    #[test]
    fn a_denial_says_why() {
        let past = Time::from_micros(5);
        for (rights, expected) in [
            (vec![], Denied::NoEntitlement),
            (vec![right("b", None)], Denied::NoEntitlement),
            (vec![Entitlement { expires: Some(past), ..right("a", None) }], Denied::Expired(past)),
            (vec![Entitlement { suspended: true, ..right("*", None) }], Denied::Suspended),
            (vec![right("a", Some(0))], Denied::NoSeat(0)),
        ] {
            assert_eq!(account(rights).grant("k", "a", NOW, None), Err(expected));
        }
    }

    #[test]
    fn a_release_that_comes_first_keeps_the_late_grant_out() {
        let mut account = account(vec![right("*", Some(1))]);
        account.release("k", NOW);
        assert_eq!(account.grant("k", "a", NOW, None), Err(Denied::Released));
        assert!(account.grant("other", "a", NOW, None).is_ok());
    }

    #[test]
    fn processes_side_by_side_never_take_more_seats_than_there_are() {
        let dir = tempfile::tempdir().unwrap();
        let tenant = Tenant::new("acme").unwrap();
        let store = Entitlements::open(dir.path()).unwrap();
        store.change(&tenant, |account| account.entitlements.push(right("a", Some(5)))).unwrap();
        let taken: usize = std::thread::scope(|scope| {
            let one = |at: usize| {
                // Each thread opens the store anew, as another process would.
                let store = Entitlements::open(dir.path()).unwrap();
                let tenant = tenant.clone();
                let grant = move |n: usize| {
                    let key = format!("{at}/{n}");
                    store.change(&tenant, |account| account.grant(&key, "a", NOW, None)).unwrap().is_ok()
                };
                scope.spawn(move || (0..5).filter(|n| grant(*n)).count())
            };
            let threads: Vec<_> = (0..4).map(one).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(taken, 5);
        assert_eq!(store.account(&tenant).unwrap().seats.len(), 5);
    }

    proptest! {
        /// Whatever comes in whatever order: never more seats than there are, one per key, and
        /// none for a key that gave its seat back.
        #[test]
        fn seats_are_counted(steps in proptest::collection::vec((0u8..8, any::<bool>()), 0..60), seats in 0u32..4) {
            let mut account = account(vec![right("*", Some(seats))]);
            let mut gone = BTreeSet::new();
            for (key, grant) in steps {
                let key = format!("k{key}");
                if grant {
                    let had = account.seats.contains_key(&key);
                    let room = account.seats.len() < seats as usize;
                    let granted = account.grant(&key, "a", NOW, None).is_ok();
                    prop_assert_eq!(granted, !gone.contains(&key) && (had || room));
                } else {
                    account.release(&key, NOW);
                    gone.insert(key);
                }
                prop_assert!(account.seats.len() <= seats as usize);
                prop_assert!(account.seats.keys().all(|key| !gone.contains(key)));
            }
        }
    }
}
