//! One run of one seed, from the plan to the verdict.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use protocol::view::Status;
use protocol::{NodeId, SagaId, SagaKey, Tenant};
use supervisor::activity::Activity;
use supervisor::journal::frame::Frame;
use supervisor::machine::{Definition, FactKind, child_key};
use supervisor::ports::Lease;

use super::activities::Work;
use super::client::{Stranger, User};
use super::definitions::{Drawn, child, draw};
use super::faults;
use super::link::{Link, Weather};
use super::node::Bus;
use super::plan::Plan;
use super::ports::Library;
use super::world::World;
use crate::check::{Entry, History, Verdict, Violation, check};
use crate::dice::Dice;

/// How long, in simulated time, relays and children may take after the last saga that somebody waits
/// for has ended.
const SETTLE: Duration = Duration::from_secs(60);

/// The last step whose child's key a stranger may take: few sagas have more.
const STRANGERS_STEP_MAX: u64 = 8;

/// What a run came to.
pub struct Outcome {
    /// The plan.
    pub plan: Plan,
    /// What the checker says.
    pub verdict: Verdict,
    /// Sagas, children included.
    pub sagas: usize,
    /// Records in the journal.
    pub records: usize,
    /// Attempts of activities.
    pub attempts: usize,
    /// Appends that the fence refused.
    pub fenced: u64,
    /// Late effects that an undo's mark refused.
    pub refused_late: u64,
    /// What happened, for a person.
    pub story: Vec<String>,
    /// The records of the first saga that something is wrong with.
    pub account: Vec<String>,
    /// The same for the same seed: a digest of the whole journal, ledger and event stream.
    pub digest: u64,
}

/// Plays a plan on a runtime of its own.
pub fn run(plan: &Plan) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime without threads and sockets needs nothing");
    #[cfg(feature = "simulation")]
    supervisor::simulation::shake_from(plan.shaken.then_some(plan.seed));
    runtime.block_on(play(plan.clone()))
}

async fn play(plan: Plan) -> Outcome {
    let mut dice = Dice::new(plan.seed.rotate_left(17) ^ 0x5ca1_d000);
    let world = World::new(dice.clone());
    let mut drawn: Vec<Drawn> = (0..plan.definitions).map(|number| draw(&mut dice, number, plan.long_names)).collect();
    drawn.push(child(&mut dice));
    let parsed: Vec<Arc<Definition>> = drawn
        .iter()
        .map(|drawn| match Definition::parse(&drawn.source, "drawn") {
            Ok((definition, _)) => Arc::new(definition),
            Err(faults) => panic!("seed {} drew what cannot be deployed: {faults}\n{}", plan.seed, drawn.source),
        })
        .collect();
    let library = Arc::new(Library {
        by_reference: parsed.iter().map(|definition| (definition.reference().clone(), definition.clone())).collect(),
    });
    let outside = world.clone();
    let offer = move |link: &Arc<Link>, node: &str| -> Vec<Arc<dyn Activity>> {
        vec![Arc::new(Work { world: outside.clone(), link: link.clone(), node: node.to_owned() })]
    };
    let bus = Bus::new(world.clone(), library, (plan.nodes, plan.shards), Box::new(offer));
    {
        let mut server = bus.server.inner();
        (server.window, server.refuses) = (plan.window, plan.refuses);
    }
    for node in 0..plan.nodes {
        bus.start(node).await;
    }
    let alive = tokio::spawn(faults::keep_alive(bus.clone()));
    let mut users = tokio::task::JoinSet::new();
    for number in 0..plan.sagas {
        let which = dice.roll(parsed.len() as u64) as usize;
        let user = User {
            bus: bus.clone(),
            link: Link::new(&world, Weather { delay: Duration::from_millis(20), ..Weather::FAIR }),
            saga: SagaId::new(tenant(), key(number, plan.long_names)),
            definition: parsed[which].clone(),
            signals: drawn[which].signals.clone(),
            noise: plan.noise,
            asks: drawn[which].asks,
            cancel: (dice.roll(5) == 0).then(|| Duration::from_millis(dice.roll(6_000))),
        };
        let begin = Duration::from_millis(dice.roll(8_000));
        users.spawn(async move {
            tokio::time::sleep(begin).await;
            (user.saga.clone(), user.play().await)
        });
    }
    // Dice of their own, so that the sagas above are drawn as they would be without them.
    let mut dice = Dice::new(plan.seed.rotate_left(31) ^ 0x57a4_6e72);
    let mut strangers = tokio::task::JoinSet::new();
    for _ in 0..plan.sagas.div_ceil(2) {
        let robbed = SagaKey::new(format!("saga-{}", dice.roll(plan.sagas as u64))).expect("a key");
        let stranger = Stranger {
            bus: bus.clone(),
            link: Link::new(&world, Weather { delay: Duration::from_millis(20), ..Weather::FAIR }),
            saga: SagaId::new(tenant(), child_key(&robbed, 1 + dice.roll(STRANGERS_STEP_MAX), 1)),
            definition: parsed.last().expect("the child is there").clone(),
        };
        let begin = Duration::from_millis(dice.roll(8_000));
        strangers.spawn(async move {
            tokio::time::sleep(begin).await;
            stranger.play().await;
        });
    }
    faults::trouble(&bus, &plan).await;
    let mut shown = BTreeMap::new();
    while let Some(user) = users.join_next().await {
        let (saga, end) = user.expect("a user does not panic");
        shown.insert(saga, end);
    }
    while strangers.join_next().await.is_some() {}
    tokio::time::sleep(SETTLE).await;
    alive.abort();
    finish(plan, &bus, &shown)
}

