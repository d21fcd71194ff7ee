//! The sealed files.
//!
//! Two locks, always taken in this order: the one of the keys, shared by everybody who writes and
//! held alone by whoever changes the keys; then the one of a secret. So no secret can be sealed
//! with a key that is being forgotten.

use std::fs;
use std::path::PathBuf;

use supervisor::activity::Failure;
use zeroize::Zeroizing;

use super::super::SecretName;
use super::Settings;
use super::history::History;
use super::keyring::{KeyId, Keyring};
use super::seal::{self, Error};
use crate::runtime::durable;

/// What the files of secrets end in.
const ENDING: &str = ".sealed";

/// The files.
pub struct Shelf {
    settings: Settings,
}

fn disk(error: std::io::Error) -> Failure {
    Failure::transient("keeping secrets on the disk", error)
}

fn damaged(name: &SecretName, why: &str) -> Failure {
    Failure::named("SecretDamaged", format!("the file of {name} {why}; put it back from a backup"))
}

impl Shelf {
    /// Opens the directory; makes it and a first key when there is nothing yet.
    pub fn open(settings: Settings) -> Result<Self, Failure> {
        let shelf = Self { settings };
        let keys_in = shelf.settings.keys.parent().map(PathBuf::from);
        for dir in [Some(shelf.settings.dir.clone()), keys_in].into_iter().flatten() {
            fs::create_dir_all(&dir).map_err(disk)?;
        }
        let _alone = durable::lock(&shelf.keys_lock()).map_err(disk)?;
        if Keyring::read(&shelf.settings.keys)?.is_none() {
            if !shelf.names()?.is_empty() {
                let why = format!(
                    "there are secrets in {} and no keys in {}; put the key file back",
                    shelf.settings.dir.display(),
                    shelf.settings.keys.display()
                );
                return Err(Failure::named("KeysLost", why));
            }
            Keyring::fresh().write(&shelf.settings.keys)?;
        }
        // Nobody writes while the lock is held: what is unfinished now stays so.
        for entry in fs::read_dir(&shelf.settings.dir).map_err(disk)? {
            let entry = entry.map_err(disk)?;
            if entry.file_name().to_string_lossy().starts_with(durable::UNFINISHED) {
                fs::remove_file(entry.path()).map_err(disk)?;
            }
        }
        Ok(shelf)
    }

    fn keys_lock(&self) -> PathBuf {
        self.settings.keys.with_extension("lock")
    }

    fn file(&self, name: &SecretName, ending: &str) -> PathBuf {
        // No name has a plus in it.
        self.settings.dir.join(format!("{}{ending}", name.as_str().replace('/', "+")))
    }

    fn keys(&self) -> Result<Keyring, Failure> {
        Keyring::read(&self.settings.keys)?
            .ok_or_else(|| Failure::named("KeysLost", format!("{} is gone; put it back", self.settings.keys.display())))
    }

