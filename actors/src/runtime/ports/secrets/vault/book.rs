//! What Vault itself does not keep of a secret. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use supervisor::activity::Failure;

use super::{Labels, SecretName, State, VERSIONS_MAX, Which};
use crate::runtime::model::RequestKey;

/// Labels, tokens and states.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Book {
    labels: Labels,
    versions: BTreeMap<u64, Entry>,
    /// Versions up to this one that are not entered are forgotten.
    #[serde(default)]
    forgotten: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    token: RequestKey,
    state: State,
}

fn gone<T>(name: &SecretName, number: u64, state: State) -> Result<T, Failure> {
    let (error, why) = match state {
        State::Retired => ("VersionRetired", "retired; reinstate it, or use another"),
        State::Destroyed | State::Active => ("VersionDestroyed", "destroyed; create another"),
    };
    Err(Failure::named(error, format!("version {number} of {name} is {why}")))
}

impl Book {
    /// Whether `number` was entered, ever.
    pub fn knows(&self, number: u64) -> bool {
        number <= self.forgotten || self.versions.contains_key(&number)
    }

    /// Enters a version that was just made: it is pending. Beyond [`VERSIONS_MAX`] destroyed ones
    /// are forgotten.
    pub fn enter(&mut self, number: u64, token: RequestKey) {
        self.versions.insert(number, Entry { token, state: State::Active });
        self.labels.pending = Some(number);
        while self.versions.len() > VERSIONS_MAX {
            let destroyed = self.versions.iter().find(|(_, entry)| entry.state == State::Destroyed);
            let Some(number) = destroyed.map(|(number, _)| *number) else { return };
            self.versions.remove(&number);
            self.forgotten = self.forgotten.max(number);
        }
    }

    /// The version that `token` made.
    pub fn made_by(&self, name: &SecretName, token: &RequestKey) -> Result<Option<u64>, Failure> {
        match self.versions.iter().find(|(_, entry)| entry.token == *token) {
            None => Ok(None),
            Some((number, Entry { state: State::Destroyed, .. })) => gone(name, *number, State::Destroyed),
            Some((number, Entry { state: State::Active | State::Retired, .. })) => Ok(Some(*number)),
        }
    }

    /// How many versions are not destroyed.
    pub fn readable(&self) -> usize {
        self.versions.values().filter(|entry| entry.state != State::Destroyed).count()
    }

    /// The number of a version that can be read.
    pub fn number(&self, name: &SecretName, which: Which) -> Result<u64, Failure> {
        let number = match which {
            Which::Number(number) => number,
            Which::Labelled(label) => self.labels.at(label).ok_or_else(|| {
                Failure::named("UnknownLabel", format!("no version of {name} is {label:?}; see its labels"))
            })?,
        };
        match self.entry(name, number)?.state {
            State::Active => Ok(number),
            state @ (State::Retired | State::Destroyed) => gone(name, number, state),
        }
    }

    /// Moves the labels.
    pub fn set_labels(&mut self, name: &SecretName, seen: Labels, wanted: Labels) -> Result<(), Failure> {
        if self.labels == wanted {
            return Ok(());
        }
        if self.labels != seen {
            let why = format!("the labels of {name} are at {:?} now; look again and decide again", self.labels);
            return Err(Failure::named("LabelsChanged", why));
        }
        for number in wanted.versions() {
            self.number(name, Which::Number(number))?;
        }
        self.labels = wanted;
        Ok(())
    }

    /// Keeps a version from being read.
    pub fn retire(&mut self, name: &SecretName, number: u64) -> Result<(), Failure> {
        match self.entry(name, number)?.state {
            State::Destroyed => gone(name, number, State::Destroyed),
            State::Active | State::Retired => self.release(name, number, State::Retired),
        }
    }

    /// Lets a version be read again.
    pub fn reinstate(&mut self, name: &SecretName, number: u64) -> Result<(), Failure> {
        match self.entry(name, number)?.state {
            State::Destroyed => gone(name, number, State::Destroyed),
            State::Active | State::Retired => {
                self.state(number, State::Active);
                Ok(())
            }
        }
    }

    /// Gives a version up for good.
    pub fn destroy(&mut self, name: &SecretName, number: u64) -> Result<(), Failure> {
        self.entry(name, number)?;
        self.release(name, number, State::Destroyed)
    }

    /// Where the labels are.
    pub fn labels(&self) -> Labels {
        self.labels
    }

    /// The versions, the oldest first.
    pub fn versions(&self) -> impl Iterator<Item = (u64, &RequestKey, State)> {
        self.versions.iter().map(|(number, entry)| (*number, &entry.token, entry.state))
    }

    fn entry(&self, name: &SecretName, number: u64) -> Result<&Entry, Failure> {
        self.versions.get(&number).ok_or_else(|| {
            Failure::named("UnknownVersion", format!("{name} has no version {number}; list its versions"))
        })
    }

    fn release(&mut self, name: &SecretName, number: u64, state: State) -> Result<(), Failure> {
        if self.labels.current == Some(number) {
            let why = format!("version {number} of {name} is current; make another one current first");
            return Err(Failure::named("StillCurrent", why));
        }
        self.labels = self.labels.without(number);
        self.state(number, state);
        Ok(())
    }

    fn state(&mut self, number: u64, state: State) {
        if let Some(entry) = self.versions.get_mut(&number) {
            entry.state = state;
        }
    }
}
