//! Which installations may have changed their target, whoever is asked.
//!
//! A path means a directory on one machine: on another, or where the share is not mounted, the
//! same path is nothing, an empty directory, or somebody else's project. "It is not here" says
//! nothing about an installation then, unless it is known that it never began. So that is noted
//! beside the catalogue, which all nodes share, before anything changes (H09).

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::apply::{Context, Fault};
use super::journal::{self, Journal, read_json, sync_dir, write_durably};

/// The notes; a few hundred bytes for each installation that stands.
#[derive(Debug, Clone)]
pub struct Begun {
    dir: PathBuf,
    /// Names this machine to a person.
    node: String,
}

/// An installation that has begun.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Note {
    /// The target as the saga names it.
    target: PathBuf,
    /// Where it was begun.
    node: String,
    /// Whether its journal stood in the target: a directory without one is another one.
    #[serde(default)]
    planned: bool,
}

impl Begun {
    /// The notes below `dir`, which is created when it is not there; `node` is this machine.
    pub fn open(dir: impl Into<PathBuf>, node: impl Into<String>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        Ok(Self { dir, node: node.into() })
    }

    fn of_saga(&self, saga: &str) -> PathBuf {
        self.dir.join(&hex::encode(Sha256::digest(saga.as_bytes()))[..32])
    }

    fn file(&self, context: &Context) -> PathBuf {
        self.of_saga(&context.saga).join(format!("{}.json", journal::id(&context.key)))
    }

    /// What is noted of the installation.
    pub fn of(&self, context: &Context) -> Result<Option<Note>, Fault> {
        read_json(&self.file(context)).map_err(Fault::io("looking whether the installation has begun"))
    }

    /// Every note of `saga` for `target`.
    pub fn all(&self, saga: &str, target: &Path) -> Result<Vec<Note>, Fault> {
        let looking = || Fault::io("looking what the saga has begun");
        let entries = match fs::read_dir(self.of_saga(saga)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(looking()(error)),
        };
        let mut notes: Vec<Note> = Vec::new();
        for entry in entries {
            notes.extend(read_json(&entry.map_err(looking())?.path()).map_err(looking())?);
        }
        notes.retain(|note| note.target == target);
        Ok(notes)
    }

    /// Notes that the installation is about to change `target`, and says whether that is new.
    pub fn note(&self, context: &Context, target: &Path) -> Result<bool, Fault> {
        if self.of(context)?.is_some() {
            return Ok(false);
        }
        self.write(context, target, false).map(|()| true)
    }

    /// Notes that the installation's journal stands in `target`.
    pub fn planned(&self, context: &Context, target: &Path) -> Result<(), Fault> {
        match self.of(context)? {
            Some(note) if note.planned => Ok(()),
            Some(_) | None => self.write(context, target, true),
        }
    }

    fn write(&self, context: &Context, target: &Path, planned: bool) -> Result<(), Fault> {
        let note = Note { target: target.to_owned(), node: self.node.clone(), planned };
        let bytes = serde_json::to_vec(&note).map_err(|error| Fault::Refused(error.to_string()))?;
        write_durably(&self.file(context), &bytes).map_err(Fault::io("noting that the installation begins"))
    }

    /// Forgets the installation: nothing of it is left in its target.
    pub fn forget(&self, context: &Context) -> Result<(), Fault> {
        let forgetting = || Fault::io("forgetting that the installation began");
        match fs::remove_file(self.file(context)) {
            Ok(()) => sync_dir(&self.of_saga(&context.saga)).map_err(forgetting()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(forgetting()(error)),
        }
    }

    /// That what was begun elsewhere cannot be seen from here.
    pub fn unseen(&self, note: &Note) -> Fault {
        Fault::Unseen { target: note.target.clone(), here: self.node.clone(), begun_on: note.node.clone() }
    }
}

impl Note {
    /// Whether `found`, the directory that is at the target's path here, is the one that was begun
    /// in. `closed`: a restoration saw the journal, so that it may be gone by now.
    pub fn is_of(&self, found: &Path, journal: Option<&Journal>, closed: bool) -> Result<bool, Fault> {
        // Nothing begins without a manifest and no installation takes it away, so a directory
        // without one is a mount point with nothing mounted.
        if !found.join("Cargo.toml").exists() {
            return Ok(false);
        }
        let Some(journal) = journal.filter(|_| self.planned && !closed) else { return Ok(true) };
        let looking = || Fault::io("looking for the installation's journal");
        Ok(journal.token().map_err(looking())?.is_some() || journal.draft().exists())
    }
}
