//! Reads a package archive without trusting it.
//!
//! An archive comes from anybody. Everything here is bounded, streamed and checked before the
//! caller sees a byte: there are no links, no devices, no way out of the package's own directory,
//! and no two names for one file.

use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest, Sha256};

/// How much an archive may ask of us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The compressed file. The public registry accepts 10 MiB; some mirrors accept more.
    pub packed_bytes: u64,
    /// All of its content together.
    pub unpacked_bytes: u64,
    /// Files and directories in it.
    pub entries: usize,
    /// Content per compressed byte, beyond [`Limits::RATIO_FREE_BYTES`]: what tells a package
    /// from a bomb. Generated bindings reach about 30.
    pub ratio: u64,
    /// The longest path of an entry, in bytes.
    pub path_bytes: usize,
    /// The manifest, which is read into memory.
    pub manifest_bytes: u64,
}

impl Limits {
    /// Content for which no ratio is asked: small archives compress by any factor.
    pub const RATIO_FREE_BYTES: u64 = 4 << 20;
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            packed_bytes: 64 << 20,
            unpacked_bytes: 512 << 20,
            entries: 20_000,
            ratio: 200,
            path_bytes: 1024,
            manifest_bytes: 4 << 20,
        }
    }
}

/// Why an archive was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It is not what a package archive may be. It will not become better by itself.
    #[error("the archive is refused: {0}")]
    Refused(String),
    /// The disk or the stream failed.
    #[error("the archive cannot be read")]
    Io(#[source] io::Error),
    /// The caller's own work on an entry failed.
    #[error("{0}")]
    Visit(io::Error),
}

/// One regular file of an archive.
#[derive(Debug)]
pub struct Entry {
    /// Its path below the package's directory: plain components, joined by `/`.
    pub path: PathBuf,
    /// Whether it may be executed.
    pub executable: bool,
}

/// What an archive turned out to be.
#[derive(Debug)]
pub struct Summary {
    /// The directory all entries stand in: `name-version`. Empty for [`Layout::Plain`].
    pub root: String,
    /// SHA-256 of the compressed bytes, in hexadecimal digits.
    pub checksum: String,
    /// Compressed bytes.
    pub packed_bytes: u64,
}

/// Where the entries of an archive stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// All in one directory, `name-version`, which is left out of their paths.
    Package,
    /// Anywhere below the archive's own root.
    Plain,
}

