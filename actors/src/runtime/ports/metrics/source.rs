//! Which series a figure comes from, and how the figure follows from what was scraped. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::Time;
use serde::{Deserialize, Serialize};

use super::Sample;
use super::text::{self, Fault};

/// The most series of one replica that are kept: labels that hold a user's name or a path would
/// otherwise take all memory.
pub const SERIES_MAX: usize = 1_000;

/// Where a figure comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Source {
    /// The metric's name, as in `http_requests_total`.
    pub series: String,
    /// Labels that a series must have, with their values; it may have others.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// How it is counted.
    pub kind: Kind,
    /// How the replicas' parts make one figure.
    pub across: Across,
    /// What the figure is multiplied with, for its unit.
    pub scale: f64,
}

/// How a series is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// It only grows, until it begins anew: what counts is its growth per second.
    Counter,
    /// It is what it is.
    Gauge,
}

/// How parts make a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Across {
    /// All together.
    Sum,
    /// The mean of the replicas.
    Mean,
}

impl Source {
    /// Of the counter `series`, all replicas together, per second.
    pub fn rate(series: &str) -> Self {
        Self { series: series.into(), labels: BTreeMap::new(), kind: Kind::Counter, across: Across::Sum, scale: 1.0 }
    }

    /// Of the gauge `series`, all replicas together.
    pub fn gauge(series: &str) -> Self {
        Self { kind: Kind::Gauge, ..Self::rate(series) }
    }

    fn takes(&self, point: &text::Point<'_>) -> bool {
        let has = |name: &str, value: &str| point.labels.iter().any(|(n, v)| *n == name && v == value);
        point.name == self.series && self.labels.iter().all(|(name, value)| has(name, value))
    }
}

/// What one replica answered once, as far as any source wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Scrape {
    /// When.
    pub at: Time,
    /// Per source, in their order: the series and their values.
    series: Vec<BTreeMap<String, f64>>,
}

/// Why an answer counts for nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It cannot be read.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// There is too much of it.
    #[error("more than {SERIES_MAX} series are wanted of one replica; narrow the labels")]
    TooMany,
}

impl Scrape {
    /// Reads what `sources` want of `text`, which came at `at`. A value that says that it is older
    /// than `stale` is left out.
    pub fn read(text: &str, sources: &[Source], at: Time, stale: Duration) -> Result<Self, Refused> {
        let mut series = vec![BTreeMap::new(); sources.len()];
        let mut kept = 0;
        for point in text::read(text) {
            let point = point?;
            let old = point.at_ms.is_some_and(|then| at.as_millis().saturating_sub(then) > stale.as_millis() as i64);
            if old || !point.value.is_finite() {
                continue;
            }
            for (source, series) in sources.iter().zip(&mut series) {
                if source.takes(&point) {
                    series.insert(point.series(), point.value);
                    kept += 1;
                }
            }
            if kept > SERIES_MAX {
                return Err(Refused::TooMany);
            }
        }
        Ok(Self { at, series })
    }
}

/// What is remembered of one replica.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Remembered {
    /// Which start of it answered.
    pub incarnation: u64,
    /// The answer before the last.
    pub before: Option<Scrape>,
    /// The last answer.
    pub last: Option<Scrape>,
}

impl Remembered {
    /// After it answered once more, as its `incarnation`th start.
    pub fn push(&mut self, incarnation: u64, scrape: Scrape) {
        // Another start counts from 0 again: nothing is known between the two.
        let same = self.incarnation == incarnation;
        self.before = self.last.take().filter(|_| same);
        self.last = Some(scrape);
        self.incarnation = incarnation;
    }

    /// Its part of the figure of the `at`th source.
    fn part(&self, source: &Source, at: usize, now: Time, stale: Duration) -> Option<f64> {
        let last = self.last.as_ref().filter(|last| now.since(last.at) <= stale)?;
        let series = last.series.get(at).filter(|series| !series.is_empty())?;
        match source.kind {
            Kind::Gauge => Some(series.values().sum()),
            Kind::Counter => {
                let before = self.before.as_ref()?;
                let seconds = last.at.since(before.at).as_secs_f64();
                // A rate over a long silence says little about now.
                if seconds <= 0.0 || last.at.since(before.at) > stale {
                    return None;
                }
                let was = before.series.get(at)?;
                let grown = series.iter().map(|(name, value)| match was.get(name) {
                    Some(was) if was <= value => value - was,
                    // It began anew, or was not there: all of it is growth.
                    Some(_) | None => *value,
                });
                Some(grown.sum::<f64>() / seconds)
            }
        }
    }
}