    /// All names, in order.
    pub fn names(&self) -> Result<Vec<SecretName>, Failure> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.settings.dir).map_err(disk)? {
            let file = entry.map_err(disk)?.file_name();
            let name = file.to_str().and_then(|file| file.strip_suffix(ENDING));
            names.extend(name.and_then(|name| SecretName::new(name.replace('+', "/")).ok()));
        }
        names.sort();
        Ok(names)
    }

    /// A secret, when it is there.
    pub fn read(&self, name: &SecretName) -> Result<Option<History>, Failure> {
        // The keys come second: those that are forgotten meanwhile are needed by no file any more,
        // but perhaps by the one in hand. Then there is a newer file to look at.
        for _ in 0..2 {
            let Some(sealed) = durable::read(&self.file(name, ENDING)).map_err(disk)? else { return Ok(None) };
            match self.opened(&self.keys()?, name, &sealed)? {
                Some(history) => return Ok(Some(history)),
                None => continue,
            }
        }
        Err(damaged(name, "is sealed with a key that is not there"))
    }

    /// A secret that should be there.
    pub fn known(&self, name: &SecretName) -> Result<History, Failure> {
        self.read(name)?.ok_or_else(|| unknown(name))
    }

    /// `None`: its key is not there.
    fn opened(&self, keys: &Keyring, name: &SecretName, sealed: &[u8]) -> Result<Option<History>, Failure> {
        let changed = |_| damaged(name, "was changed from outside");
        let Some(key) = keys.get(&seal::key_of(sealed).map_err(changed)?) else { return Ok(None) };
        match seal::open(key, name.as_str(), sealed) {
            // The parser's own error may show what it read.
            Ok(plain) => {
                serde_json::from_slice(&plain).map(Some).map_err(|_| damaged(name, "was written by another release"))
            }
            Err(Error::UnknownKey(_)) => Ok(None),
            Err(Error::Damaged) => Err(changed(Error::Damaged)),
        }
    }

    /// Changes a secret that is there.
    pub fn change<T>(
        &self,
        name: &SecretName,
        change: impl FnOnce(&mut History) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        // Without this, asking for a name that is not there would leave a lock file behind.
        self.known(name)?;
        self.changed(name, |history| change(history.as_mut().ok_or_else(|| unknown(name))?))
    }

    /// Changes a secret, which is made when it is not there.
    pub fn make_or_change<T>(
        &self,
        name: &SecretName,
        change: impl FnOnce(&mut History) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if !self.file(name, ENDING).try_exists().map_err(disk)? && self.names()?.len() >= self.settings.secrets {
            let why = format!("the store holds {} secrets, which is its limit", self.settings.secrets);
            return Err(Failure::named("TooManySecrets", why));
        }
        self.changed(name, |history| change(history.get_or_insert_default()))
    }

    fn changed<T>(
        &self,
        name: &SecretName,
        change: impl FnOnce(&mut Option<History>) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let _together = durable::lock_shared(&self.keys_lock()).map_err(disk)?;
        let _alone = durable::lock(&self.file(name, ".lock")).map_err(disk)?;
        let keys = self.keys()?;
        let mut history = self.read(name)?;
        let before = history.clone();
        let answer = change(&mut history)?;
        match history {
            Some(history) if before.as_ref() != Some(&history) => self.write(&keys, name, &history)?,
            Some(_) | None => {}
        }
        Ok(answer)
    }

    fn write(&self, keys: &Keyring, name: &SecretName, history: &History) -> Result<(), Failure> {
        let plain = serde_json::to_vec(history).map(Zeroizing::new);
        let plain = plain.map_err(|_| damaged(name, "cannot be written down"))?;
        let sealed = seal::seal(keys.current(), name.as_str(), &plain);
        durable::write(&self.file(name, ENDING), &sealed).map_err(disk)
    }

    /// Removes a secret. Its lock stays: somebody may hold it.
    pub fn remove(&self, name: &SecretName) -> Result<(), Failure> {
        let _together = durable::lock_shared(&self.keys_lock()).map_err(disk)?;
        if !self.file(name, ENDING).try_exists().map_err(disk)? {
            return Ok(());
        }
        let _alone = durable::lock(&self.file(name, ".lock")).map_err(disk)?;
        durable::remove(&self.file(name, ENDING)).map_err(disk)
    }

    /// Seals everything anew.
    pub fn rotate_key(&self) -> Result<KeyId, Failure> {
        let current = {
            let _alone = durable::lock(&self.keys_lock()).map_err(disk)?;
            let mut keys = self.keys()?;
            keys.renew()?;
            keys.write(&self.settings.keys)?;
            keys.current().id().clone()
        };
        for name in self.names()? {
            self.seal_anew(&name)?;
        }
        let _alone = durable::lock(&self.keys_lock()).map_err(disk)?;
        let mut keys = self.keys()?;
        // Somebody else may have begun another rotation: then that one forgets the keys.
        if *keys.current().id() == current {
            // Every secret made since the walk was sealed with the new key.
            keys.forget_others();
            keys.write(&self.settings.keys)?;
        }
        Ok(current)
    }

    fn seal_anew(&self, name: &SecretName) -> Result<(), Failure> {
        let _together = durable::lock_shared(&self.keys_lock()).map_err(disk)?;
        let _alone = durable::lock(&self.file(name, ".lock")).map_err(disk)?;
        let keys = self.keys()?;
        match durable::read(&self.file(name, ENDING)).map_err(disk)? {
            Some(sealed) if seal::key_of(&sealed).as_ref() != Ok(keys.current().id()) => {
                self.write(&keys, name, &self.known(name)?)
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn unknown(name: &SecretName) -> Failure {
    Failure::named("UnknownSecret", format!("there is no secret {name}; list the names, or create a version"))
}
