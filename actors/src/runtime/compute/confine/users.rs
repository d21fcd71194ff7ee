//! Users of the machine that belong to environments: one each, as long as the environment is there.
//!
//! Two writings say whose a number is. The state directory's own says which it gave to whom, and
//! outlives everything. The machine's says which state directory has a number, for there can be several:
//! one file for each number, made by whoever is first. A number whose state directory is gone is free
//! again.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::super::process::proc::runs_something;
use crate::runtime::durable;

/// Where the machine's numbers stand.
pub const MACHINE: &str = "/var/lib/skald/users";

/// The numbers when no others are named: above those that people, system services and containers of
/// systemd are given, below those that no program takes for a number.
pub const RANGE: RangeInclusive<u32> = 1_900_000_000..=1_900_009_999;

/// Whose a number is, as the machine's file says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Claim {
    dir: PathBuf,
    instance: String,
    of: String,
}

/// The users of one state directory.
#[derive(Debug)]
pub struct Users {
    range: RangeInclusive<u32>,
    machine: PathBuf,
    dir: PathBuf,
    instance: String,
    given: Mutex<BTreeMap<String, u32>>,
}

impl Users {
    /// The users of the state directory `dir`, which calls itself `instance`, out of `range`; the
    /// machine's numbers stand in `machine`.
    pub fn open(dir: &Path, instance: &str, range: RangeInclusive<u32>, machine: &Path) -> io::Result<Self> {
        let given = match durable::read(&dir.join("users.json"))? {
            Some(bytes) => serde_json::from_slice(&bytes)?,
            None => BTreeMap::new(),
        };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(machine)?;
        Ok(Self {
            range,
            machine: machine.to_owned(),
            dir: dir.to_owned(),
            instance: instance.to_owned(),
            given: Mutex::new(given),
        })
    }

    /// The user of `of`: the one it has, or the next that is nobody's.
    pub fn user(&self, of: &str) -> io::Result<u32> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let _alone = durable::lock(&self.machine.join("lock"))?;
        if let Some(user) = given.get(of).copied()
            && self.range.contains(&user)
            && self.claim(user, of)?
        {
            return Ok(user);
        }
        let taken: Vec<u32> = given.values().copied().collect();
        for user in self.range.clone() {
            if !taken.contains(&user) && self.claim(user, of)? {
                let mut next = given.clone();
                next.insert(of.to_owned(), user);
                self.keep(&next)?;
                *given = next;
                return Ok(user);
            }
        }
        let (first, last) = (self.range.start(), self.range.end());
        let why = format!("no user from {first} to {last} is free; widen runtime.users, or remove environments");
        Err(io::Error::other(why))
    }

    /// Those whose name `belongs` says are gone; their users can be given to others. Nothing of theirs
    /// may be left.
    pub fn release(&self, belongs: impl Fn(&str) -> bool) -> io::Result<()> {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        let _alone = durable::lock(&self.machine.join("lock"))?;
        let (gone, next): (BTreeMap<_, _>, BTreeMap<_, _>) = given.clone().into_iter().partition(|(of, _)| belongs(of));
        if gone.is_empty() {
            return Ok(());
        }
        self.keep(&next)?;
        *given = next;
        gone.values().try_for_each(|user| durable::remove(&self.file(*user)))
    }

    fn keep(&self, given: &BTreeMap<String, u32>) -> io::Result<()> {
        durable::write(&self.dir.join("users.json"), &serde_json::to_vec_pretty(given)?)
    }

    fn file(&self, user: u32) -> PathBuf {
        self.machine.join(user.to_string())
    }

    /// Whether `user` is ours for `of` from now on.
    fn claim(&self, user: u32, of: &str) -> io::Result<bool> {
        let file = self.file(user);
        if let Some(bytes) = durable::read(&file)? {
            match serde_json::from_slice::<Claim>(&bytes) {
                // Of another name of ours: given back, and a crash kept the file.
                Ok(claim) if claim.instance == self.instance && claim.of == of => return Ok(true),
                Ok(claim) if claim.instance == self.instance => durable::remove(&file)?,
                Ok(claim) if stands(&claim) => return Ok(false),
                // Nobody has it any more, or a crash cut its writing short.
                Ok(_) | Err(_) if runs_something(user)? => return Ok(false),
                Ok(_) | Err(_) => durable::remove(&file)?,
            }
        }
        let claim = Claim { dir: self.dir.clone(), instance: self.instance.clone(), of: of.to_owned() };
        let mut made = File::options().write(true).create_new(true).open(&file)?;
        made.write_all(&serde_json::to_vec(&claim)?)?;
        made.sync_all()?;
        Ok(true)
    }
}

fn stands(claim: &Claim) -> bool {
    fs::read_to_string(claim.dir.join("instance")).is_ok_and(|instance| instance == claim.instance)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn house(root: &Path, name: &str) -> PathBuf {
        let dir = root.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("instance"), name).unwrap();
        dir
    }

    #[test]
    fn two_environments_never_have_one_user() {
        let root = tempfile::tempdir().unwrap();
        let (one, two, machine) = (house(root.path(), "one"), house(root.path(), "two"), root.path().join("machine"));
        let open = |dir: &Path| {
            let name = dir.file_name().unwrap().to_str().unwrap();
            Users::open(dir, name, 1_900_100_000..=1_900_100_002, &machine).unwrap()
        };
        let (first, second) = (open(&one), open(&two));
        let users = [first.user("dev").unwrap(), second.user("dev").unwrap(), first.user("prod").unwrap()];
        assert_eq!(users, [1_900_100_000, 1_900_100_001, 1_900_100_002], "also of two state directories");
        assert_eq!(open(&one).user("prod").unwrap(), users[2], "it is kept");
        let full = first.user("test").unwrap_err().to_string();
        assert!(full.contains("widen runtime.users"), "{full}");
        first.release(|of| of == "dev").unwrap();
        assert_eq!(second.user("test").unwrap(), users[0], "what is given back is given to others");
        // A state directory that is gone has no users.
        fs::remove_dir_all(&two).unwrap();
        assert_eq!(first.user("late").unwrap(), users[0]);
    }
}