fn finish(plan: Plan, bus: &Bus, shown: &BTreeMap<SagaId, Result<Status, String>>) -> Outcome {
    let server = bus.server.inner();
    let inner = bus.world.inner();
    let history = History {
        acknowledged: inner.acknowledged.clone(),
        ledger: inner.ledger.clone(),
        journal: server.journal(plan.shards),
        events: server.events(),
        buried: server.buried(),
        turned_back: server.turned_back(),
        definitions: bus.library.by_reference.clone(),
        clocks_true: !plan.skewed,
        lateness_max: (!plan.skewed).then(|| plan.lateness_max()),
    };
    let mut verdict = check(&history);
    for (saga, end) in shown {
        if let Err(why) = end {
            verdict.violations.push(Violation {
                invariant: "clients are answered",
                of: saga.to_string(),
                what: why.clone(),
            });
        }
    }
    verdict.violations.extend(uneven(&plan, bus, &server.leases()));
    let frames: usize = history.journal.values().map(Vec::len).sum();
    let sagas = verdict.looked.get(crate::check::invariant::CHAIN).copied().unwrap_or(0);
    Outcome {
        sagas: usize::try_from(sagas).unwrap_or(0),
        records: frames,
        attempts: inner.ledger.len(),
        fenced: server.fenced,
        refused_late: inner.refused_late,
        story: inner.story.clone(),
        account: account(&history, &verdict),
        digest: digest(&history),
        plan,
        verdict,
    }
}

/// What is wrong with where the shards lie in the end: each with a live node, and with none two more
/// than with another.
fn uneven(plan: &Plan, bus: &Bus, leases: &[Lease]) -> Option<Violation> {
    let alive: Vec<&NodeId> = (0..bus.nodes()).filter(|node| bus.life(*node).is_some()).map(|n| bus.name(n)).collect();
    let owned = |node: &&NodeId| leases.iter().filter(|lease| lease.owner.as_ref() == Some(*node)).count();
    let counts: BTreeMap<&NodeId, usize> = alive.iter().map(|node| (*node, owned(node))).collect();
    let (most, fewest) = (counts.values().max().unwrap_or(&0), counts.values().min().unwrap_or(&0));
    let all = counts.values().sum::<usize>() == usize::from(plan.shards);
    (!all || most - fewest > 1).then(|| Violation {
        invariant: "shards lie evenly",
        of: format!("{} shards", plan.shards),
        what: format!("{counts:?} have how many"),
    })
}

