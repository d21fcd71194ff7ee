//! What a run is judged by: the checker over everything it left, the plan of its load, what was
//! buried, and whether another tenant sees any of it.

use std::time::Duration;

use async_nats::HeaderMap;
use node::client::{Client, Error};
use protocol::Code;
use protocol::command::{Cancel, List, Signal};
use serde_json::Value;
use tokio::time::Instant;

use super::cluster::{Cluster, client};
use super::read::{self, Left, Letter};
use crate::check::{Acknowledged, Verdict, check, invariant};
use crate::load::{Clocks, Planned, Span, TENANT, violations};
use crate::stage::saga_key;

/// How long sagas of strict clients and children may take to end after the load has.
const ENDED_WITHIN: Duration = Duration::from_secs(60);
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// What nobody can understand, to see it buried whole.
const NONSENSE: &str = "this is no command";
/// A header that goes with it.
const MARK: (&str, &str) = ("Story-Mark", "kept with the letter");
/// Somebody else.
const STRANGER: &str = "globex";
/// How many sagas the stranger asks for by name.
const ASKED: usize = 20;

/// What was found.
pub struct Judgement {
    /// What the checker says.
    pub verdict: Verdict,
    /// What else is wrong, in sentences.
    pub wrong: Vec<String>,
    /// What the run left.
    pub left: Left,
}

/// Judges a run whose load has ended.
pub async fn judge(
    cluster: &Cluster,
    planned: &[Planned],
    acknowledged: Vec<Acknowledged>,
    clocks: Clocks,
    still: &[Span],
) -> anyhow::Result<Judgement> {
    let client = &cluster.clients[0];
    nonsense(client).await?;
    let begun = Instant::now();
    let (left, verdict) = loop {
        let mut left = read::everything(client, &cluster.ledger, acknowledged.clone()).await?;
        left.history.clocks_true = matches!(clocks, Clocks::True);
        let verdict = check(&left.history);
        let under_way = verdict.violations.iter().any(|violation| violation.invariant == invariant::ENDS);
        // The event of a saga that has just ended is on its way as well, and so is the letter.
        let buried = left.dead.iter().any(|letter| letter.whole.contains(NONSENSE));
        let events = verdict.violations.iter().any(|violation| violation.invariant == invariant::EVENTS);
        if begun.elapsed() > ENDED_WITHIN || (!under_way && !events && buried) {
            break (left, verdict);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let mut wrong = violations(client, &cluster.ledger, planned, clocks, still).await?;
    wrong.extend(buried(&left.dead));
    wrong.extend(strangers(planned).await?);
    wrong.extend(cluster.nodes.panics());
    Ok(Judgement { verdict, wrong, left })
}

/// Says something that nobody can understand, to nobody in particular.
async fn nonsense(client: &Client) -> anyhow::Result<()> {
    let mut headers = HeaderMap::new();
    headers.insert(MARK.0, MARK.1);
    let subject = format!("skald.cmd.{TENANT}.ann.saga.start");
    client.nats().publish_with_headers(subject, headers, NONSENSE.into()).await?;
    Ok(client.nats().flush().await?)
}

/// The nonsense is kept whole, and nothing else was buried.
fn buried(dead: &[Letter]) -> Vec<String> {
    let (expected, others): (Vec<_>, Vec<_>) = dead.iter().partition(|letter| letter.whole.contains(NONSENSE));
    let mut wrong: Vec<_> =
        others.iter().map(|letter| format!("a dead letter that nobody expected: {letter:?}")).collect();
    match expected.first() {
        None => wrong.push("a command that nobody understands was not kept as a dead letter".into()),
        Some(letter) => {
            let parts = [MARK.0, MARK.1, "skald.cmd.acme.ann.saga.start"];
            let missing: Vec<_> = parts.iter().filter(|part| !letter.whole.contains(**part)).collect();
            if !missing.is_empty() {
                wrong.push(format!("the dead letter lacks {missing:?}: {letter:?}"));
            }
        }
    }
    wrong
}

/// Another tenant lists nothing of the run's sagas and can neither see nor touch one.
async fn strangers(planned: &[Planned]) -> anyhow::Result<Vec<String>> {
    let stranger = client(0, STRANGER).await?;
    let mut wrong = Vec::new();
    let rows = stranger.list(&List { limit: Some(10), ..List::default() }).await?;
    if !rows.is_empty() {
        wrong.push(format!("tenant {STRANGER} lists {rows:?}"));
    }
    for saga in planned.iter().take(ASKED) {
        let key = saga_key(&saga.key);
        let signal = Signal { key: key.clone(), name: "go".into(), payload: Value::Null, id: None };
        let cancel = Cancel { key: key.clone(), reason: "a stranger's".into() };
        let answers = [
            ("describe", stranger.describe(&key).await.map(drop)),
            ("history", stranger.history(&key).await.map(drop)),
            ("signal", stranger.signal(&signal).await.map(drop)),
            ("cancel", stranger.cancel(&cancel).await.map(drop)),
        ];
        for (what, answer) in answers {
            match answer {
                Err(Error::Refused(problem)) if problem.code == Code::NotFound => {}
                other => wrong.push(format!("tenant {STRANGER} may {what} {key}: {other:?}")),
            }
        }
    }
    Ok(wrong)
}
