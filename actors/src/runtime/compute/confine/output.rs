//! What programs write, bounded while it is written.
//!
//! The keeper of a program reads its output from a pipe and writes the log, also while no node runs. A
//! log that would become longer than its bound is put aside first, and what comes faster than a person
//! or a collector reads is dropped, counted, and the count is written in its place.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How often it is said how much was dropped.
pub const SAY_EVERY: Duration = Duration::from_secs(1);

/// How much of a program's output is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Bounds {
    /// The longest log, in bytes; one before it is kept too, so it takes twice this.
    pub log_bytes: u64,
    /// Bytes in a second, for as long as it likes; twice this at once.
    pub bytes_per_second: u64,
}

/// Lets through what a program may write, and counts the rest.
#[derive(Debug)]
pub struct Meter {
    per_second: u64,
    room: u64,
    filled: Duration,
    dropped: u64,
    told: Duration,
}

impl Meter {
    /// One that lets `per_second` bytes through in a second. Time is given, from any beginning.
    pub fn new(per_second: u64) -> Self {
        Self {
            per_second,
            room: per_second.saturating_mul(2),
            filled: Duration::ZERO,
            dropped: 0,
            told: Duration::ZERO,
        }
    }

    /// How many of `bytes` are let through at `now`.
    pub fn take(&mut self, bytes: usize, now: Duration) -> usize {
        let passed = now.saturating_sub(self.filled);
        let more = passed.as_micros().saturating_mul(u128::from(self.per_second)) / 1_000_000;
        self.room = self.room.saturating_add(u64::try_from(more).unwrap_or(u64::MAX));
        self.room = self.room.min(self.per_second.saturating_mul(2));
        self.filled = now.max(self.filled);
        let passing = usize::try_from(self.room).unwrap_or(usize::MAX).min(bytes);
        self.room -= passing as u64;
        self.dropped += (bytes - passing) as u64;
        passing
    }

    /// What was dropped since it was said last, once a while has passed.
    pub fn said(&mut self, now: Duration) -> Option<String> {
        if now.saturating_sub(self.told) < SAY_EVERY {
            return None;
        }
        self.told = now;
        self.at_the_end()
    }

    /// The same, when nothing more comes.
    pub fn at_the_end(&mut self) -> Option<String> {
        if self.dropped == 0 {
            return None;
        }
        let dropped = std::mem::take(&mut self.dropped);
        Some(format!(
            "skald: {dropped} bytes of output are not kept; {} bytes in a second are, while there is room on the disk\n",
            self.per_second
        ))
    }

    /// So many were let through and could not be written.
    pub fn lost(&mut self, bytes: usize) {
        self.dropped += bytes as u64;
    }
}

/// A log that stays within its bound.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    most: u64,
    /// Whether the last of it is a line that goes on.
    within: bool,
}

/// Where the part before lies.
pub fn aside(log: &Path) -> PathBuf {
    log.with_extension("log.1")
}

impl Log {
    /// Goes on in `path`.
    pub fn open(path: &Path, most: u64) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        let file = File::options().append(true).create(true).open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), file, length, most, within: false })
    }

    /// Writes a line of ours, on a line of its own.
    pub fn line(&mut self, line: &str) -> io::Result<()> {
        if self.within {
            self.write(b"\n")?;
        }
        self.write(line.as_bytes())
    }

    /// Writes `bytes`.
    pub fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.length >= self.most {
                fs::rename(&self.path, aside(&self.path))?;
                *self = Self::open(&self.path, self.most)?;
            }
            let room = usize::try_from(self.most.saturating_sub(self.length)).unwrap_or(usize::MAX).max(1);
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.file.write_all(now)?;
            self.length += now.len() as u64;
            self.within = !now.ends_with(b"\n");
            bytes = later;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_comes_too_fast_is_counted_and_said() {
        let mut meter = Meter::new(100);
        assert_eq!(meter.take(150, Duration::ZERO), 150, "a burst passes");
        assert_eq!(meter.take(1_000, Duration::ZERO), 50);
        assert_eq!(meter.said(Duration::ZERO), None, "not with every word");
        assert_eq!(meter.take(500, SECOND), 100, "as much as a second lets through");
        assert_eq!(meter.take(0, SECOND * 2), 0);
        let said = meter.said(SECOND * 2).unwrap();
        assert!(said.contains("1350 bytes") && said.contains("100 bytes in a second"), "{said}");
        assert_eq!(meter.said(SECOND * 9), None, "once");
        assert_eq!(meter.take(1_000, SECOND * 1_000), 200, "what nobody used is not kept for ever");
    }

    #[test]
    fn a_log_is_never_longer_than_its_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web-1.log");
        let mut log = Log::open(&path, 100).unwrap();
        for number in 0..1_000 {
            log.write(format!("line {number}\n").as_bytes()).unwrap();
            let lengths = [&path, &aside(&path)].map(|path| fs::metadata(path).map_or(0, |meta| meta.len()));
            assert!(lengths.iter().all(|length| *length <= 100), "{lengths:?}");
        }
        let kept = fs::read_to_string(aside(&path)).unwrap() + &fs::read_to_string(&path).unwrap();
        assert!(kept.ends_with("line 998\nline 999\n"), "{kept}");
        let mut again = Log::open(&path, 100).unwrap();
        again.write(b"after a restart, half of a li").unwrap();
        again.line("skald: something\n").unwrap();
        assert!(fs::read_to_string(&path).unwrap().ends_with("half of a li\nskald: something\n"));
    }
}
