//! The effect ledger: a directory outside Skald into which activities write what they really did.
//! It is what a checker compares the journal with.
//!
//! An effect is a symbolic link whose target is its text: the file system makes it whole or not at
//! all and decides who was first, so a process that is killed half way has either done it or not.
//! That is one call of 40 µs for each effect, half of what writing a file and linking it into place
//! costs. Attempts are lines of one file.

use std::io::Write;
use std::path::{Path, PathBuf};

use protocol::Time;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::check::{Direction, Entry, Phase};

/// One attempt, or one effect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Effect {
    /// The idempotency key of the step.
    pub key: String,
    /// `run` or `undo`.
    pub direction: String,
    /// What the step is called in the story.
    pub step: String,
    /// Where it stands in its definition, as the key tells: `All[2].Item`.
    #[serde(default)]
    pub path: String,
    /// The saga.
    pub saga: String,
    /// Which attempt.
    pub attempt: u32,
    /// The process that did it.
    pub pid: u32,
    /// When, in microseconds since 1970; one machine, so one clock for all processes, also for one
    /// that is made to believe in another.
    pub at_us: i64,
}

impl Effect {
    /// Its place in a story, as in `undo One`.
    pub fn told(&self) -> String {
        format!("{} {}", self.direction, self.step)
    }

    /// As the checker reads it; every step of the load says how it is undone.
    fn entry(&self, phase: Phase) -> Option<Entry> {
        let direction = if self.direction == "undo" { Direction::Undo } else { Direction::Run };
        Some(Entry {
            saga: self.saga.parse().ok()?,
            key: self.key.clone(),
            path: beside(&self.path),
            attempt: self.attempt,
            direction,
            phase,
            at: Time::from_micros(self.at_us),
            node: format!("process {}", self.pid),
        })
    }
}

/// `All[2].Item` in the checker's words: `All/i2/Item`.
fn beside(path: &str) -> String {
    path.replace('[', "/i").replace(']', "").replace('.', "/")
}

/// The state's path in an idempotency key: `acme/order-7/All[2].Item.5` is of `All[2].Item`.
pub fn path_of(key: &str, saga: &str) -> String {
    let rest = key.strip_prefix(saga).map_or(key, |rest| rest.trim_start_matches('/'));
    rest.rsplit_once('.').map_or(rest, |(path, _)| path).to_owned()
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
        let text = serde_json::to_string(&Effect { at_us: now_us(), ..effect.clone() })?;
        match std::os::unix::fs::symlink(text, self.dir.join("effects").join(name)) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Everything that was done, in order.
    pub fn done(&self) -> std::io::Result<Vec<Effect>> {
        let mut done = Vec::new();
        for entry in std::fs::read_dir(self.dir.join("effects"))? {
            let text = std::fs::read_link(entry?.path())?;
            done.push(serde_json::from_slice::<Effect>(text.as_os_str().as_encoded_bytes())?);
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

    /// Attempts and effects as the checker reads them, in order.
    pub fn entries(&self) -> std::io::Result<Vec<Entry>> {
        let (began, acted) = (self.attempts()?, self.done()?);
        let mut entries: Vec<_> = began.iter().filter_map(|effect| effect.entry(Phase::Began)).collect();
        entries.extend(acted.iter().filter_map(|effect| effect.entry(Phase::Acted)));
        entries.sort_by_key(|entry| (entry.at, entry.phase == Phase::Acted));
        Ok(entries)
    }
}

/// The true time, in microseconds since 1970: asked of the kernel itself, because the C library of a
/// process may be made to lie to it.
pub fn now_us() -> i64 {
    let now = clock_gettime(ClockId::Realtime);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_stands_in_the_key() {
        let table = [
            ("acme/load-1/One.1", "acme/load-1", "One", "One"),
            ("acme/load-1/All[2].Item.7", "acme/load-1", "All[2].Item", "All/i2/Item"),
            ("acme/load-1.2/One.1", "acme/load-1.2", "One", "One"),
        ];
        for (key, saga, path, told) in table {
            assert_eq!(path_of(key, saga), path);
            assert_eq!(beside(path), told);
        }
    }
}
