//! What replicas wrote: their keepers write it ([`output`](super::super::confine::output)), also while no
//! Skald runs; here it is read and, in the end, removed.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use super::super::confine::output::aside;
use super::super::observed::said;
use super::super::written::{Log, Reading};

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

/// A place in a log: which file, whatever it is called by now, and how far into it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct At {
    file: u128,
    offset: u64,
}

impl At {
    fn written(self) -> String {
        format!("{:x}.{:x}", self.file, self.offset)
    }

    fn read(text: &str) -> Option<Self> {
        let (file, offset) = text.split_once('.')?;
        Some(Self { file: u128::from_str_radix(file, 16).ok()?, offset: u64::from_str_radix(offset, 16).ok()? })
    }
}

/// One part of a log.
struct Part {
    file: File,
    id: u128,
    length: u64,
}

impl Part {
    fn open(path: &Path) -> io::Result<Option<Self>> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        // The number alone is given to the next file once this one is gone.
        let born = meta.created().ok().and_then(|born| born.duration_since(UNIX_EPOCH).ok());
        let born = born.map_or(0, |born| u64::try_from(born.as_nanos()).unwrap_or_default());
        Ok(Some(Self { id: u128::from(meta.ino()) << 64 | u128::from(born), length: meta.len(), file }))
    }

    /// At most `most` bytes from `from` on.
    fn read(&mut self, from: u64, most: u64) -> io::Result<Vec<u8>> {
        self.file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        (&mut self.file).take(most.min(self.length.saturating_sub(from))).read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

/// What `reading` asks of a log. `None`: there is no such log.
pub fn read(log: &Path, reading: &Reading) -> io::Result<Option<Log>> {
    let mut parts = Vec::new();
    for path in [aside(log), log.to_owned()] {
        parts.extend(Part::open(&path)?);
    }
    // It was put aside between the two looks: the same file twice.
    parts.dedup_by_key(|part| part.id);
    let after = reading.after.as_deref().and_then(At::read);
    match (parts.is_empty(), after) {
        (true, _) => Ok(None),
        (false, None) => last(&mut parts, reading).map(Some),
        (false, Some(after)) => on(&mut parts, after, reading).map(Some),
    }
}

/// The last lines. One that is not ended yet is among them, and is read again once it is.
fn last(parts: &mut [Part], reading: &Reading) -> io::Result<Log> {
    let most = LOOK_BACK.min(reading.bytes as u64);
    let (mut bytes, mut at, mut more) = (Vec::new(), At { file: 0, offset: 0 }, false);
    for part in parts {
        more |= part.length > most;
        let read = part.read(part.length.saturating_sub(most), most)?;
        let ended = read.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        at = At { file: part.id, offset: part.length - (read.len() - ended) as u64 };
        bytes.extend(read);
    }
    let cut = bytes.len().saturating_sub(reading.bytes);
    let text = String::from_utf8_lossy(&bytes[cut..]);
    let all: Vec<&str> = text.lines().collect();
    let shown = all.len().min(reading.lines).min(LINES_MAX);
    let missed = shown < reading.lines && (more || cut > 0 || shown < all.len());
    let lines = all[all.len() - shown..].iter().map(|&line| line.to_owned());
    Ok(Log { lines: lines.collect(), next: at.written(), missed })
}

/// Whole lines from `after` on, as far as the bound; a line that is longer than that comes in pieces.
fn on(parts: &mut [Part], after: At, reading: &Reading) -> io::Result<Log> {
    let known = parts.iter().position(|part| part.id == after.file && after.offset <= part.length);
    let most = reading.bytes.max(1);
    let (mut bytes, mut spans) = (Vec::new(), Vec::new());
    for (number, part) in parts.iter_mut().enumerate().skip(known.unwrap_or(0)) {
        let from = if known == Some(number) { after.offset } else { 0 };
        let read = part.read(from, (most - bytes.len()) as u64)?;
        spans.push((At { file: part.id, offset: from }, read.len()));
        bytes.extend(read);
    }
    let taken = match bytes.iter().rposition(|byte| *byte == b'\n') {
        Some(end) => end + 1,
        None if bytes.len() >= most => bytes.len(),
        None => 0,
    };
    let lines = String::from_utf8_lossy(&bytes[..taken]).lines().map(str::to_owned).collect();
    let (mut next, mut left) = (after, taken);
    for (at, length) in spans {
        next = At { offset: at.offset + left.min(length) as u64, ..at };
        if left <= length {
            break;
        }
        left -= length;
    }
    Ok(Log { lines, next: next.written(), missed: known.is_none() })
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
    use super::super::super::confine::output;
    use super::*;

    #[test]
    fn the_end_is_read_across_both_parts() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("web-1.log");
        fs::write(aside(&log), "line 98\nline 99\n").unwrap();
        fs::write(&log, "line 100\n").unwrap();
        assert_eq!(read(&log, &Reading::last(2)).unwrap().unwrap().lines, ["line 99", "line 100"]);
        assert_eq!(read(&dir.path().join("none.log"), &Reading::last(2)).unwrap(), None);
    }

    /// Whoever follows a log has every line once, also over its being put aside.
    #[test]
    fn a_log_is_followed_without_a_gap_or_a_repetition() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web-1.log");
        let mut log = output::Log::open(&path, 400).unwrap();
        log.write(b"line 0\n").unwrap();
        let first = read(&path, &Reading::last(10)).unwrap().unwrap();
        let (mut lines, mut next) = (first.lines, first.next);
        for number in 1..400 {
            log.write(format!("line {number}\n").as_bytes()).unwrap();
            if number % 7 == 0 {
                let reading = Reading { after: Some(next), bytes: if number % 2 == 0 { 30 } else { 1_000 }, lines: 0 };
                let part = read(&path, &reading).unwrap().unwrap();
                assert!(!part.missed, "{number}");
                lines.extend(part.lines);
                next = part.next;
            }
        }
        for _ in 0..10 {
            let part = read(&path, &Reading { after: Some(next), bytes: 100, lines: 0 }).unwrap().unwrap();
            lines.extend(part.lines);
            next = part.next;
        }
        let expected: Vec<String> = (0..400).map(|number| format!("line {number}")).collect();
        assert_eq!(lines, expected);
    }

    #[test]
    fn a_line_that_goes_on_is_told_once_it_is_whole_and_what_is_gone_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("web-1.log");
        let mut log = output::Log::open(&path, 1_000).unwrap();
        log.write(b"one\nhal").unwrap();
        let last = read(&path, &Reading::last(10)).unwrap().unwrap();
        assert_eq!(last.lines, ["one", "hal"], "what a program said last shows, ended or not");
        let few = read(&path, &Reading { bytes: 5, ..Reading::last(10) }).unwrap().unwrap();
        assert!(!last.missed && few.missed, "{few:?}");
        let on = |next: String| read(&path, &Reading { after: Some(next), bytes: 100, lines: 0 }).unwrap().unwrap();
        let same = on(last.next);
        assert!(same.lines.is_empty() && !same.missed, "{same:?}");
        log.write(b"f\n").unwrap();
        let whole = on(same.next);
        assert_eq!(whole.lines, ["half"]);
        for number in 0..400 {
            log.write(format!("line {number}\n").as_bytes()).unwrap();
        }
        assert!(on(whole.next).missed, "put aside twice since");
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
