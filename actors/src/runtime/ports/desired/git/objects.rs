//! Directories and contents of a commit.

use supervisor::activity::Failure;

use super::super::layout::{Entry, Kind};
use super::super::{Commit, Limits};
use super::command::Git;

/// The longest line of a listing, in bytes: a name in git is shorter than 4096.
const LINE_MAX_BYTES: usize = 4_200;
/// Files that may stand beside the services.
const OTHERS_MAX: usize = 1_000;

fn odd(what: &str) -> Failure {
    Failure::transient("reading the commit", format!("git answered something else than {what}"))
}

/// What stands in `directory` of `commit`; nothing, when there is no such directory.
pub async fn list(git: &Git, commit: &Commit, directory: &str, limits: &Limits) -> Result<Vec<Entry>, Failure> {
    let arguments = ["ls-tree", "-z", "-l", "--full-tree", commit.as_str(), "--", directory];
    let max = (limits.files + OTHERS_MAX) * LINE_MAX_BYTES;
    let listing = git.run(&arguments, max).await?;
    if listing.code != Some(0) {
        return Err(listing.failure("listing the commit"));
    }
    let lines = listing.out.split(|byte| *byte == 0).filter(|line| !line.is_empty());
    lines.map(|line| entry(line, directory).ok_or_else(|| odd("a listing"))).collect()
}

/// Reads `<mode> <type> <object> <size>\t<path>`.
fn entry(line: &[u8], directory: &str) -> Option<Entry> {
    let line = String::from_utf8_lossy(line);
    let (head, path) = line.split_once('\t')?;
    let mut words = head.split_whitespace();
    let (mode, _type, object, size) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let kind = match mode {
        "100644" | "100755" => Kind::File { size: size.parse().ok()?, object: object.to_owned() },
        // Links lead out of the directory, and what they lead to has another size.
        _ => Kind::Other,
    };
    Some(Entry { name: path.strip_prefix(directory)?.to_owned(), kind })
}

/// The contents of `wanted`, in the same order.
pub async fn contents(git: &Git, wanted: &[&str], limits: &Limits) -> Result<Vec<Vec<u8>>, Failure> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = wanted.join("\n");
    input.push('\n');
    // Each comes after a line with its name, kind and size.
    let max = usize::try_from(limits.total_bytes).unwrap_or(usize::MAX).saturating_add(wanted.len() * 128);
    let answer = git.run_with(&["cat-file", "--batch"], input.as_bytes(), max).await?;
    if answer.code != Some(0) {
        return Err(answer.failure("reading the files of the commit"));
    }
    let mut rest = answer.out.as_slice();
    let mut contents = Vec::with_capacity(wanted.len());
    for object in wanted {
        let (content, after) = content(rest, object).ok_or_else(|| odd("the content of a file"))?;
        contents.push(content.to_vec());
        rest = after;
    }
    Ok(contents)
}

/// Reads `<object> blob <size>\n<content>\n`.
fn content<'a>(answer: &'a [u8], object: &str) -> Option<(&'a [u8], &'a [u8])> {
    let end = answer.iter().position(|byte| *byte == b'\n')?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let size: usize = head.strip_prefix(object)?.strip_prefix(" blob ")?.parse().ok()?;
    let body = &answer[end + 1..];
    let (content, rest) = body.split_at_checked(size)?;
    Some((content, rest.strip_prefix(b"\n")?))
}
