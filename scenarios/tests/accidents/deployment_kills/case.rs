//! One case: a deployment, and a kill in one of its states.

use std::time::{Duration, Instant, SystemTime};

use protocol::view::{History, Status};
use protocol::{SagaKey, Time};
use scenarios::service::Traffic;
use serde_json::json;

use super::world::{PATIENCE, Told, World};

/// How often a case is tried until the kill comes in the state that it is about: some states last for
/// two milliseconds.
const TRIES: usize = 10;
/// How long the keeper goes on before it is stopped for a look at the state: some writes to the store.
const SLICE: Duration = Duration::from_millis(2);
/// How often in a row a state is seen before it counts as standing: what the keeper said before it was
/// stopped has arrived by then.
const STANDS_AFTER: usize = 8;

/// Who is killed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Victim {
    /// The node that owns the saga, and keeps no processes.
    Owner,
    /// The node that keeps the processes, and does not own the saga.
    Keeper,
    /// The node that does both.
    Both,
}

/// A case.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Case {
    /// The state in which somebody is killed.
    pub state: &'static str,
    /// Who.
    pub victim: Victim,
    /// Whether the new revision is broken.
    pub broken: bool,
}

/// The states that are not an end, as a picture of the deployment has them, and those between them in
/// which an activity works.
const STATES: [&str; 9] = [
    "Requested",
    "Provisioning",
    "Claiming",
    "Configuring",
    "RollingOut",
    "HealthGating",
    "Promoting",
    "Finishing",
    "RollingBack",
];

impl Case {
    /// Whether a deployment of such a revision comes to that state.
    fn happens(self) -> bool {
        match self.state {
            "RollingBack" => self.broken,
            "Finishing" => !self.broken,
            _ => true,
        }
    }

    /// States that last only as long as some writes: the keeper is let go on in slices.
    fn is_short(self) -> bool {
        ["Provisioning", "Claiming", "Configuring", "Finishing"].contains(&self.state)
    }
}

/// All cases.
pub fn all(victims: &[Victim]) -> Vec<Case> {
    let of = |state| {
        let with = move |victim: &Victim| [false, true].map(|broken| Case { state, victim: *victim, broken });
        victims.iter().flat_map(with)
    };
    STATES.into_iter().flat_map(of).filter(|case| case.happens()).collect()
}

/// Where among [`each_state`] those begin that come after the rollout.
pub const GATED: usize = 4;

/// Each state of the picture once.
pub fn each_state() -> [Case; 7] {
    use Victim::{Keeper, Owner};
    [
        ("Requested", Owner, false),
        ("Provisioning", Owner, false),
        ("Configuring", Keeper, false),
        ("RollingOut", Keeper, false),
        ("HealthGating", Owner, true),
        ("Promoting", Keeper, false),
        ("RollingBack", Keeper, true),
    ]
    .map(|(state, victim, broken)| Case { state, victim, broken })
}

/// Plays it until the kill came when it should. Answers what must have been told.
pub async fn play(world: &mut World, case: Case) -> Vec<Told> {
    let mut told = Vec::new();
    for _ in 0..TRIES {
        let begun = Instant::now();
        let (one, came_in) = once(world, case).await;
        told.push(one);
        println!("{case:?}: killed in {came_in}, as if nothing had been after {:.1?}", begun.elapsed());
        if case.state == "Requested" || came_in == case.state {
            return told;
        }
    }
    panic!("{case:?}: the kill never came in that state");
}

