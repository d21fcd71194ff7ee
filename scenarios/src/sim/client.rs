//! Whoever uses Skald in a simulation: starts sagas, signals, decides, cancels, and asks again until
//! it is answered, as a careful client does.

use std::sync::Arc;
use std::time::Duration;

use protocol::command::ReleaseDecision;
use protocol::view::Status;
use protocol::{Code, Principal, Problem, SagaId, SagaKey, TraceId, Value};
use supervisor::machine::{Definition, FactKind, Operator, Parent, Start};
use supervisor::tree::reply::Reply;
use supervisor::tree::shard::{Message, Right};
use tokio::time::{Instant, sleep};

use super::link::Link;
use super::node::Bus;
use crate::check::Command;

/// How long a client goes on asking.
const PATIENCE: Duration = Duration::from_secs(600);
/// The pause before it asks again.
const AGAIN: Duration = Duration::from_millis(150);

/// One saga's user.
pub struct User {
    /// The nodes.
    pub bus: Arc<Bus>,
    /// Its way to them.
    pub link: Arc<Link>,
    /// The saga.
    pub saga: SagaId,
    /// What it runs.
    pub definition: Arc<Definition>,
    /// Signals that it waits for.
    pub signals: Vec<String>,
    /// Signals that come besides, each with an id of its own.
    pub noise: u64,
    /// Whether a person is asked.
    pub asks: bool,
    /// Whether, and when, it is cancelled.
    pub cancel: Option<Duration>,
}

/// Somebody who takes the key that a saga's child would get: the child of another parent, which was told
/// that key.
pub struct Stranger {
    /// The nodes.
    pub bus: Arc<Bus>,
    /// Its way to them.
    pub link: Arc<Link>,
    /// The saga that it starts.
    pub saga: SagaId,
    /// What that runs.
    pub definition: Arc<Definition>,
}

impl Stranger {
    /// Starts the saga, unless the child is there already.
    pub async fn play(self) {
        let elsewhere = SagaKey::new("elsewhere").expect("letters are a key");
        let start = starting(&self.definition, &self.link, Some((elsewhere, 1)));
        let message = start_message(&self.saga, &start, &self.definition);
        let answer = insist(&self.bus, &self.link, "a stranger's start", |node| {
            self.bus.command(&self.link, node, &self.saga, &message)
        });
        if answer.await.is_ok() {
            self.bus.world.accepted(&self.saga, Command::Start);
        }
    }
}

/// What starts a saga of `definition`.
fn starting(definition: &Definition, link: &Link, parent: Option<Parent>) -> Start {
    let trace = TraceId::new(format!("{:032x}", 1 + link.roll(u64::MAX - 1))).expect("digits are a trace");
    Start {
        definition: definition.reference().clone(),
        input: serde_json::json!({}),
        by: by(),
        trace,
        cause: "cmd".into(),
        causes: 0,
        parent,
        family: Default::default(),
        secret: None,
    }
}

fn start_message(
    saga: &SagaId,
    start: &Start,
    definition: &Arc<Definition>,
) -> impl Fn(Reply) -> Message + Send + Sync + use<> {
    let (saga, start, definition) = (saga.clone(), start.clone(), definition.clone());
    move |accepted| Message::Start {
        saga: saga.clone(),
        start: Box::new(start.clone()),
        definition: definition.clone(),
        accepted,
        outcome: None,
    }
}

/// Asks one node after another until there is an answer that is not "later".
async fn insist<F>(bus: &Bus, link: &Link, what: &str, ask: impl Fn(usize) -> F) -> Result<Value, Problem>
where
    F: Future<Output = Result<Value, Problem>>,
{
    let until = Instant::now() + PATIENCE;
    loop {
        let node = usize::try_from(link.roll(bus.nodes() as u64)).unwrap_or(0);
        match ask(node).await {
            Err(problem) if passes(problem.code) && Instant::now() < until => sleep(AGAIN).await,
            Err(problem) if passes(problem.code) => {
                return Err(Problem::new(problem.code, format!("{what} was never answered: {}", problem.message)));
            }
            answer => return answer,
        }
    }
}

fn by() -> Principal {
    Principal::new("ann").expect("a name is a principal")
}

impl User {
    /// Plays it to its end. Answers how it was shown in the end, or why that is not known.
    pub async fn play(self) -> Result<Status, String> {
        let link = self.link.clone();
        self.start(&link).await?;
        let me = Arc::new(self);
        let mut others = tokio::task::JoinSet::new();
        let loud = me.signals.first().map(|name| (0..me.noise).map(|number| (name.clone(), format!("noise{number}"))));
        let wanted = me.signals.iter().map(|name| (name.clone(), name.clone()));
        for (name, id) in loud.into_iter().flatten().chain(wanted).collect::<Vec<_>>() {
            let (me, link) = (me.clone(), link.clone());
            others.spawn(async move { me.signal(&link, name, id).await });
        }
        if let Some(after) = me.cancel {
            let (me, link) = (me.clone(), link.clone());
            others.spawn(async move {
                sleep(after).await;
                me.cancel(&link).await;
            });
        }
        if me.asks {
            let (me, link) = (me.clone(), link.clone());
            others.spawn(async move { me.decide(&link).await });
        }
        let end = me.end(&link).await;
        while others.join_next().await.is_some() {}
        end
    }

