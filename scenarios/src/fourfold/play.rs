//! One run of a definition with its real activities, on one simulated node after another.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use protocol::view::Status;
use protocol::{Principal, SagaId, SagaKey, Tenant, TraceId, Value};
use supervisor::activity::Activity;
use supervisor::machine::Start;
use supervisor::tree::shard::Message;
use tokio::time::{Instant, sleep};

use super::mischief::{Disturbed, Mischief};
use super::{Stage, Subject};
use crate::dice::Dice;
use crate::sim::link::{Link, Weather};
use crate::sim::node::Bus;
use crate::sim::ports::Library;
use crate::sim::world::World;

/// How long a run may take, in simulated time: retries have long pauses.
const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

/// What a run came to.
#[derive(Clone, PartialEq, Debug)]
pub struct Played {
    /// How it ended, or where it stands.
    pub status: Status,
    /// Why, for a person.
    pub why: String,
    /// The traces before.
    pub before: BTreeMap<String, String>,
    /// The traces after.
    pub after: BTreeMap<String, String>,
    /// Whether the crash that was asked for came.
    pub crashed: bool,
}

/// Plays `subject` once. The node dies after `crash_after` records and begins again; 0: it does not.
pub fn play(subject: &Subject<'_>, mischief: Mischief, crash_after: i64) -> Played {
    let stage: Arc<dyn Stage> = (subject.stage)().into();
    let before = stage.traces();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    let runtime = runtime.expect("the machine has room for a runtime");
    let (status, why, crashed) = runtime.block_on(run(subject, stage.clone(), mischief, crash_after));
    Played { status, why, before, after: stage.traces(), crashed }
}

async fn run(
    subject: &Subject<'_>,
    stage: Arc<dyn Stage>,
    mischief: Mischief,
    crash_after: i64,
) -> (Status, String, bool) {
    let definition = subject.definition.clone();
    let library = Library { by_reference: HashMap::from([(definition.reference().clone(), definition.clone())]) };
    let under_way = Arc::new(AtomicUsize::new(0));
    let (on_stage, counted) = (stage.clone(), under_way.clone());
    let offer = move |link: &Arc<Link>, _: &str| -> Vec<Arc<dyn Activity>> {
        let disturb = |inner| -> Arc<dyn Activity> {
            let (mischief, link, under_way) = (mischief.clone(), link.clone(), counted.clone());
            Arc::new(Disturbed { inner, mischief, link, under_way })
        };
        on_stage.activities().into_iter().map(disturb).collect()
    };
    let bus = Bus::new(World::new(Dice::new(1)), Arc::new(library), (1, 1), Box::new(offer));
    bus.start(0).await;
    let client = Link::new(&bus.world, Weather::FAIR);
    let saga = SagaId::new(tenant(), SagaKey::new("subject").expect("letters are a key"));
    let by = Principal::new("kim").expect("letters are a principal");
    let start = Start {
        definition: definition.reference().clone(),
        input: stage.input(),
        by: by.clone(),
        trace: TraceId::new("00000000000000000000000000000001").expect("32 digits are a trace"),
        cause: "test".into(),
        causes: 0,
        parent: None,
        family: Default::default(),
        secret: None,
    };
    bus.dies_after.store(crash_after, SeqCst);
    let mut crashed = false;
    let until = Instant::now() + PATIENCE;
    let mut view = Value::Null;
    while Instant::now() < until {
        if bus.life(0).is_none() {
            crashed = true;
            while under_way.load(SeqCst) > 0 {
                sleep(Duration::from_millis(1)).await;
            }
            bus.kill(0);
            bus.start(0).await;
        }
        // Starting it again is asking for the same saga.
        let message = |accepted| Message::Start {
            saga: saga.clone(),
            start: Box::new(start.clone()),
            definition: definition.clone(),
            accepted,
            outcome: None,
        };
        let started = bus.command(&client, 0, &saga, &message).await;
        let message = |reply| Message::Describe(saga.clone(), by.clone(), reply);
        if started.is_ok()
            && let Ok(found) = bus.command(&client, 0, &saga, &message).await
        {
            view = found;
            let status = status(&view);
            if status.is_final() || status == Status::Stuck {
                break;
            }
        }
        sleep(Duration::from_millis(500)).await;
    }
    // What it left is looked at when nothing moves any more.
    while under_way.load(SeqCst) > 0 {
        sleep(Duration::from_millis(1)).await;
    }
    let why = format!("{} {} {}", view["state"], view["outcome"], view["waiting"]);
    (status(&view), why, crashed)
}

fn status(view: &Value) -> Status {
    serde_json::from_value(view["status"].clone()).unwrap_or(Status::Running)
}

fn tenant() -> Tenant {
    Tenant::new("acme").expect("letters are a tenant")
}
