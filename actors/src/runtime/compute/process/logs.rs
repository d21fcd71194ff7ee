//! What replicas wrote: their keepers write it ([`output`](super::super::confine::output)), also while no
//! Skald runs; here it is read and, in the end, removed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::super::confine::output::aside;
use super::super::observed::said;

/// The most lines that are read at once.
pub const LINES_MAX: usize = 10_000;

/// How far back lines are looked for, in bytes.
const LOOK_BACK: u64 = 1 << 20;

/// How far back the last words of a program that ended are looked for, in bytes: they are read at every look.
const LAST_WORDS: u64 = 4_096;

/// What a program that ended wrote last; nothing where nothing can be read.
pub fn last_words(log: &Path) -> Vec<String> {
    let bytes = end_of(log, LAST_WORDS).unwrap_or_default();
    said(&String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect::<Vec<_>>())
}

/// The last `lines` lines. `None`: there is no such log.
pub fn tail(log: &Path, lines: usize) -> io::Result<Option<Vec<String>>> {
    let lines = lines.min(LINES_MAX);
    let mut parts = Vec::new();
    for path in [aside(log), log.to_owned()] {
        match end_of(&path, LOOK_BACK) {
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

fn end_of(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
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
    use super::*;

    #[test]
    fn the_end_is_read_across_both_parts() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web-1.log");
        fs::write(aside(&log), "line 98\nline 99\n").unwrap();
        fs::write(&log, "line 100\n").unwrap();
        assert_eq!(tail(&log, 2).unwrap().unwrap(), ["line 99", "line 100"]);
        assert_eq!(tail(&dir.path().join("none.log"), 2).unwrap(), None);
    }

    #[test]
    fn the_last_words_are_few_and_short() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web-1.log");
        fs::write(&log, format!("{}one\ntwo\nthree\n{}\n", "before\n".repeat(10_000), "x".repeat(5_000))).unwrap();
        assert_eq!(last_words(&log).len(), 1, "a line longer than what is looked at is all that is seen");
        fs::write(&log, "one\ntwo\nthree\nfour\n").unwrap();
        assert_eq!(last_words(&log), ["two", "three", "four"]);
        assert_eq!(last_words(&dir.path().join("none.log")), Vec::<String>::new());
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