/// The figure of the `at`th source over all `replicas`.
pub fn figure<'r>(
    source: &Source,
    at: usize,
    replicas: impl Iterator<Item = &'r Remembered>,
    now: Time,
    stale: Duration,
) -> Option<Sample> {
    let (mut sum, mut seen, mut missing, mut oldest) = (0.0, 0u32, 0, now);
    for replica in replicas {
        match (replica.part(source, at, now, stale), &replica.last) {
            (Some(part), Some(last)) => {
                sum += part;
                seen += 1;
                oldest = oldest.min(last.at);
            }
            (Some(_) | None, _) => missing += 1,
        }
    }
    if seen == 0 {
        return None;
    }
    let whole = match source.across {
        Across::Sum => sum,
        Across::Mean => sum / f64::from(seen),
    };
    let value = whole * source.scale;
    value.is_finite().then_some(Sample { value, at: oldest, missing })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STALE: Duration = Duration::from_secs(60);

    fn at(seconds: i64) -> Time {
        Time::from_micros(seconds * 1_000_000)
    }

    fn replica(answers: &[(u64, i64, &str)]) -> Remembered {
        let sources = [Source::rate("r"), Source::gauge("q")];
        let mut remembered = Remembered::default();
        for (incarnation, seconds, text) in answers {
            remembered.push(*incarnation, Scrape::read(text, &sources, at(*seconds), STALE).unwrap());
        }
        remembered
    }

    fn rate(replicas: &[Remembered], now: i64) -> Option<(f64, u32)> {
        figure(&Source::rate("r"), 0, replicas.iter(), at(now), STALE).map(|sample| (sample.value, sample.missing))
    }

    #[test]
    fn a_rate_needs_two_answers_of_the_same_start() {
        let once = replica(&[(1, 0, "r 100")]);
        assert_eq!(rate(std::slice::from_ref(&once), 0), None);
        let twice = replica(&[(1, 0, "r 100"), (1, 10, "r 150")]);
        assert_eq!(rate(std::slice::from_ref(&twice), 10), Some((5.0, 0)));
        assert_eq!(rate(&[twice, once], 10), Some((5.0, 1)), "what is missing is said");
        assert_eq!(rate(&[replica(&[(1, 0, "r 100"), (2, 10, "r 150")])], 10), None);
        assert_eq!(rate(&[replica(&[(1, 0, "r 100"), (2, 10, "r 1"), (2, 20, "r 11")])], 20), Some((1.0, 0)));
    }

    #[test]
    fn a_counter_that_begins_anew_is_never_negative() {
        assert_eq!(rate(&[replica(&[(1, 0, "r 1000"), (1, 10, "r 20")])], 10), Some((2.0, 0)));
        let new = replica(&[(1, 0, "r{c=\"200\"} 10"), (1, 10, "r{c=\"200\"} 20\nr{c=\"500\"} 30")]);
        assert_eq!(rate(&[new], 10), Some((4.0, 0)), "a series that was not there before began at 0");
        let gone = replica(&[(1, 0, "r{c=\"1\"} 10\nr{c=\"2\"} 99"), (1, 10, "r{c=\"1\"} 20")]);
        assert_eq!(rate(&[gone], 10), Some((1.0, 0)));
    }

    #[test]
    fn what_is_old_or_no_number_is_missing() {
        let twice = [replica(&[(1, 0, "r 100"), (1, 10, "r 150")])];
        assert!(rate(&twice, 70).is_some());
        assert_eq!(rate(&twice, 71), None);
        assert_eq!(rate(&[replica(&[(1, 0, "r 1"), (1, 61, "r 150")])], 61), None, "a rate over a long silence");
        let gauge = |text| {
            let replicas = [replica(&[(1, 100, text)])];
            figure(&Source::gauge("q"), 1, replicas.iter(), at(100), STALE).map(|sample| sample.value)
        };
        assert_eq!(gauge("q 7"), Some(7.0));
        assert_eq!(gauge("q{a=\"1\"} 3\nq{a=\"2\"} 4"), Some(7.0));
        assert_eq!((gauge("q NaN"), gauge("q +Inf"), gauge("other 7")), (None, None, None));
        assert_eq!((gauge("q 7 40000"), gauge("q 7 39999")), (Some(7.0), None), "the text says how old it is");
    }

    #[test]
    fn replicas_make_a_sum_or_a_mean_of_the_series_that_are_meant() {
        let labels = BTreeMap::from([("queue".to_owned(), "mail".to_owned())]);
        let sum = Source { labels, ..Source::gauge("q") };
        let mean = Source { across: Across::Mean, scale: 100.0, ..sum.clone() };
        let text = "q{queue=\"mail\",x=\"1\"} 4\nq{queue=\"other\"} 100\nq 100";
        let one = |value: f64| {
            let text = text.replace('4', &value.to_string());
            let sources = [sum.clone(), mean.clone()];
            let last = Scrape::read(&text, &sources, at(0), STALE).unwrap();
            Remembered { last: Some(last), ..Remembered::default() }
        };
        let replicas = [one(4.0), one(8.0)];
        let value = |source, n| figure(source, n, replicas.iter(), at(0), STALE).unwrap().value;
        assert_eq!((value(&sum, 0), value(&mean, 1)), (12.0, 600.0));
    }

    #[test]
    fn labels_without_end_are_refused() {
        let text: String = (0..=SERIES_MAX).map(|n| format!("q{{user=\"{n}\"}} 1\n")).collect();
        assert_eq!(Scrape::read(&text, &[Source::gauge("q")], at(0), STALE), Err(Refused::TooMany));
        assert!(Scrape::read(&text, &[Source::gauge("other")], at(0), STALE).is_ok());
    }
}
