//! What replicas write: files that they hold themselves, so that nothing is lost while no Skald
//! runs.
//!
//! A process cannot be told to open another file, so a log that is full is copied aside and cut to
//! nothing while it stays open. What is written between the last byte copied and the cut is lost.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// The most lines that are read at once.
pub const LINES_MAX: usize = 10_000;

/// How far back lines are looked for, in bytes.
const LOOK_BACK: u64 = 1 << 20;

fn aside(log: &Path) -> PathBuf {
    log.with_extension("log.1")
}

/// Copies the log aside and cuts it, when it is longer than `bound`.
pub fn rotate(log: &Path, bound: u64) -> io::Result<()> {
    let mut file = match File::options().read(true).write(true).open(log) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if file.metadata()?.len() <= bound {
        return Ok(());
    }
    let parent = log.parent().unwrap_or(log);
    let mut copy = tempfile::NamedTempFile::new_in(parent)?;
    // A process that writes without end must not fill the disk with its copy: the end is kept.
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bound)))?;
    io::copy(&mut Read::by_ref(&mut file).take(bound.saturating_mul(2)), &mut copy)?;
    copy.persist(aside(log)).map_err(|error| error.error)?;
    file.set_len(0)
}

/// The last `lines` lines. `None`: there is no such log.
pub fn tail(log: &Path, lines: usize) -> io::Result<Option<Vec<String>>> {
    let lines = lines.min(LINES_MAX);
    let mut parts = Vec::new();
    for path in [aside(log), log.to_owned()] {
        match end_of(&path) {
            Ok(text) => parts.push(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    if parts.is_empty() {
        return Ok(None);
    }
    let bytes = parts.concat();
    let text = String::from_utf8_lossy(&bytes);
    let all: Vec<&str> = text.lines().collect();
    Ok(Some(all[all.len().saturating_sub(lines)..].iter().map(|&line| line.to_owned()).collect()))
}

fn end_of(path: &Path) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LOOK_BACK)))?;
    let mut bytes = Vec::new();
    file.take(LOOK_BACK).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Removes the oldest logs in `dir` beyond `keep`, those in `used` not counted.
pub fn prune(dir: &Path, keep: usize, used: impl Fn(&str) -> bool) -> io::Result<()> {
    let mut old = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let Some(replica) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")) else { continue };
        if !used(replica) {
            old.push((fs::metadata(&path)?.modified()?, path));
        }
    }
    old.sort();
    for (_, path) in &old[..old.len().saturating_sub(keep)] {
        for path in [aside(path), path.clone()] {
            crate::runtime::durable::remove(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_full_log_goes_on_in_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web-1.log");
        let mut held = File::options().append(true).create(true).open(&log).unwrap();
        for n in 0..100 {
            writeln!(held, "line {n}").unwrap();
        }
        rotate(&log, 1_000_000).unwrap();
        assert!(!aside(&log).exists(), "it is not full");
        rotate(&log, 100).unwrap();
        writeln!(held, "line 100").unwrap();
        assert_eq!(fs::read_to_string(&log).unwrap(), "line 100\n", "written at the new end, not at the old");
        assert_eq!(tail(&log, 2).unwrap().unwrap(), ["line 99", "line 100"]);
        assert_eq!(tail(&dir.path().join("none.log"), 2).unwrap(), None);
    }

    #[test]
    fn old_logs_go_and_used_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.log", "a.log.1", "b.log", "c.log"] {
            fs::write(dir.path().join(name), "").unwrap();
        }
        prune(dir.path(), 0, |replica| replica == "b").unwrap();
        let left: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["b.log"]);
    }
}
