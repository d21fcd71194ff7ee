//! The effect ledger: a directory outside Skald into which activities write what they really did.
//! It is what a checker compares the journal with.
//!
//! An effect is a file, linked into place whole: the file system decides who was first, and a
//! process that is killed half way has either done it or not. Attempts are lines of one file.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// One attempt, or one effect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Effect {
    /// The idempotency key of the step.
    pub key: String,
    /// `run` or `undo`.
    pub direction: String,
    /// What the step is called in the story.
    pub step: String,
    /// The saga.
    pub saga: String,
    /// Which attempt.
    pub attempt: u32,
    /// The process that did it.
    pub pid: u32,
    /// When, in microseconds since 1970; one machine, so one clock for all processes.
    pub at_us: i64,
}

impl Effect {
    /// Its place in a story, as in `undo One`.
    pub fn told(&self) -> String {
        format!("{} {}", self.direction, self.step)
    }
}

/// A ledger in a directory.
#[derive(Clone, Debug)]
pub struct Ledger {
    dir: PathBuf,
}

impl Ledger {
    /// The ledger in `dir`.
    pub fn open(dir: &Path) -> std::io::Result<Self> {
        std::fs::create_dir_all(dir.join("effects"))?;
        std::fs::create_dir_all(dir.join("drafts"))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// Notes that an attempt began.
    pub fn attempt(&self, effect: &Effect) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(&Effect { at_us: now_us(), ..effect.clone() })?;
        line.push(b'\n');
        let mut attempts = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("attempts"))?;
        attempts.write_all(&line)
    }

    /// Does the effect unless it was done before under its key. Answers whether it was done now.
    pub fn act(&self, effect: &Effect) -> std::io::Result<bool> {
        let name = format!("{}.{}", effect.key.replace('/', "~"), effect.direction);
        let draft = self.dir.join("drafts").join(format!("{name}.{}.{}", effect.pid, now_us()));
        std::fs::write(&draft, serde_json::to_vec(&Effect { at_us: now_us(), ..effect.clone() })?)?;
        let linked = std::fs::hard_link(&draft, self.dir.join("effects").join(name));
        std::fs::remove_file(&draft)?;
        match linked {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Everything that was done, in order.
    pub fn done(&self) -> std::io::Result<Vec<Effect>> {
        let mut done = Vec::new();
        for entry in std::fs::read_dir(self.dir.join("effects"))? {
            done.push(serde_json::from_slice::<Effect>(&std::fs::read(entry?.path())?)?);
        }
        done.sort_by(|a, b| (a.at_us, &a.key).cmp(&(b.at_us, &b.key)));
        Ok(done)
    }

    /// What was done for one saga, in order: `run One`, `undo One`.
    pub fn told(&self, saga: &str) -> Vec<String> {
        let done = self.done().expect("the ledger can be read");
        done.iter().filter(|effect| effect.saga == saga).map(Effect::told).collect()
    }

    /// Everything that was tried, in order.
    pub fn attempts(&self) -> std::io::Result<Vec<Effect>> {
        match std::fs::read_to_string(self.dir.join("attempts")) {
            // A line that a killed process did not finish was no attempt yet.
            Ok(text) => Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
