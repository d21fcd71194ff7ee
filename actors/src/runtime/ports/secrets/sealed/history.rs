//! A secret with all its versions, and what may become of them. Pure.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protocol::Time;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use supervisor::activity::Failure;
use zeroize::Zeroizing;

use super::super::{Described, Labels, Secret, SecretName, State, VERSIONS_MAX, Version, Which};
use crate::runtime::model::RequestKey;

/// All of a secret. What is sealed is this, in JSON; it has no `Debug`.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    labels: Labels,
    /// The number that was given last.
    last: u64,
    versions: Vec<Kept>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kept {
    #[serde(flatten)]
    version: Version,
    /// Gone when destroyed.
    #[serde(default, with = "text")]
    value: Option<Secret>,
}

mod text {
    //! A value in Base64: it goes into a sealed file and nowhere else.

    use super::*;

    pub fn serialize<S: Serializer>(value: &Option<Secret>, to: S) -> Result<S::Ok, S::Error> {
        let text = value.as_ref().map(|value| Zeroizing::new(STANDARD.encode(value.reveal())));
        text.as_ref().map(|text| text.as_str()).serialize(to)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Secret>, D::Error> {
        let text = Option::<String>::deserialize(from)?.map(Zeroizing::new);
        let bytes = text.map(|text| STANDARD.decode(text.as_bytes())).transpose();
        // The decoder's own error names a byte of the value.
        bytes.map(|bytes| bytes.map(Secret::new)).map_err(|_| serde::de::Error::custom("a value is not Base64"))
    }
}

fn unknown<T>(name: &SecretName, number: u64) -> Result<T, Failure> {
    Err(Failure::named("UnknownVersion", format!("{name} has no version {number}; list its versions")))
}

fn gone<T>(name: &SecretName, number: u64, state: State) -> Result<T, Failure> {
    match state {
        State::Retired => {
            let why = format!("version {number} of {name} is retired; reinstate it, or use another");
            Err(Failure::named("VersionRetired", why))
        }
        State::Destroyed | State::Active => {
            let why = format!("version {number} of {name} is destroyed; create another");
            Err(Failure::named("VersionDestroyed", why))
        }
    }
}

impl History {
    /// Adds a version, or finds the one that `token` made.
    pub fn create(&mut self, name: &SecretName, token: RequestKey, value: Secret, now: Time) -> Result<u64, Failure> {
        if let Some(made) = self.versions.iter().find(|kept| kept.version.token == token) {
            return match made.version.state {
                State::Active | State::Retired => Ok(made.version.number),
                State::Destroyed => gone(name, made.version.number, State::Destroyed),
            };
        }
        while self.versions.len() >= VERSIONS_MAX {
            match self.versions.iter().position(|kept| kept.version.state == State::Destroyed) {
                Some(oldest) => drop(self.versions.remove(oldest)),
                None => {
                    let why = format!("{name} has {VERSIONS_MAX} versions; destroy some that nobody uses");
                    return Err(Failure::named("TooManyVersions", why));
                }
            }
        }
        self.last += 1;
        let version = Version { number: self.last, token, created: now, state: State::Active };
        self.versions.push(Kept { version, value: Some(value) });
        self.labels.pending = Some(self.last);
        Ok(self.last)
    }

    /// The number and value of a version.
    pub fn value(&self, name: &SecretName, which: Which) -> Result<(u64, Secret), Failure> {
        let number = match which {
            Which::Number(number) => number,
            Which::Labelled(label) => self.labels.at(label).ok_or_else(|| {
                Failure::named("UnknownLabel", format!("no version of {name} is {label:?}; see its labels"))
            })?,
        };
        let kept = self.versions.iter().find(|kept| kept.version.number == number);
        match kept.map(|kept| (kept.version.state, &kept.value)) {
            None => unknown(name, number),
            Some((State::Active, Some(value))) => Ok((number, value.clone())),
            Some((state, _)) => gone(name, number, state),
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
            match self.versions.iter().find(|kept| kept.version.number == number).map(|kept| kept.version.state) {
                None => return unknown(name, number),
                Some(State::Active) => {}
                Some(state @ (State::Retired | State::Destroyed)) => return gone(name, number, state),
            }
        }
        self.labels = wanted;
        Ok(())
    }

    /// Keeps a version from being read.
    pub fn retire(&mut self, name: &SecretName, number: u64) -> Result<(), Failure> {
        let kept = self.releasable(name, number)?;
        match kept.version.state {
            State::Active => kept.version.state = State::Retired,
            State::Retired => {}
            State::Destroyed => return gone(name, number, State::Destroyed),
        }
        self.labels = self.labels.without(number);
        Ok(())
    }

    /// Lets a version be read again.
    pub fn reinstate(&mut self, name: &SecretName, number: u64) -> Result<(), Failure> {
        let kept = self.kept(name, number)?;
        match kept.version.state {
            State::Active => Ok(()),
            State::Retired => {
                kept.version.state = State::Active;
                Ok(())
            }
            State::Destroyed => gone(name, number, State::Destroyed),
        }
    }

    /// Removes the value of a version.
    pub fn destroy(&mut self, name: &SecretName, number: u64) -> Result<(), Failure> {
        let kept = self.releasable(name, number)?;
        kept.version.state = State::Destroyed;
        kept.value = None;
        self.labels = self.labels.without(number);
        Ok(())
    }

    /// Everything but the values.
    pub fn described(&self, name: SecretName) -> Described {
        Described {
            name,
            labels: self.labels,
            versions: self.versions.iter().map(|kept| kept.version.clone()).collect(),
        }
    }

    fn kept(&mut self, name: &SecretName, number: u64) -> Result<&mut Kept, Failure> {
        match self.versions.iter_mut().find(|kept| kept.version.number == number) {
            Some(kept) => Ok(kept),
            None => unknown(name, number),
        }
    }

    fn releasable(&mut self, name: &SecretName, number: u64) -> Result<&mut Kept, Failure> {
        if self.labels.current == Some(number) {
            let why = format!("version {number} of {name} is current; make another one current first");
            return Err(Failure::named("StillCurrent", why));
        }
        self.kept(name, number)
    }
}
