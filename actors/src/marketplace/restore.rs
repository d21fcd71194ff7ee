//! Takes an installation back, and checks that it left no trace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::apply::{Context, Fault, Steps};
use super::begun::Begun;
use super::journal::{self, FileStep, Journal, RollbackToken, remove_all, sync_dir, write_durably};
use super::targets::Allowed;
use super::tree::{self, FileState, Found};

/// Which installations were taken back. Kept outside of the targets, which must not show a trace,
/// so that an attempt to apply that was delayed on its way finds out; a few hundred bytes each.
#[derive(Debug, Clone)]
pub struct Undone {
    dir: PathBuf,
}

/// What an installation's target must look like once it was taken back.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Note {
    key: String,
    target: PathBuf,
    files: Vec<(String, Option<FileState>)>,
    gone: Vec<String>,
}

impl Undone {
    /// The notes below `dir`, which is created when it is not there.
    pub fn open(dir: impl Into<PathBuf>) -> io::Result<Self> {
        let dir = dir.into();
        fs::create_dir_all(&dir)?;
        Ok(Self { dir })
    }

    fn of_saga(&self, saga: &str) -> PathBuf {
        self.dir.join(&hex::encode(Sha256::digest(saga.as_bytes()))[..32])
    }

    fn file(&self, saga: &str, key: &str) -> PathBuf {
        self.of_saga(saga).join(format!("{}.json", journal::id(key)))
    }

    /// Whether the installation of `key` was taken back, or is about to be.
    pub fn knows(&self, saga: &str, key: &str) -> Result<bool, Fault> {
        self.file(saga, key).try_exists().map_err(Fault::io("looking whether the installation was taken back"))
    }

    /// Whether whoever took the installation back saw its journal.
    pub fn saw(&self, context: &Context) -> Result<bool, Fault> {
        let note: Option<Note> = journal::read_json(&self.file(&context.saga, &context.key))
            .map_err(Fault::io("reading what was taken back"))?;
        // A journal names at least its own record among the files.
        Ok(note.is_some_and(|note| !note.files.is_empty()))
    }

    /// Notes that the installation is taken back. What was noted before stays: it was noted when
    /// more of it stood.
    pub fn note(&self, context: &Context, target: &Path, token: Option<&RollbackToken>) -> Result<(), Fault> {
        let file = self.file(&context.saga, &context.key);
        if token.is_none() && self.knows(&context.saga, &context.key)? {
            return Ok(());
        }
        let (key, target) = (context.key.clone(), target.to_owned());
        let note = match token {
            None => Note { key, target, ..Note::default() },
            Some(token) => Note {
                key,
                target,
                files: token.files.iter().map(|step| (step.path.clone(), step.before.clone())).collect(),
                gone: token.packages.iter().map(|step| format!("{}/{}", token.vendor, step.dir)).collect(),
            },
        };
        let bytes = serde_json::to_vec(&note).map_err(|error| Fault::Refused(error.to_string()))?;
        write_durably(&file, &bytes).map_err(Fault::io("noting that the installation is taken back"))
    }

    fn notes(&self, saga: &str) -> io::Result<Vec<Note>> {
        let entries = match fs::read_dir(self.of_saga(saga)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut notes = Vec::new();
        for entry in entries {
            notes.extend(journal::read_json(&entry?.path())?);
        }
        Ok(notes)
    }
}

/// Takes back what `journal` noted, from wherever it stands. Nothing is touched unless everything
/// is as we left it.
pub fn backwards(journal: &Journal, steps: &dyn Steps, alive: &dyn Fn()) -> Result<(), Fault> {
    let reading = || Fault::io("reading the installation's journal");
    if let Some(token) = journal.token().map_err(reading())? {
        let (files, packages) = ours(journal, &token, alive)?;
        for (n, step) in files.into_iter().rev() {
            put_back(journal, n, step)?;
            steps.done(&format!("put back {}", step.path)).map_err(Fault::Interrupted)?;
        }
        let vendor = journal.target.join(&token.vendor);
        let trash = journal.dir().join("trash");
        for dir in packages.into_iter().rev() {
            alive();
            fs::create_dir_all(&trash).map_err(Fault::io("making room for what is removed"))?;
            // First out of cargo's sight in one step, and then away in many.
            fs::rename(vendor.join(&dir), trash.join(&dir)).map_err(Fault::io(format!("removing {dir}")))?;
            steps.done(&format!("took {dir}")).map_err(Fault::Interrupted)?;
            remove_all(&trash.join(&dir)).map_err(Fault::io(format!("removing {dir}")))?;
        }
        fs::rename(journal.dir(), journal.draft()).map_err(Fault::io("closing the installation's journal"))?;
        sync_dir(&journal.target).map_err(Fault::io("closing the installation's journal"))?;
        steps.done("closed").map_err(Fault::Interrupted)?;
    }
    sweep(journal, steps)
}

/// Files by step, and packages.
type Ours<'a> = (Vec<(usize, &'a FileStep)>, Vec<String>);