/// The definition, the records and the ledger of the first saga that something is wrong with.
fn account(history: &History, verdict: &Verdict) -> Vec<String> {
    let Some(of) = verdict.violations.first().map(|violation| violation.of.as_str()) else { return Vec::new() };
    let mut lines = Vec::new();
    for (shard, frames) in &history.journal {
        for (position, bytes) in frames {
            let Ok(frame) = Frame::read(bytes) else { continue };
            let whose = format!("frame {position} by {} epoch {}", frame.header.node, frame.header.epoch.0);
            if of == format!("shard {shard}") {
                lines.push(format!("{whose}.{} counter {}", frame.header.nonce, frame.header.counter));
            }
            let records = frame.decode().unwrap_or_default();
            for record in records.iter().filter(|record| record.saga.to_string() == of) {
                if let FactKind::Started(start) = &record.fact.kind
                    && let Some(definition) = history.definitions.get(&start.definition)
                {
                    lines.push(definition.source().to_owned());
                }
                lines.push(format!(
                    "{whose} record {} after {}: {:?}",
                    record.number, record.previous, record.fact.kind
                ));
                lines.extend(record.changes.iter().map(|change| format!("    {change:?}")));
            }
        }
    }
    let ours = history.ledger.iter().filter(|entry| entry.saga.to_string() == of);
    lines.extend(ours.map(|entry| {
        let Entry { direction, phase, key, attempt, node, at, .. } = entry;
        format!("ledger {at}: {direction:?} {phase:?} {key} #{attempt} on {node}")
    }));
    lines
}

fn digest(history: &History) -> u64 {
    use std::hash::{Hash, Hasher};
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    for (shard, frames) in &history.journal {
        (shard, frames).hash(&mut hasher);
    }
    for entry in &history.ledger {
        (&entry.key, entry.attempt, entry.at.as_micros(), &entry.node).hash(&mut hasher);
    }
    for said in &history.events {
        said.event.event_id.hash(&mut hasher);
    }
    hasher.finish()
}

/// The key of a saga; a long one leaves room for those of its children.
fn key(number: usize, long: bool) -> SagaKey {
    let fill = if long { "-".repeat(90) } else { String::new() };
    SagaKey::new(format!("saga{fill}-{number}")).expect("letters, digits and hyphens are a key")
}

fn tenant() -> Tenant {
    Tenant::new("acme").expect("letters are a tenant")
}

/// Runs of many seeds, added up.
#[derive(Default)]
pub struct Sum {
    /// Seeds.
    pub seeds: u64,
    /// Sagas.
    pub sagas: u64,
    /// Frames.
    pub records: u64,
    /// Attempts.
    pub attempts: u64,
    /// Faults.
    pub faults: u64,
    /// Appends that the fence refused.
    pub fenced: u64,
    /// Late effects refused.
    pub refused_late: u64,
    /// Looked at, by invariant.
    pub looked: BTreeMap<&'static str, u64>,
    /// Faults by kind.
    pub kinds: BTreeMap<super::plan::Kind, u64>,
    /// Stuck sagas.
    pub stuck: u64,
}

impl Sum {
    /// Adds a run.
    pub fn add(&mut self, outcome: &Outcome) {
        self.seeds += 1;
        self.sagas += outcome.sagas as u64;
        self.records += outcome.records as u64;
        self.attempts += outcome.attempts as u64;
        self.faults += outcome.plan.faults.len() as u64;
        self.fenced += outcome.fenced;
        self.refused_late += outcome.refused_late;
        self.stuck += outcome.verdict.stuck.len() as u64;
        for (invariant, count) in &outcome.verdict.looked {
            *self.looked.entry(invariant).or_default() += count;
        }
        for fault in &outcome.plan.faults {
            *self.kinds.entry(fault.kind).or_default() += 1;
        }
    }
}

/// Plants a bug and plays seeds until something breaks. Answers how many it took and what broke.
#[cfg(feature = "simulation")]
pub fn find_planted(bug: supervisor::simulation::Bug, from: u64, seeds: u64) -> Option<(u64, Violation)> {
    supervisor::simulation::plant(Some(bug));
    let found = (from..from + seeds).find_map(|seed| {
        let broken = run(&Plan::new(seed)).verdict.violations.into_iter().next()?;
        Some((seed - from + 1, broken))
    });
    supervisor::simulation::plant(None);
    found
}
