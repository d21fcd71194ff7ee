//! What is wrong with something that was handed in.

use std::fmt;

use protocol::{Code, Problem};

/// One fault: where, what, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Fault {
    /// The field, as it is written at the edge.
    pub field: String,
    /// What is wrong with it.
    pub fault: String,
    /// What would be right.
    pub mend: String,
}

impl Fault {
    /// A fault in `field`.
    pub fn new(field: impl Into<String>, fault: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { field: field.into(), fault: fault.into(), mend: mend.into() }
    }

    /// The same fault, seen from the thing that holds `outer`.
    #[must_use]
    pub fn within(mut self, outer: impl fmt::Display) -> Self {
        self.field = format!("{outer}.{}", self.field);
        self
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.fault, self.mend)
    }
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::new(Code::BadRequest, format!("{}: {}", fault.field, fault.fault)).mend(fault.mend)
    }
}

/// Holds the length of a text, in bytes, between 1 and `max`.
pub fn text(field: &str, text: &str, max: usize) -> Result<(), Fault> {
    if text.is_empty() {
        return Err(Fault::new(field, "it is empty", "give it a value"));
    }
    at_most(field, text.len(), max, "bytes")
}

/// Holds a count to `max`.
pub fn at_most(field: &str, count: usize, max: usize, unit: &str) -> Result<(), Fault> {
    if count > max {
        return Err(Fault::new(field, format!("it has {count} {unit}"), format!("the limit is {max} {unit}")));
    }
    Ok(())
}

/// Holds a number between two others.
pub fn between<N: PartialOrd + fmt::Display>(field: &str, number: N, min: N, max: N) -> Result<(), Fault> {
    if number < min || number > max {
        return Err(Fault::new(field, format!("it is {number}"), format!("use {min} to {max}")));
    }
    Ok(())
}