/// What we did and nobody changed since.
fn ours<'a>(journal: &Journal, token: &'a RollbackToken, alive: &dyn Fn()) -> Result<Ours<'a>, Fault> {
    let mut changed = Vec::new();
    let mut files = Vec::new();
    for (n, step) in token.files.iter().enumerate().filter(|(n, _)| journal.intended(*n)) {
        let found =
            tree::look(&journal.target.join(&step.path)).map_err(Fault::io(format!("looking at {}", step.path)))?;
        if found == Found::File(step.after.clone()) {
            files.push((n, step));
        } else if found != step.before.clone().map_or(Found::Nothing, Found::File) {
            changed.push(step.path.clone());
        }
    }
    let mut packages = Vec::new();
    for step in &token.packages {
        alive();
        let looking = || Fault::io(format!("looking at {}", step.dir));
        let at = journal.target.join(&token.vendor).join(&step.dir);
        let Some(noted) = journal.laid(&step.dir).map_err(looking())? else { continue };
        if tree::look(&at).map_err(looking())? == Found::Nothing {
            continue;
        }
        if tree::fingerprint(&at).map_err(looking())? == noted {
            packages.push(step.dir.clone());
        } else if journal.dir().join("stage").join(&step.dir).exists() {
            // It never left the stage: what stands there is somebody else's.
        } else {
            changed.push(format!("{}/{}", token.vendor, step.dir));
        }
    }
    if changed.is_empty() { Ok((files, packages)) } else { Err(Fault::Changed(changed.join(", "))) }
}

fn put_back(journal: &Journal, n: usize, step: &FileStep) -> Result<(), Fault> {
    let at = journal.target.join(&step.path);
    let restoring = || Fault::io(format!("restoring {}", step.path));
    let Some(before) = &step.before else {
        fs::remove_file(&at).map_err(restoring())?;
        return sync_dir(at.parent().unwrap_or(&journal.target)).map_err(restoring());
    };
    let kept = journal.version("before", n);
    if tree::look(&kept).map_err(restoring())? != Found::File(before.clone()) {
        return Err(Fault::Changed(format!("the kept version of {} is not as it was", step.path)));
    }
    fs::rename(&kept, &at).map_err(restoring())?;
    sync_dir(at.parent().unwrap_or(&journal.target)).map_err(restoring())
}

/// Removes the journal itself and the directories that were made. The token goes last, because
/// it says which those are.
fn sweep(journal: &Journal, steps: &dyn Steps) -> Result<(), Fault> {
    let draft = journal.draft();
    let sweeping = || Fault::io("removing the installation's journal");
    if !draft.exists() {
        return Ok(());
    }
    let created = journal.drafted().map_err(sweeping())?.map(|token| token.created).unwrap_or_default();
    for dir in created {
        match fs::remove_dir(journal.target.join(&dir)) {
            Ok(()) => {}
            // Somebody else has something in it; then it stays, for whoever comes last.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
            Err(source) => return Err(Fault::Io { doing: format!("removing {dir}"), source }),
        }
    }
    steps.done("removed directories").map_err(Fault::Interrupted)?;
    for entry in fs::read_dir(&draft).map_err(sweeping())? {
        let entry = entry.map_err(sweeping())?;
        if entry.file_name() == "token.json" {
            continue;
        }
        let path = entry.path();
        if path.is_dir() { remove_all(&path) } else { fs::remove_file(&path) }.map_err(sweeping())?;
    }
    steps.done("emptied the journal").map_err(Fault::Interrupted)?;
    remove_all(&draft).map_err(sweeping())?;
    sync_dir(&journal.target).map_err(sweeping())
}

/// Checks that nothing that `saga` did is left in `target`, wherever that is (H09).
pub fn clean(target: &Path, allowed: &Allowed, undone: &Undone, begun: &Begun, saga: &str) -> Result<(), Fault> {
    let found = allowed.place(target)?;
    for note in begun.all(saga, target)? {
        let here = found.as_deref().map_or(Ok(false), |found| note.is_of(found, None, false))?;
        if !here {
            return Err(begun.unseen(&note));
        }
    }
    found.map_or(Ok(()), |found| verify(&found, undone, saga, None))
}

/// Checks that nothing that `saga` did is left in `target` (H09); with `key`, only what it did
/// under that key. A saga is taken to install into a target once.
pub fn verify(target: &Path, undone: &Undone, saga: &str, key: Option<&str>) -> Result<(), Fault> {
    let asked = |other: &str| key.is_none_or(|key| key == other);
    let reading = || Fault::io("checking the target");
    let mut left = Vec::new();
    for token in journal::tokens(target).map_err(reading())? {
        if token.saga == saga && asked(&token.key) {
            left.push(format!("the installation {} still stands", token.id));
        }
    }
    let notes = undone.notes(saga).map_err(reading())?;
    for note in notes.into_iter().filter(|note| note.target == target && asked(&note.key)) {
        if Journal::of(target, &note.key).draft().exists() {
            left.push("a journal is left".to_owned());
        }
        for (path, before) in note.files {
            let found = tree::look(&target.join(&path)).map_err(reading())?;
            if found != before.map_or(Found::Nothing, Found::File) {
                left.push(format!("{path} is not as it was"));
            }
        }
        for path in note.gone {
            if tree::look(&target.join(&path)).map_err(reading())? != Found::Nothing {
                left.push(format!("{path} is left"));
            }
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Fault::Changed(left.join(", "))) }
}
