//! What holds for any definition and any order of facts.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::common::*;
use proptest::prelude::*;
use protocol::command::ReleaseDecision;
use protocol::view::{Outcome, Status};
use serde_json::{Value, json};
use supervisor::machine::expression::Limits;
use supervisor::machine::{Definition, Effect, FactKind, Operator};

/// A state, before it has a name and a successor.
#[derive(Clone, Debug)]
enum Piece {
    Pass,
    Task { undo: bool, retry: bool, catch: bool },
    Wait,
    Signal,
    Human,
    Child,
    Event,
    Undo,
    Side(Vec<Vec<Piece>>),
    Each { items: u8, width: u8, tolerated: bool, inner: Vec<Piece> },
    Fail,
}

fn piece() -> impl Strategy<Value = Piece> {
    let leaf = prop_oneof![
        Just(Piece::Pass),
        (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(undo, retry, catch)| Piece::Task {
            undo,
            retry,
            catch
        }),
        (any::<bool>(), any::<bool>()).prop_map(|(retry, catch)| Piece::Task { undo: true, retry, catch }),
        Just(Piece::Wait),
        Just(Piece::Signal),
        Just(Piece::Human),
        Just(Piece::Child),
        Just(Piece::Event),
        Just(Piece::Undo),
        Just(Piece::Fail),
    ];
    leaf.prop_recursive(3, 24, 3, |inner| {
        let list = proptest::collection::vec(inner, 1..4);
        prop_oneof![
            proptest::collection::vec(list.clone(), 1..4).prop_map(Piece::Side),
            (0u8..4, 0u8..3, any::<bool>(), list).prop_map(|(items, width, tolerated, inner)| Piece::Each {
                items,
                width,
                tolerated,
                inner
            }),
        ]
    })
}

/// A scope of `pieces`, one after the other. A Fail ends it early, the rest is left out.
fn scope(pieces: &[Piece], count: &mut usize) -> Value {
    let end = pieces.iter().position(|piece| matches!(piece, Piece::Fail)).map_or(pieces.len(), |fail| fail + 1);
    let pieces = &pieces[..end];
    let first = *count;
    *count += pieces.len() + 1;
    let name = |n: usize| format!("S{}", first + n);
    let mut states = serde_json::Map::new();
    for (n, piece) in pieces.iter().enumerate() {
        let mut state = state(piece, count);
        if matches!(piece, Piece::Pass) {
            let mut assign = serde_json::Map::new();
            assign.insert(format!("x{}", name(n)), json!("{% $states.context.Execution.Name %}"));
            state["Assign"] = assign.into();
        }
        if !matches!(piece, Piece::Fail) {
            state["Next"] = json!(name(n + 1));
            if matches!(piece, Piece::Task { catch: true, .. } | Piece::Side(_)) {
                state["Catch"] = json!([{ "ErrorEquals": ["Caught"], "Next": name(n + 1) }]);
            }
        }
        states.insert(name(n), state);
    }
    if !matches!(pieces.last(), Some(Piece::Fail)) {
        states.insert(name(pieces.len()), json!({ "Type": "Succeed" }));
    }
    json!({ "StartAt": name(0), "States": states })
}

fn state(piece: &Piece, count: &mut usize) -> Value {
    match piece {
        Piece::Pass => json!({ "Type": "Pass" }),
        Piece::Task { undo, retry, .. } => {
            let mut state = json!({ "Type": "Task", "Resource": "activity:work", "Compensate": "none" });
            if *undo {
                state["Compensate"] = json!({ "Resource": "activity:unwork" });
            }
            if *retry {
                state["Retry"] = json!([{ "ErrorEquals": ["Transient"], "MaxAttempts": 2, "JitterStrategy": "FULL" }]);
            }
            state
        }
        Piece::Wait => json!({ "Type": "Wait", "Seconds": 5 }),
        Piece::Signal => json!({ "Type": "Task", "Resource": "signal:go", "TimeoutSeconds": 30 }),
        Piece::Human => json!({ "Type": "Task", "Resource": "task:human" }),
        Piece::Child => json!({ "Type": "Task", "Resource": "saga:other" }),
        Piece::Event => json!({ "Type": "Task", "Resource": "event:Happened" }),
        Piece::Undo => json!({ "Type": "Compensate" }),
        Piece::Side(branches) => {
            let branches: Vec<Value> = branches.iter().map(|branch| scope(branch, count)).collect();
            json!({ "Type": "Parallel", "Branches": branches })
        }
        Piece::Each { items, width, tolerated, inner } => {
            let mut state = json!({
                "Type": "Map", "Items": (0..*items).collect::<Vec<_>>(), "MaxConcurrency": width,
                "ItemProcessor": scope(inner, count),
            });
            if *tolerated {
                state["ToleratedFailureCount"] = json!(1);
            }
            state
        }
        Piece::Fail => json!({ "Type": "Fail", "Error": "Caught" }),
    }
}