    /// Asks until there is an answer that is not "later".
    async fn insist<F>(&self, what: &str, ask: impl Fn(usize) -> F) -> Result<Value, Problem>
    where
        F: Future<Output = Result<Value, Problem>>,
    {
        insist(&self.bus, &self.link, what, ask).await
    }

    async fn start(&self, link: &Arc<Link>) -> Result<(), String> {
        let start = starting(&self.definition, &self.link, None);
        let message = start_message(&self.saga, &start, &self.definition);
        let answer = self.insist("a start", |node| self.bus.command(link, node, &self.saga, &message)).await;
        answer.map_err(|problem| format!("{} was not started: {problem}", self.saga))?;
        self.bus.world.accepted(&self.saga, Command::Start);
        Ok(())
    }

    async fn signal(&self, link: &Arc<Link>, name: String, id: String) {
        sleep(self.link.pause_up_to(Duration::from_secs(6))).await;
        let id = format!("{id}-{}", self.saga.key);
        let fact = FactKind::Signalled { name, payload: serde_json::json!(1), by: "ann".into(), id: id.clone() };
        let send = |node| self.bus.fact(link, node, &self.saga, fact.clone(), (by(), Right::Signal));
        if let Ok(answer) = self.insist("a signal", send).await
            && answer.get("ignored").is_none()
        {
            self.bus.world.accepted(&self.saga, Command::Signal(id));
        }
    }

    async fn cancel(&self, link: &Arc<Link>) {
        let fact = FactKind::CancelRequested { by: "ann".into(), reason: "changed my mind".into(), parent: None };
        let send = |node| self.bus.fact(link, node, &self.saga, fact.clone(), (by(), Right::Cancel));
        if let Ok(answer) = self.insist("a cancel", send).await
            && answer.get("ignored").is_none()
        {
            self.bus.world.accepted(&self.saga, Command::Cancel);
        }
    }

    /// Decides as soon as there is something to decide.
    async fn decide(&self, link: &Arc<Link>) {
        let fact = FactKind::TaskDecided { step: None, output: serde_json::json!({ "yes": true }), by: "ann".into() };
        for _ in 0..400 {
            sleep(Duration::from_millis(700)).await;
            let send = |node| self.bus.fact(link, node, &self.saga, fact.clone(), (by(), Right::Signal));
            let ended = match self.insist("a decision", send).await {
                Ok(_) => true,
                Err(_) => self.shown(link).await.is_ok_and(Status::is_final),
            };
            if ended {
                return;
            }
        }
    }

    async fn shown(&self, link: &Arc<Link>) -> Result<Status, String> {
        let message = |reply| Message::Describe(self.saga.clone(), by(), reply);
        let view = self.insist("a question", |node| self.bus.command(link, node, &self.saga, &message)).await;
        let view = view.map_err(|problem| format!("{} cannot be described: {problem}", self.saga))?;
        serde_json::from_value(view["status"].clone()).map_err(|error| error.to_string())
    }

    /// Waits for its end; lets an operator decide where it is stuck.
    async fn end(&self, link: &Arc<Link>) -> Result<Status, String> {
        let until = Instant::now() + PATIENCE;
        loop {
            sleep(Duration::from_millis(500)).await;
            match self.shown(link).await? {
                status if status.is_final() => return Ok(status),
                Status::Stuck => {
                    let decision = match self.link.roll(4) {
                        0 => return Ok(Status::Stuck),
                        1 => ReleaseDecision::Skip,
                        2 => ReleaseDecision::Abandon,
                        _ => ReleaseDecision::Retry,
                    };
                    let operator = Operator { decision, by: "ops".into(), reason: "seen to".into() };
                    let send = |node| {
                        let fact = FactKind::Operator(operator.clone());
                        self.bus.fact(link, node, &self.saga, fact, (by(), Right::Cancel))
                    };
                    // Refused when it went on by itself; the next look tells.
                    let _ = self.insist("a release", send).await;
                }
                status if Instant::now() > until => {
                    // Whether it may still be so is for the checker to say.
                    return Ok(status);
                }
                _ => {}
            }
        }
    }
}

const fn passes(code: Code) -> bool {
    matches!(code, Code::Unavailable | Code::Busy | Code::Timeout)
}
