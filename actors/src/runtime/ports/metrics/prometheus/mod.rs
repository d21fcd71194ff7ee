//! Metrics from a Prometheus server, by its HTTP interface.
//!
//! Each figure is a query in PromQL in which `$environment` and `$service` stand for names. It
//! should answer one number, so it ends in `sum(…)` or `avg(…)`. The server's own memory of the last
//! value is five minutes long; here it is bounded by `stale`, so that a service whose figures stopped
//! has none instead of old ones.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use protocol::Time;
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use supervisor::activity::Failure;

use super::{Metrics, Query, Sample, Subject};
use crate::runtime::model::scaling::Metric;
use crate::runtime::ports::http_api;

/// The largest answer, in bytes: it should be one number.
const ANSWER_MAX_BYTES: usize = 64 << 10;
/// The longest explanation of the server that is repeated, in bytes.
const SAID_MAX_BYTES: usize = 300;

/// What the adapter may be told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The server, as in `http://prometheus:9090`.
    pub address: String,
    /// The queries.
    pub queries: BTreeMap<Query, String>,
    /// How old a value may be: three lost scrapes at an interval of 15 s.
    pub stale: Duration,
}

impl Settings {
    /// The server at `address`, with queries over the names that client libraries and people
    /// commonly give, labelled `environment` and `service`.
    pub fn new(address: impl Into<String>) -> Self {
        let of = "environment=\"$environment\",service=\"$service\"";
        let rate = |how: &str, name: &str| format!("{how}(rate({name}{{{of}}}[1m]))");
        Self {
            address: address.into(),
            queries: BTreeMap::from([
                (Query::Metric(Metric::Cpu), format!("100 * {}", rate("avg", "process_cpu_seconds_total"))),
                (Query::Metric(Metric::Queue), format!("sum(queue_depth{{{of}}})")),
                (Query::Metric(Metric::Rps), rate("sum", "http_requests_total")),
            ]),
            stale: Duration::from_secs(45),
        }
    }
}

/// Asks a Prometheus server.
#[derive(Debug, Clone)]
pub struct Prometheus {
    settings: Settings,
    url: String,
    client: Client,
}

/// What the server answers.
#[derive(Deserialize)]
struct Answer {
    status: Status,
    data: Option<Data>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Success,
    Error,
}

#[derive(Deserialize)]
#[serde(tag = "resultType", content = "result", rename_all = "lowercase")]
enum Data {
    Vector(Vec<Element>),
    Scalar(At),
    Matrix(serde::de::IgnoredAny),
    String(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct Element {
    value: At,
}

/// Seconds since 1970, and the value as text.
#[derive(Deserialize)]
struct At(f64, String);

impl Prometheus {
    /// Asks the server that `settings` name.
    pub fn new(settings: Settings) -> Result<Self, Failure> {
        let url = format!("{}/api/v1/query", http_api::base(&settings.address)?);
        Ok(Self { settings, url, client: http_api::client()? })
    }

    fn text(&self, of: &Subject, query: &Query) -> Result<String, Failure> {
        let Some(text) = self.settings.queries.get(query) else { return query.unknown() };
        // Neither name can hold a quote or a backslash.
        Ok(text.replace("$environment", of.environment.as_str()).replace("$service", of.service.as_str()))
    }
}

#[async_trait]
impl Metrics for Prometheus {
    async fn sample(&self, of: &Subject, query: &Query) -> Result<Option<Sample>, Failure> {
        let text = self.text(of, query)?;
        let lookback = format!("{}s", self.settings.stale.as_secs_f64());
        let url = Url::parse_with_params(&self.url, [("query", text.as_str()), ("lookback_delta", &lookback)]);
        let url = url.map_err(|error| Failure::permanent("asking Prometheus", error))?;
        let (status, body) = http_api::answer("asking Prometheus", self.client.get(url), ANSWER_MAX_BYTES).await?;
        read(query, status, &body)
    }
}

/// Reads an answer.
fn read(query: &Query, status: StatusCode, body: &[u8]) -> Result<Option<Sample>, Failure> {
    let answer: Option<Answer> = serde_json::from_slice(body).ok();
    let said = |answer: &Answer| {
        let said = answer.error.clone().unwrap_or_default();
        protocol::text::shortened(&said, SAID_MAX_BYTES).into_owned()
    };
    let bad = |why: String| Err(Failure::named("BadQuery", format!("the query for {query} {why}; mend it")));
    let data = match (&answer, status) {
        // The query cannot be parsed, or not be computed.
        (Some(answer), StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => {
            return bad(format!("is refused: {}", said(answer)));
        }
        (Some(Answer { status: Status::Success, data: Some(data), .. }), StatusCode::OK) => data,
        (Some(answer), _) => {
            return Err(Failure::transient(
                "asking Prometheus",
                format!("it answered with {status}: {}", said(answer)),
            ));
        }
        (None, _) => return Err(Failure::transient("asking Prometheus", format!("it answered with {status}"))),
    };
    let At(seconds, value) = match data {
        Data::Scalar(at) => at,
        Data::Vector(elements) => match elements.as_slice() {
            [] => return Ok(None),
            [element] => &element.value,
            more => return bad(format!("has {} answers and should have one", more.len())),
        },
        Data::Matrix(_) | Data::String(_) => return bad("answers no number".into()),
    };
    let value: f64 = match value.parse() {
        Ok(value) => value,
        Err(_) => return Err(Failure::transient("asking Prometheus", "its value is no number")),
    };
    let at = Time::from_micros((seconds * 1e6) as i64);
    Ok(value.is_finite().then_some(Sample { value, at, missing: 0 }))
}

#[cfg(test)]
mod tests;
