//! The arbiter's shell: every action on a service passes through one value, and what follows from a
//! decision is told, whoever dies in between.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use actors::runtime::arbiter::{Command, Outcome, Request, Source};
use actors::runtime::arbitration::{Arbitration, Asker};
use actors::runtime::model::{DeploymentId, Digest, EnvironmentId, RequestKey, Revision, ServiceId, Stage};
use actors::runtime::records::place::Place;
use actors::runtime::store::MemoryStore;
use async_trait::async_trait;
use bytes::Bytes;
use protocol::{Envelope, Principal, Tenant, Time, TraceId};
use supervisor::ports::{Clock, Outbox, Unavailable};

struct Noon;

impl Clock for Noon {
    fn now(&self) -> Time {
        Time::from_micros(1_700_000_000_000_000)
    }
}

/// Hears what is told; away for as long as it is told to be.
#[derive(Default)]
struct Ear {
    away: AtomicBool,
    heard: Mutex<Vec<Envelope>>,
}

impl Ear {
    fn heard(&self) -> Vec<(String, String)> {
        let heard = self.heard.lock().unwrap();
        heard.iter().map(|event| (event.event_type.clone(), event.event_id.to_string())).collect()
    }
}

#[async_trait]
impl Outbox for Ear {
    async fn publish(&self, event: &Envelope) -> Result<(), Unavailable> {
        if self.away.load(SeqCst) {
            return Err(Unavailable("it is away".into()));
        }
        self.heard.lock().unwrap().push(event.clone());
        Ok(())
    }

    async fn bury(&self, _: &str, _: &str, _: &str, _: Bytes) -> Result<(), Unavailable> {
        Ok(())
    }
}

struct World {
    arbitration: Arbitration,
    ear: Arc<Ear>,
    place: Place,
    asker: Asker,
}

impl World {
    fn new() -> Self {
        let ear: Arc<Ear> = Arc::default();
        let tenant = Tenant::new("acme").unwrap();
        Self {
            arbitration: Arbitration::new(Arc::new(MemoryStore::new()), ear.clone(), Arc::new(Noon)),
            ear,
            place: Place {
                owner: tenant.clone(),
                environment: EnvironmentId::new("prod").unwrap(),
                service: ServiceId::new("web").unwrap(),
            },
            asker: Asker { tenant, trace: TraceId::new("t").unwrap(), saga: "acme/story".into() },
        }
    }

    async fn ask(&self, key: &str, source: Source, command: Command) -> Result<Option<u64>, String> {
        let request = Request {
            key: RequestKey::new(key).unwrap(),
            source,
            by: Principal::new("kim").unwrap(),
            asked_at: Noon.now(),
            command,
        };
        let answer = self.arbitration.ask(&self.place, &self.asker, Stage::Dev, &request).await;
        answer.map(|answer| answer.sequence).map_err(|failure| format!("{}: {}", failure.error, failure.cause))
    }
}

fn deploy(number: char) -> Command {
    let to = Revision {
        deployment_id: DeploymentId::new(format!("d{number}")).unwrap(),
        image: Digest::new(format!("sha256:{}", number.to_string().repeat(64))).unwrap(),
        version: format!("v{number}"),
        replicas: 1,
        configuration: None,
        secrets: Default::default(),
        restarts: 0,
    };
    Command::Deploy { to, anew: false }
}

fn finished(sequence: u64, outcome: Outcome) -> Command {
    Command::Finished { sequence, outcome }
}

#[tokio::test]
async fn of_many_who_ask_at_once_one_acts() {
    let world = World::new();
    let (a, b, c) = tokio::join!(
        world.ask("a", Source::Operator, deploy('1')),
        world.ask("b", Source::Operator, deploy('2')),
        world.ask("c", Source::Sync, deploy('3')),
    );
    let answers = [a, b, c];
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 1, "{answers:?}");
    let told = answers.iter().filter_map(|answer| answer.as_ref().err());
    assert!(told.clone().all(|why| why.starts_with("Busy: ") && why.contains("ask again")), "{answers:?}");
}

#[tokio::test]
async fn what_was_taken_back_is_refused_with_what_to_do() {
    let world = World::new();
    let first = world.ask("a", Source::Operator, deploy('1')).await.unwrap().unwrap();
    world.ask("a-end", Source::Runner, finished(first, Outcome::Succeeded)).await.unwrap();
    let second = world.ask("b", Source::Operator, deploy('2')).await.unwrap().unwrap();
    let back = Outcome::RolledBack { why: "it answers 500".into() };
    world.ask("b-end", Source::Runner, finished(second, back)).await.unwrap();
    let refused = world.ask("c", Source::Sync, deploy('2')).await.unwrap_err();
    assert!(refused.starts_with("Held: prod/web: ") && refused.contains("it answers 500"), "{refused}");
    assert!(refused.ends_with("`skald services unhold web --environment prod`"), "{refused}");
    assert!(world.ear.heard().iter().any(|(kind, _)| kind == "RuntimeReleaseHeld"));
}

#[tokio::test]
async fn what_could_not_be_told_is_told_by_whoever_comes_next() {
    let world = World::new();
    world.ear.away.store(true, SeqCst);
    let told = world.ask("a", Source::Operator, deploy('1')).await.unwrap_err();
    assert!(told.starts_with("Transient: telling"), "{told}");
    // It was decided nevertheless, and nobody gets on before it is told.
    assert!(world.ask("b", Source::Operator, deploy('2')).await.unwrap_err().starts_with("Transient: telling"));
    world.ear.away.store(false, SeqCst);
    assert_eq!(world.ask("a", Source::Operator, deploy('1')).await, Ok(Some(1)));
    let heard = world.ear.heard();
    assert_eq!(heard.len(), 1, "{heard:?}");
    assert_eq!(heard[0].0, "RuntimeActionStarted");
    world.arbitration.tell(&world.place).await.unwrap();
    assert_eq!(world.ear.heard(), heard, "once is enough");
}
