//! Somebody who takes no refusal, and gives a command again only when nobody answers: what a rolling restart looks like
//! to a program.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_nats::client::RequestErrorKind;
use node::client::Client;
use protocol::{SagaId, Tenant};
use serde_json::json;
use tokio::task::JoinSet;

use crate::check::{Acknowledged, Command};
use crate::load::TENANT;
use crate::stage::{saga_key, start};

/// How many give commands at once.
const AT_ONCE: usize = 4;
/// The pause between two commands of one of them.
const PAUSE: Duration = Duration::from_millis(20);
/// How long an answer is waited for before the same command is given once more: what was on its way to a node in the
/// moment in which it left stays unanswered, and our own client repeats it after as long.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// How often a command is given at most.
const GIVEN_MAX: u32 = 3;

/// What came of it.
#[derive(Clone, Default, Debug)]
pub struct Figures {
    /// How long each accepted command took, in order once [`Figures::sort`] was called.
    pub took: Vec<Duration>,
    /// Commands that were refused or not answered, with what was said.
    pub failed: Vec<String>,
    /// Those that were accepted.
    pub acknowledged: Vec<Acknowledged>,
    /// Those that were given again because nobody had answered.
    pub repeated: usize,
}

impl Figures {
    /// Adds another's.
    pub fn merge(&mut self, other: Self) {
        self.took.extend(other.took);
        self.failed.extend(other.failed);
        self.acknowledged.extend(other.acknowledged);
        self.repeated += other.repeated;
        self.took.sort_unstable();
    }
}

/// Commands that are being given.
#[derive(Debug)]
pub struct Strict {
    stop: Arc<AtomicBool>,
    tasks: JoinSet<Figures>,
}

impl Strict {
    /// Begins; keys begin with `name`, which no other may have.
    pub fn begin(client: &Client, name: &str) -> Self {
        let (stop, next) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..AT_ONCE {
            tasks.spawn(give(client.clone(), name.to_owned(), next.clone(), stop.clone()));
        }
        Self { stop, tasks }
    }

    /// Ends, after the commands under way.
    pub async fn end(mut self) -> Figures {
        self.stop.store(true, Relaxed);
        let mut all = Figures::default();
        while let Some(figures) = self.tasks.join_next().await {
            match figures {
                Ok(figures) => all.merge(figures),
                Err(error) => all.failed.push(format!("a task ended: {error}")),
            }
        }
        all
    }
}

async fn give(client: Client, name: String, next: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Figures {
    let mut figures = Figures::default();
    while !stop.load(Relaxed) {
        let key = format!("{name}-{}", next.fetch_add(1, Relaxed));
        let body = serde_json::to_vec(&start("telling", &key, json!({ "title": "strict" }))).unwrap_or_default();
        let subject = format!("skald.cmd.{TENANT}.ann.saga.start");
        let began = Instant::now();
        let mut given = 1;
        let answer = loop {
            let request = async_nats::Request::new().payload(body.clone().into()).timeout(Some(ANSWER_WITHIN));
            match client.nats().send_request(subject.clone(), request).await {
                Err(error) if error.kind() == RequestErrorKind::TimedOut && given < GIVEN_MAX => given += 1,
                answer => break answer,
            }
        };
        figures.repeated += usize::from(given > 1);
        match answer {
            Ok(answer) => {
                let text = String::from_utf8_lossy(&answer.payload).into_owned();
                // A hand-over in the middle may have asked twice: the saga is there, and that counts.
                if text.contains("\"created\":") {
                    figures.took.push(began.elapsed());
                    let tenant = Tenant::new(TENANT).expect("a usable tenant");
                    let saga = SagaId::new(tenant, saga_key(&key));
                    figures.acknowledged.push(Acknowledged { saga, what: Command::Start });
                } else {
                    figures.failed.push(format!("{key} after {:.1?}: {text}", began.elapsed()));
                }
            }
            Err(error) => figures.failed.push(format!("{key} after {:.1?}: {error}", began.elapsed())),
        }
        tokio::time::sleep(PAUSE).await;
    }
    figures
}