async fn once(world: &mut World, case: Case) -> (Told, String) {
    world.healthy().await;
    let service = world.first_revision().await;
    let key = world.key_for(case.victim, &service).await;
    // Broken after the switch: it answers its probe, and nobody else.
    let late = case.broken && case.state == "Promoting";
    let artifact = world.publish(&service.version(2), case.broken);
    let input = service.input(2, &artifact, |input| {
        input["probe"]["path"] = json!(if late { "/health" } else { "/" });
        if late {
            input["strategy"] = json!({ "name": "BlueGreen", "autoPromoteAfterMs": 0, "scaleDownDelayMs": 1_000, "after": {
                "intervalMs": 500, "requestsMin": 1, "count": 100, "consecutiveSuccessLimit": 3, "inconclusiveLimit": 99,
                "success": [{ "figure": "failurePercent", "is": "atMost", "bound": 1.0 }],
            }});
        }
    });
    let traffic = late.then(|| Traffic::begin(&service.url));
    let victim = world.node_of(case.victim, &key).await;
    let killed_at = match case.state {
        "Requested" => {
            // Before, while or after the command is taken: whoever asks cannot tell, and asks again.
            let (_, at) = tokio::join!(world.ask_once(&key, &input), async { now() });
            world.kill(victim).await;
            world.ask(&key, &input).await;
            at
        }
        _ => {
            let keeper = world.keeper().await;
            let owner = world.owner(&key).await;
            let slices = case.is_short() && case.victim != Victim::Both;
            if slices && case.state != "Finishing" {
                world.freeze(keeper, true);
            }
            world.ask(&key, &input).await;
            if slices {
                if case.state == "Finishing" {
                    reach(world, &key, owner, "Promoting").await;
                }
                step(world, (&key, owner, keeper), case.state).await;
            } else {
                reach(world, &key, owner, case.state).await;
            }
            let at = now();
            world.kill(victim).await;
            if slices && victim != keeper {
                world.freeze(keeper, false);
            }
            at
        }
    };
    world.restart(victim);
    let view = world.end(&key).await;
    drop(traffic);
    let expected = match case.broken {
        false => (Status::Succeeded, "Completed"),
        true => (Status::Failed, "RolledBack"),
    };
    assert_eq!((view.status, view.state.as_str()), expected, "{case:?}: {view:#?}");
    world.only(&service, if case.broken { 1 } else { 2 }, case).await;
    let came_in = state_at(&world.history(&key).await, killed_at);
    let event = if case.broken { "RuntimeDeploymentRolledBack" } else { "RuntimeDeploymentCompleted" };
    (Told { saga: format!("acme/{key}"), event }, came_in)
}

/// Waits until the saga is in `state`, or past it.
async fn reach(world: &World, key: &SagaKey, owner: usize, state: &str) {
    let end = Instant::now() + PATIENCE;
    loop {
        let seen = world.state(key, owner).await;
        if seen.as_deref().is_some_and(|seen| !before(seen, state)) {
            return;
        }
        assert!(Instant::now() < end, "{key} never came to {state}, it is in {seen:?}");
    }
}

/// Lets the keeper go on for a slice at a time until the saga stands in `state`, or is past it. It is
/// stopped then.
async fn step(world: &World, (key, owner, keeper): (&SagaKey, usize, usize), state: &str) {
    let end = Instant::now() + PATIENCE;
    let mut seen = String::new();
    loop {
        world.freeze(keeper, true);
        if world.state(key, owner).await.is_some_and(|now| now != seen) {
            seen = stands(world, key, owner).await;
        }
        if !before(&seen, state) {
            return;
        }
        world.freeze(keeper, false);
        tokio::time::sleep(SLICE).await;
        assert!(Instant::now() < end, "{key} never came to {state}, it is in {seen}");
    }
}

/// The state in which the saga is while the keeper is stopped.
async fn stands(world: &World, key: &SagaKey, owner: usize) -> String {
    let (mut last, mut times) = (String::new(), 0);
    while times < STANDS_AFTER {
        let seen = world.state(key, owner).await.unwrap_or_default();
        times = if seen == last { times + 1 } else { 0 };
        last = seen;
    }
    last
}

/// Whether a deployment in `seen` may still come to `state`.
fn before(seen: &str, state: &str) -> bool {
    let place = |name: &str| STATES.iter().position(|known| *known == name);
    match (place(seen), place(state)) {
        (Some(seen), Some(state)) => seen < state,
        // One of those that tell something, between two others.
        (None, _) => seen.is_empty() || seen.starts_with("Tell"),
        (_, None) => false,
    }
}

/// The last state that was entered before `at`.
fn state_at(history: &History, at: Time) -> String {
    let entered = history.entries.iter().filter(|entry| entry.at <= at).flat_map(|entry| &entry.settled);
    let mut states = entered.filter_map(|line| line.strip_prefix("entered ")?.split(' ').next());
    states.next_back().unwrap_or("nothing").to_owned()
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Time::from_micros(i64::try_from(since.as_micros()).unwrap())
}
