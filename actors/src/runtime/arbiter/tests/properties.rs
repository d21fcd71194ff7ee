use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::runtime::model::{ConfigurationId, ConfigurationRef, DriftKind, ReplicaRange, SecretBindingId};

fn command() -> impl Strategy<Value = (Source, Command)> {
    let n = 1u8..5;
    let secret = SecretBindingId::new("db").unwrap();
    let configuration = |version| ConfigurationRef { configuration_id: ConfigurationId::new("c").unwrap(), version };
    let with = move |n: u8| {
        let mut revision = revision(n);
        revision.secrets.insert(secret.clone(), 1);
        revision
    };
    let with_too = with.clone();
    let secret = SecretBindingId::new("db").unwrap();
    let outcome = prop_oneof![
        3 => Just(Outcome::Succeeded),
        2 => Just(Outcome::RolledBack { why: "bad".into() }),
        1 => Just(Outcome::Failed { why: "no".into() }),
        1 => Just(Outcome::Stuck { why: "stuck".into() }),
        1 => Just(Outcome::Differs { why: "fewer".into() }),
    ];
    prop_oneof![
        1 => (n.clone(), prop_oneof![Just(Source::Sync), Just(Source::Operator)])
            .prop_map(move |(n, source)| (source, Command::Deploy { to: with(n), anew: false })),
        1 => (n.clone(), prop_oneof![Just(Source::Health), Just(Source::Operator)]).prop_map(|(n, source)| {
            let deployment_id = DeploymentId::new(format!("d{n}")).unwrap();
            (source, Command::RollbackDeployment { of: revision(n).deployment_id, deployment_id, why: "bad".into() })
        }),
        1 => n.clone().prop_map(move |n| {
            (
                Source::Drift,
                Command::RemediateDrift { to: with_too(n), kinds: vec![DriftKind::Image], approved_by: None },
            )
        }),
        1 => (0u32..8, 0u32..8).prop_map(|(to, observed)| (Source::Scaling, Command::Scale { to, observed })),
        1 => (1u64..5).prop_map(move |version| {
            (Source::Configuration, Command::ApplyConfiguration { to: configuration(version) })
        }),
        1 => (1u64..5).prop_map(move |version| {
            (Source::Secrets, Command::RefreshSecret { secret_binding_id: secret.clone(), version })
        }),
        8 => (1u64..60, outcome).prop_map(|(sequence, outcome)| {
            (Source::Runner, Command::Finished { sequence, outcome })
        }),
        2 => n.clone().prop_map(|n| (Source::Sync, Command::DesiredState { desired: desired(n) })),
        1 => (0u32..3, 3u32..7).prop_map(|(min, max)| {
            (Source::Scaling, Command::Govern { range: Some(ReplicaRange { min, max }) })
        }),
        1 => n.prop_map(|n| (Source::Operator, Command::ClearHold { held: revision(n).release() })),
        1 => Just((Source::Operator, Command::Pause { why: String::new() })),
        1 => Just((Source::Health, Command::Strand { why: String::new() })),
        2 => Just((Source::Operator, Command::Resume)),
        1 => Just((Source::Operator, Command::Drain { why: String::new() })),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// F55, H01, H15 under whatever comes in whatever order.
    #[test]
    fn the_promises_hold(asked in prop::collection::vec((command(), any::<bool>()), 1..120)) {
        let mut web = Story::new(Stage::Dev);
        let mut given: Vec<Request> = Vec::new();
        let mut running: BTreeSet<u64> = BTreeSet::new();
        for ((source, mut command), now_ends) in asked {
            web.now += 1;
            // A blind guess at the number seldom ends anything: mostly name what is under way.
            if let (Command::Finished { sequence, .. }, true, Some(under_way)) =
                (&mut command, now_ends, &web.state.under_way)
            {
                *sequence = under_way.sequence;
            }
            let request = web.request(&format!("key-{}", web.now), source, command);
            let before = web.state.clone();
            let decision = web.give(&request);
            match &decision {
                Decision::Accepted { state, acts } => {
                    // The accepted number only grows, by one.
                    prop_assert_eq!(state.sequence, before.sequence + 1);
                    if let Command::Finished { sequence, .. } = &request.command {
                        prop_assert!(running.remove(sequence));
                    }
                    for act in acts {
                        if let Act::Start { sequence, action } = act {
                            // Never two under way.
                            prop_assert!(running.is_empty(), "{:?} beside {:?}", action, before.under_way);
                            running.insert(*sequence);
                            // What is held never comes.
                            if let Some(to) = action.coming() {
                                prop_assert!(before.hold_on(to).is_none(), "{:?} was held", to);
                            }
                            if let Action::Scaling { to, .. } = action {
                                prop_assert!(before.governed.is_none_or(|range| range.holds(*to)));
                            }
                        }
                    }
                    prop_assert_eq!(state.under_way.is_some(), !running.is_empty());
                    prop_assert!(state.answered.len() <= ANSWERED_MAX && state.held.len() <= HELD_MAX);
                }
                Decision::AlreadyDone { .. } | Decision::Busy { .. } | Decision::Refused(_) => {
                    prop_assert_eq!(&web.state, &before);
                }
            }
            if matches!(decision, Decision::Accepted { .. }) {
                given.push(request);
            }
            // Repeating any accepted request never changes anything, at once or much later.
            for old in given.iter().rev().step_by(7) {
                prop_assert!(
                    !matches!(decide(&web.state, old, at(web.now)), Decision::Accepted { .. }),
                    "{:?} was taken twice", old
                );
            }
        }
    }
}
