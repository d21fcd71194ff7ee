//! How busy a service is: cpu, queue and requests per second, or a query with a name.
//!
//! A figure that is old or incomplete is worse than none when it decides how many replicas run
//! (F47). So every sample says when it was taken and how much of it is missing, and what is too old
//! is not answered at all.

use std::fmt;

use async_trait::async_trait;
use protocol::Time;
use supervisor::activity::Failure;

#[cfg(test)]
mod contract;
pub mod prometheus;
pub mod scrape;
mod source;
mod text;

pub use source::{Across, Kind, Source};

use crate::runtime::model::scaling::Metric;
use crate::runtime::model::{EnvironmentId, ServiceId};

/// Samples services.
///
/// Safe to repeat at any rate. A failure named `Transient` may pass by itself; the others do not:
///
/// | name | what it says |
/// |---|---|
/// | `UnknownQuery` | no query is set up for this metric or name |
/// | `BadQuery` | the query makes no sense to whoever answers it, or has more than one answer |
#[async_trait]
pub trait Metrics: Send + Sync + 'static {
    /// The value of `query` for `of`, as last sampled. `None`: there is none, or it is older than
    /// the adapter's bound, or it is no finite number. A service that does not run or is not known
    /// has none, which is no error.
    ///
    /// A rate needs two samples: after a start it is there from the second one on. A counter that
    /// begins anew never makes a rate negative.
    async fn sample(&self, of: &Subject, query: &Query) -> Result<Option<Sample>, Failure>;
}

/// Whose figures.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject {
    /// Where.
    pub environment: EnvironmentId,
    /// Which service.
    pub service: ServiceId,
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.environment, self.service)
    }
}

/// Which figure.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Query {
    /// One that every policy may name, in the unit that it says.
    Metric(Metric),
    /// One that somebody set up under a name.
    Named(String),
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Metric(Metric::Cpu) => f.write_str("cpu"),
            Self::Metric(Metric::Queue) => f.write_str("queue"),
            Self::Metric(Metric::Rps) => f.write_str("rps"),
            Self::Named(name) => write!(f, "{name:?}"),
        }
    }
}

impl Query {
    fn unknown<T>(&self) -> Result<T, Failure> {
        Err(Failure::named("UnknownQuery", format!("no query is set up for {self}; set one up, or name another")))
    }
}

/// A value and when it was so.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    /// The value, always finite.
    pub value: f64,
    /// When it was sampled; of several parts, when the oldest was.
    pub at: Time,
    /// Replicas of which nothing is in it, as far as the adapter knows. With any missing, a sum is
    /// too small: it may be a reason to grow, and never one to shrink.
    pub missing: u32,
}