/// Walks the regular files of the package in `packed`, in their order. `visit` may read as much of
/// each as it wants. The checksum covers every compressed byte, also those behind the end mark.
pub fn walk(
    packed: impl Read,
    limits: &Limits,
    visit: impl FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<Summary, Error> {
    walk_laid(packed, limits, Layout::Package, visit)
}

/// As [`walk`], of an archive with another layout.
pub fn walk_laid(
    packed: impl Read,
    limits: &Limits,
    layout: Layout,
    mut visit: impl FnMut(&Entry, &mut dyn Read) -> io::Result<()>,
) -> Result<Summary, Error> {
    let hashing = Hashing { inner: packed, hash: Sha256::new(), bytes: 0, limit: limits.packed_bytes };
    let bounded = Bounded { inner: flate2::read::GzDecoder::new(hashing), bytes: 0, limits: *limits };
    let mut tar = tar::Archive::new(bounded);
    let mut names = Names::default();
    let mut root: Option<String> = None;
    let mut seen = 0usize;
    for entry in tar.entries().map_err(read_error)? {
        let mut entry = entry.map_err(read_error)?;
        seen += 1;
        if seen > limits.entries {
            return Err(Error::Refused(format!("it has more than {} entries", limits.entries)));
        }
        let raw = entry.path_bytes();
        if raw.len() > limits.path_bytes {
            return Err(Error::Refused(format!("a path in it is longer than {} bytes", limits.path_bytes)));
        }
        let text =
            String::from_utf8(raw.into_owned()).map_err(|_| Error::Refused("a path in it is not UTF-8".into()))?;
        let kind = entry.header().entry_type();
        if !(kind.is_file() || kind.is_dir()) {
            return Err(Error::Refused(format!(
                "{text:?} is a {kind:?}; only plain files and directories belong in a package"
            )));
        }
        let (top, path) = split(&text, layout)?;
        if *root.get_or_insert_with(|| top.clone()) != top {
            return Err(Error::Refused(format!("{text:?} stands outside of its package's directory")));
        }
        let Some(path) = path else {
            if kind.is_file() {
                return Err(Error::Refused(format!("{text:?} should be a directory")));
            }
            continue;
        };
        names.add(&path, kind.is_file())?;
        if kind.is_dir() {
            continue;
        }
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        let mut content = Content { inner: &mut entry, failed: None };
        let visited = visit(&Entry { path, executable }, &mut content);
        match (content.failed.take(), visited) {
            (Some(error), _) => return Err(read_error(error)),
            (None, Err(error)) => return Err(Error::Visit(error)),
            (None, Ok(())) => {}
        }
    }
    let mut hashing = tar.into_inner().inner.into_inner();
    io::copy(&mut hashing, &mut io::sink()).map_err(read_error)?;
    let root = root.ok_or_else(|| Error::Refused("it is empty".into()))?;
    Ok(Summary { root, checksum: hex::encode(hashing.hash.finalize()), packed_bytes: hashing.bytes })
}

/// The directory of the archive and the path below it, when every component is a plain name.
fn split(text: &str, layout: Layout) -> Result<(String, Option<PathBuf>), Error> {
    let refused = |why: &str| Err(Error::Refused(format!("the path {text:?} {why}")));
    if text.contains(['\\', '\0']) || text.chars().any(char::is_control) {
        return refused("holds a character that no package needs");
    }
    let mut plain = Vec::new();
    for component in Path::new(text).components() {
        match component {
            Component::Normal(name) => plain.push(name.to_string_lossy().into_owned()),
            Component::CurDir => {}
            Component::ParentDir => return refused("leads upwards"),
            Component::RootDir | Component::Prefix(_) => return refused("is absolute"),
        }
    }
    let top = match layout {
        Layout::Plain => String::new(),
        Layout::Package if plain.is_empty() => return refused("names nothing"),
        Layout::Package => plain.remove(0),
    };
    Ok((top, (!plain.is_empty()).then(|| plain.iter().collect())))
}

/// The names met so far, so that no two of them mean one file, not even where a file system does
/// not tell letters by their case.
#[derive(Default)]
struct Names(HashMap<String, (PathBuf, bool)>);

impl Names {
    fn add(&mut self, path: &Path, file: bool) -> Result<(), Error> {
        for (depth, ancestor) in path.ancestors().enumerate() {
            if ancestor.as_os_str().is_empty() {
                break;
            }
            let is_file = file && depth == 0;
            let folded = ancestor.to_string_lossy().to_lowercase();
            match self.0.get(&folded) {
                None => {
                    self.0.insert(folded, (ancestor.to_owned(), is_file));
                }
                Some((known, _)) if known != ancestor => {
                    return Err(Error::Refused(format!("{known:?} and {ancestor:?} differ only by case")));
                }
                Some((_, known_file)) if *known_file || is_file => {
                    return Err(Error::Refused(format!("{ancestor:?} stands in it twice")));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// A limit or damage met while reading travels as an `io::Error`; told apart here.
fn read_error(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::InvalidData
        | io::ErrorKind::InvalidInput
        | io::ErrorKind::UnexpectedEof
        | io::ErrorKind::Other => Error::Refused(error.to_string()),
        _ => Error::Io(error),
    }
}

struct Hashing<R> {
    inner: R,
    hash: Sha256,
    bytes: u64,
    limit: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(to)?;
        self.hash.update(&to[..read]);
        self.bytes += read as u64;
        if self.bytes > self.limit {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("it is larger than {} bytes, the limit for an archive", self.limit),
            ));
        }
        Ok(read)
    }
}

struct Bounded<R> {
    inner: flate2::read::GzDecoder<Hashing<R>>,
    bytes: u64,
    limits: Limits,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(to)?;
        self.bytes += read as u64;
        let bad = |why: String| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        if self.bytes > self.limits.unpacked_bytes {
            return bad(format!("its content is larger than {} bytes", self.limits.unpacked_bytes));
        }
        let packed = self.inner.get_ref().bytes;
        if self.bytes > Limits::RATIO_FREE_BYTES && self.bytes / self.limits.ratio > packed {
            return bad(format!("its content is more than {} times its size", self.limits.ratio));
        }
        Ok(read)
    }
}

/// Tells a failure to read from a failure to use what was read.
struct Content<'a, R> {
    inner: &'a mut R,
    failed: Option<io::Error>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        self.inner.read(to).map_err(|error| {
            let told = io::Error::new(error.kind(), error.to_string());
            self.failed = Some(error);
            told
        })
    }
}
