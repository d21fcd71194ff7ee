//! A person's word to a worker: run now, pause, resume. It goes to the node that runs it, like a
//! command about a saga, and is written down for the audit where it is carried out.

use std::time::Duration;

use protocol::codec::Format;
use protocol::command::{PauseWorker, ResumeWorker, Routed, RunWorker, name};
use protocol::envelope::trace_of;
use protocol::{Code, Environment, Principal, Problem, WorkerId, WorkerKind};
use supervisor::tree::reply::{Reply, moved};
use supervisor::tree::workers::{Asked, Post, worker::Message};
use tokio::sync::oneshot;
use tracing::info;

use super::AUDIT;
use super::dispatch::{ANSWER_MAX, Answer, Dispatcher, START_WAIT_MAX_MS};
use super::routing::Place;

/// What is asked of which worker.
enum Word {
    Run(Option<Duration>),
    Pause(String),
    Resume,
}

impl Dispatcher {
    /// Carries out a command about one worker of the command's tenant; another tenant's has no name
    /// here.
    pub(super) async fn worker(&self, format: Format, routed: Routed, by: Principal) -> Answer {
        let (kind, environment, word) = self.word(format, &routed)?;
        let worker = WorkerId::new(kind, routed.tenant.clone(), environment);
        let shard = worker.shard(self.router.shards);
        let wait = match &word {
            Word::Run(wait) => wait.unwrap_or_default(),
            Word::Pause(_) | Word::Resume => Duration::ZERO,
        };
        match self.router.place_of(shard) {
            Place::Elsewhere => return self.router.forward_to(shard, routed, wait).await,
            Place::Here(_) => {}
        }
        let post = self.post(&worker)?;
        let (command, at) = (routed.command.clone(), routed.received_at);
        let answer = match word {
            Word::Run(wait) => run(&post, routed, by.clone(), wait).await,
            Word::Pause(reason) => tell(&post, |reply| Message::Pause(by.clone(), reason, reply)).await,
            Word::Resume => tell(&post, |reply| Message::Resume(by.clone(), reply)).await,
        };
        if answer.is_ok() {
            info!(target: AUDIT, %worker, command, by = format!("{}/{by}", worker.tenant), %at, "worker told");
        }
        answer
    }

    fn word(&self, format: Format, routed: &Routed) -> Result<(WorkerKind, Environment, Word), Problem> {
        Ok(match routed.command.as_str() {
            name::WORKER_RUN => {
                let RunWorker { kind, environment, wait_ms } = self.read(format, routed)?;
                (kind, environment, Word::Run(wait_ms.map(|ms| Duration::from_millis(ms.min(START_WAIT_MAX_MS)))))
            }
            name::WORKER_PAUSE => {
                let PauseWorker { kind, environment, reason } = self.read(format, routed)?;
                (kind, environment, Word::Pause(reason))
            }
            _ => {
                let ResumeWorker { kind, environment } = self.read(format, routed)?;
                (kind, environment, Word::Resume)
            }
        })
    }

    fn post(&self, worker: &WorkerId) -> Result<Post, Problem> {
        let WorkerId { tenant, kind, environment } = worker;
        let kinds = self.workers.kinds();
        if !kinds.contains_key(kind) {
            let known: Vec<&str> = kinds.keys().map(WorkerKind::as_str).collect();
            let what = if known.is_empty() { "no kinds of workers".to_owned() } else { known.join(", ") };
            return Err(Problem::new(Code::NotFound, format!("there is no worker of the kind {kind}"))
                .mend(format!("the nodes have {what}")));
        }
        match self.workers.find(worker) {
            Some(post) => Ok(post),
            // The shard came a moment ago, and its workers are not all there yet.
            None if !self.workers.is_settled(*self.router.places.changes().borrow()) => Err(moved()),
            None => Err(Problem::new(
                Code::NotFound,
                format!("{tenant} has no environment {environment} that {kind} looks after"),
            )
            .mend("`skald workers` names those that there are; a new one is seen within seconds")),
        }
    }
}

async fn run(post: &Post, routed: Routed, by: Principal, wait: Option<Duration>) -> Answer {
    let asked = Asked { by, trace: routed.trace.as_deref().and_then(trace_of), id: routed.id };
    let (ended, told) = match wait {
        Some(wait) => {
            let (reply, told) = Reply::channel();
            (Some(reply), Some((wait, told)))
        }
        None => (None, None),
    };
    let accepted = tell(post, |accepted| Message::RunNow { asked, accepted, ended }).await?;
    let Some((wait, told)) = told else { return Ok(accepted) };
    match tokio::time::timeout(wait, told).await {
        Ok(answer) => answer.unwrap_or_else(|_| Err(moved())),
        Err(_) => Err(Problem::new(Code::Timeout, format!("the run has not ended within {wait:?}"))
            .mend("it goes on; `skald workers KIND --environment ENV` shows how it goes")),
    }
}

async fn tell(post: &Post, message: impl FnOnce(Reply) -> Message) -> Answer {
    let (reply, told): (_, oneshot::Receiver<Answer>) = Reply::channel();
    post.handle.tell(message(reply));
    match tokio::time::timeout(ANSWER_MAX, told).await {
        Ok(answer) => answer.unwrap_or_else(|_| Err(moved())),
        Err(_) => Err(Problem::new(Code::Unavailable, format!("not kept within {ANSWER_MAX:?}"))
            .mend("it counts on that node already, and is kept as soon as NATS answers; asking again is safe")
            .retry_after_ms(1_000)),
    }
}