/// Does one thing that the number picks, possible or not.
fn act(world: &mut World, pick: u32) {
    let (what, which) = (pick % 16, pick as usize / 16);
    // Mostly its turn comes first; sometimes something else does.
    if world.turns > 0 && which % 4 > 0 {
        return world.go_on();
    }
    let running = (!world.running.is_empty()).then(|| world.running.remove(which % world.running.len()));
    let child = (!world.children.is_empty()).then(|| world.children[which % world.children.len()].0);
    let failed = |name: &str, permanent| error(name, permanent);
    let kind = match (what, running) {
        (0..=5, Some(call)) => FactKind::StepSucceeded { attempt: call.attempt, output: json!(which % 7) },
        (6, Some(call)) => FactKind::StepFailed { attempt: call.attempt, error: failed("Transient", false) },
        (7, Some(call)) => FactKind::StepFailed { attempt: call.attempt, error: failed("Caught", which % 2 == 0) },
        (rest, running) => {
            world.running.extend(running);
            match rest {
                0..=3 if !world.timers.is_empty() => return drop(world.ring()),
                0..=5 => FactKind::Signalled {
                    name: "go".into(),
                    payload: json!(1),
                    by: "ada".into(),
                    id: format!("{which}"),
                },
                6 | 7 => FactKind::TaskDecided { step: None, output: json!(2), by: "ada".into() },
                8 => FactKind::StepSucceeded { attempt: attempt(which as u64 % 20, 1), output: json!(0) },
                9 => FactKind::TimerFired { timer: which as u64 % 30 },
                10 | 11 => {
                    let status = if which % 3 == 0 { Status::Failed } else { Status::Succeeded };
                    let outcome =
                        Outcome { status, state: "S".into(), output: Some(json!(3)), error: None, cause: None };
                    let step = child.unwrap_or(which as u64 % 20);
                    world.children.retain(|(open, _, _)| *open != step);
                    FactKind::ChildEnded { step, child: None, outcome: Box::new(outcome) }
                }
                12 if which % 4 == 0 => {
                    FactKind::CancelRequested { by: "ada".into(), reason: String::new(), parent: None }
                }
                13 if which % 4 == 0 => FactKind::Parked { cause: "a bug".into() },
                14 if which % 8 == 0 => operator(ReleaseDecision::Abandon),
                14 => operator(ReleaseDecision::Skip),
                15 if which % 4 == 0 => start(&world.definition, json!(0)),
                _ => operator(ReleaseDecision::Retry),
            }
        }
    };
    // A fact that names an attempt or a timer is spent in the world too.
    if let FactKind::StepSucceeded { attempt, .. } = &kind {
        world.running.retain(|call| call.attempt != *attempt);
    }
    if let FactKind::TimerFired { timer } = &kind {
        world.timers.remove(timer);
    }
    world.fact(kind);
}

fn operator(decision: ReleaseDecision) -> FactKind {
    FactKind::Operator(Operator { decision, by: "ops".into(), reason: "why".into() })
}

/// What runs in the world is what the machine would ask for after a takeover.
fn agrees(world: &World) -> Result<(), TestCaseError> {
    let wanted = world.driver.resume();
    let attempts: BTreeSet<_> = wanted
        .iter()
        .filter_map(|effect| match effect {
            Effect::StartActivity(call) => Some((call.attempt, call.key.clone())),
            _ => None,
        })
        .collect();
    let running: BTreeSet<_> = world.running.iter().map(|call| (call.attempt, call.key.clone())).collect();
    prop_assert_eq!(attempts, running);
    let timers: BTreeSet<_> = world.driver.execution().timers().collect();
    let set: BTreeSet<_> = world.timers.iter().map(|(timer, at)| (*timer, *at)).collect();
    prop_assert_eq!(timers, set);
    prop_assert!(!wanted.contains(&Effect::Continue) || world.turns > 0, "it waits for a turn that nobody gives");
    let x = world.driver.execution();
    let stalled = x.waiting().is_empty() && x.timers().next().is_none();
    prop_assert!(x.is_final() || !stalled, "it has not ended, and nothing can move it on");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replay_gives_the_live_state_and_offer_is_total(
        pieces in proptest::collection::vec(piece(), 1..5),
        picks in proptest::collection::vec(any::<u32>(), 1..60),
        transitions in prop_oneof![Just(1u32), Just(2), Just(3), Just(1_000)],
    ) {
        let machine = scope(&pieces, &mut 0);
        let source = json!({ "name": "random", "definition": machine }).to_string();
        // Cut after a few states, or hardly ever.
        let limits = Limits { transitions, ..Limits::default() };
        let definition = Arc::new(Definition::clone(&define(&source)).with_limits(limits));
        let mut world = World::new(&definition);
        let fact = start(&definition, json!({"a": 1}));
        world.fact(fact);
        agrees(&world)?;
        for pick in picks {
            act(&mut world, pick);
            agrees(&world)?;
        }
        world.check_replay();
    }

    #[test]
    fn what_was_done_is_undone_once_each_last_first(count in 1usize..12, failing in 0usize..12, flaky in any::<u16>()) {
        let failing = failing % count;
        let mut states = serde_json::Map::new();
        for n in 0..count {
            let next = if n + 1 == count { json!({ "End": true }) } else { json!({ "Next": format!("S{}", n + 1) }) };
            let mut state = json!({
                "Type": "Task", "Resource": format!("activity:do{n}"), "Compensate": { "Resource": format!("activity:undo{n}") },
            });
            state.as_object_mut().unwrap().extend(next.as_object().unwrap().clone());
            states.insert(format!("S{n}"), state);
        }
        let source = json!({ "name": "line", "definition": { "StartAt": "S0", "States": states } }).to_string();
        let mut world = World::begin(&source, json!(0));
        for n in 0..failing {
            world.succeed(&format!("do{n}"), json!(n));
        }
        world.fail(&format!("do{failing}"), "Broken");
        let mut undone = Vec::new();
        while !world.driver.execution().is_final() {
            prop_assert_eq!(world.running.len(), 1, "one at a time");
            let name = world.running[0].activity.to_string();
            if flaky & (1 << undone.len()) != 0 && world.running[0].attempt.attempt == 1 {
                world.fail(&name, "Transient");
                world.ring();
                continue;
            }
            undone.push(name.clone());
            world.succeed(&name, json!(null));
        }
        let expected: Vec<String> = (0..=failing).rev().map(|n| format!("undo{n}")).collect();
        prop_assert_eq!(undone, expected);
        world.check_replay();
    }
}
