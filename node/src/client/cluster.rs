//! Questions to every node at once. Nobody knows for certain who is alive, so the gathering ends
//! when all members that the answers name have spoken, or when nobody speaks any more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt as _;
use protocol::query::{Answer, Body, Query};
use protocol::{NodeId, subjects};

use super::{Client, Error};

/// The longest a gathering lasts.
const GATHER: Duration = Duration::from_secs(2);
/// How long after the last answer another one is still expected: several round trips, and short
/// enough that a question feels immediate.
const QUIET: Duration = Duration::from_millis(250);

impl Client {
    /// Asks every node; answers in the order of their names. Empty is not an answer: a cluster in
    /// which nobody speaks is [`Error::NoNode`].
    pub async fn query(&self, query: &Query) -> Result<Vec<Answer>, Error> {
        self.query_expecting(query, &BTreeSet::new()).await
    }

    /// Asks every node and waits for those in `expected` as long as a gathering lasts at most.
    pub async fn query_expecting(&self, query: &Query, expected: &BTreeSet<NodeId>) -> Result<Vec<Answer>, Error> {
        let lost = |error: &dyn std::fmt::Display| Error::Connection(error.to_string());
        let (begun, inbox) = (std::time::Instant::now(), self.nats.new_inbox());
        let mut answers = self.nats.subscribe(inbox.clone()).await.map_err(|error| lost(&error))?;
        let body = serde_json::to_vec(query).expect("questions are writable as JSON");
        self.nats
            .publish_with_reply(subjects::CLUSTER_QUERY, inbox, body.into())
            .await
            .map_err(|error| lost(&error))?;
        self.nats.flush().await.map_err(|error| lost(&error))?;

        let until = tokio::time::Instant::now() + GATHER;
        let mut expected = expected.clone();
        let mut gathered = BTreeMap::new();
        loop {
            // Before the first answer, and while a known member is silent, patience is long.
            let waiting = gathered.is_empty() || expected.iter().any(|node| !gathered.contains_key(node));
            let patience = if waiting { until } else { until.min(tokio::time::Instant::now() + QUIET) };
            let heard = tokio::time::timeout_at(patience, answers.next());
            let Ok(Some(message)) = self.allowed(subjects::CLUSTER_QUERY, begun, heard).await? else { break };
            if message.status == Some(async_nats::StatusCode::NO_RESPONDERS) {
                break;
            }
            // A node of another release may say what we cannot read; the others still count.
            let Ok(answer) = serde_json::from_slice::<Answer>(&message.payload) else { continue };
            if let Body::Health(health) = &answer.body {
                expected.extend(health.members.iter().filter_map(|member| NodeId::new(member).ok()));
            }
            gathered.insert(answer.node.clone(), answer);
            if !expected.is_empty() && expected.iter().all(|node| gathered.contains_key(node)) {
                break;
            }
        }
        if gathered.is_empty() {
            return Err(Error::NoNode { what: "query".into(), server: self.server() });
        }
        Ok(gathered.into_values().collect())
    }

    /// Asks one node.
    pub async fn query_node(&self, node: &NodeId, query: &Query) -> Result<Answer, Error> {
        let body = serde_json::to_vec(query).expect("questions are writable as JSON");
        let what = format!("query to node {node}");
        let message = self.request(&what, subjects::node(node), body, self.settings.timeout).await?;
        super::read(&what, message.headers.as_ref(), &message.payload, self.settings.readable)
    }
}
