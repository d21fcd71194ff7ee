//! What is wrong with a definition: where, what, and what would be right.

use std::fmt;

use protocol::text::shortened;
use serde::Serialize;

use super::source::At;

/// The most faults of one text: nobody reads more at once, and looking for what was meant costs.
pub const FAULTS_MAX: usize = 100;
/// The most names among which the one that was meant is looked for, for each fault.
const MEANT_AMONG: usize = 200;
/// The longest part of one fault, in bytes; a name in it can be as long as the text.
const PART_MAX_BYTES: usize = 600;

/// One fault.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Fault {
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1.
    pub column: u32,
    /// What it belongs to, as in `States.Applying.Retry[0]`; empty for the file.
    pub path: String,
    /// What is wrong.
    pub what: String,
    /// What would be right.
    pub mend: String,
}

impl Fault {
    /// A fault at `at`.
    pub fn new(at: At, path: impl Into<String>, what: impl Into<String>, mend: impl Into<String>) -> Self {
        let part = |text: String| shortened(&text, PART_MAX_BYTES).into_owned();
        let (path, what, mend) = (part(path.into()), part(what.into()), part(mend.into()));
        Self { line: at.line, column: at.column, path, what, mend }
    }
}

/// Every fault of one definition, in the order of the text.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Faults {
    /// What the source is called.
    pub file: String,
    /// The faults.
    pub faults: Vec<Fault>,
    /// Whether the text is one that was deployed before. What was taken then is no fault now: it fails
    /// by name where a saga comes to it, and the other sagas go on.
    #[serde(skip)]
    pub(super) stored: bool,
}

impl Faults {
    /// None yet.
    pub fn new(file: &str) -> Self {
        Self { file: shortened(file, PART_MAX_BYTES).into_owned(), faults: Vec::new(), stored: false }
    }

    /// One more; beyond [`FAULTS_MAX`] there is none.
    pub fn push(&mut self, fault: Fault) {
        if !self.is_full() {
            self.faults.push(fault);
        }
    }

    /// Whether there is no room for another.
    pub fn is_full(&self) -> bool {
        self.faults.len() >= FAULTS_MAX
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }

    pub(super) fn sort(&mut self) {
        self.faults.sort_by_key(|fault| (fault.line, fault.column));
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{}", Located { file: &self.file, fault })?;
        }
        if self.is_full() {
            write!(f, "\n{}: there may be more; these are the first {FAULTS_MAX} found", self.file)?;
        }
        Ok(())
    }
}

impl std::error::Error for Faults {}

/// Something that can be meant as it is, and often is not.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Warning {
    /// What the source is called.
    pub file: String,
    /// Where, what, and what would be better.
    #[serde(flatten)]
    pub fault: Fault,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Located { file: &self.file, fault: &self.fault }.fmt(f)
    }
}

struct Located<'a> {
    file: &'a str,
    fault: &'a Fault,
}

impl fmt::Display for Located<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Fault { line, column, path, what, mend } = self.fault;
        write!(f, "{}:{line}:{column}: ", self.file)?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        write!(f, "{what}; {mend}")
    }
}

/// The name among `known` that was probably meant.
pub fn meant<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = wrong.to_lowercase();
    known
        .into_iter()
        .take(MEANT_AMONG)
        .map(|name| (distance(&lower, &name.to_lowercase()), name))
        .filter(|(distance, name)| *distance <= (name.len().max(wrong.len()) / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// How many letters must be added, removed, changed or swapped.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(64).collect(), b.chars().take(64).collect());
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}
