use proptest::prelude::*;

use super::*;
use crate::runtime::model::EnvironmentId;
use crate::runtime::model::SecretBindingId;

fn name(n: u8) -> ServiceId {
    ServiceId::new(format!("s{n}")).unwrap()
}

fn names(all: impl IntoIterator<Item = u8>) -> BTreeSet<ServiceId> {
    all.into_iter().map(name).collect()
}

fn binding(bound: impl IntoIterator<Item = u8>) -> SecretBinding {
    SecretBinding {
        secret_binding_id: SecretBindingId::new("db").unwrap(),
        environment_id: EnvironmentId::new("shop").unwrap(),
        reference: "vault/db".into(),
        version: 7,
        rotated_at: Time::from_micros(0),
        rotation_period: Some(Duration::from_secs(3600)),
        bound: names(bound),
        requested: None,
    }
}

struct Story {
    rotation: Rotation,
    now: Time,
}

impl Story {
    fn new(bound: impl IntoIterator<Item = u8>) -> Self {
        Self { rotation: Rotation::begin(&binding(bound)).0, now: Time::from_micros(0) }
    }

    fn hear(&mut self, heard: Heard) -> Vec<Do> {
        let (next, acts) = self.rotation.hear(heard, self.now);
        self.rotation = next;
        acts
    }

    fn finished(bound: impl IntoIterator<Item = u8>) -> Self {
        let mut story = Self::new(bound);
        for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
            story.hear(Heard::Done(step));
        }
        story
    }
}

/// D601, D602, F52.
#[test]
fn four_steps_and_then_everybody_confirms() {
    let mut db = Story::new([1, 2]);
    assert_eq!(db.hear(Heard::Done(Step::Create)), [Do::Step(Step::Set)]);
    assert_eq!(db.hear(Heard::Done(Step::Create)), [], "a late echo");
    assert_eq!(db.hear(Heard::Done(Step::Set)), [Do::Step(Step::Test)]);
    assert_eq!(db.hear(Heard::Done(Step::Test)), [Do::Step(Step::Finish)]);
    assert_eq!(db.rotation.current(), 7, "until the commit");
    assert_eq!(db.hear(Heard::Done(Step::Finish)), [Do::SayRotated(8), Do::Refresh(names([1, 2]), 8)]);
    assert_eq!(db.rotation.current(), 8);
    // F53.
    assert_eq!(db.hear(Heard::Confirmed(name(1), 8)), []);
    assert_eq!(db.hear(Heard::Confirmed(name(2), 7)), [], "it still runs on the old one");
    assert_eq!(db.hear(Heard::Confirmed(name(9), 8)), [], "somebody else");
    assert_eq!(db.hear(Heard::Confirmed(name(2), 8)), [Do::Step(Step::Retire)]);
    assert_eq!(db.hear(Heard::Done(Step::Retire)), []);
    assert_eq!(db.rotation.phase, Phase::Done);
    assert_eq!(db.rotation.key(Step::Set).unwrap().as_str(), "rotate/db/8/Set");
}

/// F52, H23, W048.
#[test]
fn a_failed_test_keeps_the_old_version() {
    let mut db = Story::new([1]);
    db.hear(Heard::Done(Step::Create));
    db.hear(Heard::Done(Step::Set));
    let acts = db.hear(Heard::Refused(Step::Test, "access denied".into()));
    assert_eq!(
        acts,
        [
            Do::Alert("Test of version 8 of db failed: access denied; version 7 stays current".into()),
            Do::Step(Step::Discard)
        ]
    );
    db.hear(Heard::Done(Step::Discard));
    assert_eq!(db.rotation.current(), 7);
    assert!(matches!(&db.rotation.phase, Phase::Kept { why } if why.contains("access denied")));
}

#[test]
fn a_step_is_tried_five_times() {
    let mut db = Story::new([1]);
    for _ in 0..4 {
        assert_eq!(db.hear(Heard::Failed(Step::Create, "busy".into())), [Do::Step(Step::Create)]);
    }
    assert!(matches!(
        &db.hear(Heard::Failed(Step::Create, "busy".into()))[..],
        [Do::Alert(_), Do::Step(Step::Discard)]
    ));
}

#[test]
fn who_comes_and_goes_while_it_is_confirmed() {
    let mut db = Story::finished([1, 2]);
    db.hear(Heard::Confirmed(name(1), 8));
    assert_eq!(db.hear(Heard::Bound(names([1, 2, 3]))), [Do::Refresh(names([3]), 8)]);
    assert_eq!(db.rotation.resume(), [Do::Refresh(names([2, 3]), 8)], "after a crash: whoever is left");
    assert_eq!(db.hear(Heard::Bound(names([1]))), [Do::Step(Step::Retire)], "nobody is left to wait for");
    let mut alone = Story::new([]);
    for step in [Step::Create, Step::Set, Step::Test] {
        alone.hear(Heard::Done(step));
    }
    assert_eq!(alone.hear(Heard::Done(Step::Finish)), [Do::SayRotated(8), Do::Step(Step::Retire)]);
}

/// H18: who never confirms is told once, and the old version stays valid.
#[test]
fn who_never_confirms_is_told() {
    let mut db = Story::finished([1, 2]);
    db.hear(Heard::Confirmed(name(2), 8));
    db.now = db.now.after(CONFIRM_WITHIN);
    let acts = db.hear(Heard::Tick);
    assert_eq!(
        acts,
        [Do::Alert("1 of 2 workloads do not run on version 8 of db yet (s1); the old version stays valid".into())]
    );
    assert_eq!(db.hear(Heard::Tick), []);
    assert!(matches!(db.rotation.phase, Phase::Confirming { .. }));
}

/// W044.
#[test]
fn the_schedule() {
    let binding = binding([]);
    assert!(!due(&binding, Time::from_micros(0).after(Duration::from_secs(3599))));
    assert!(due(&binding, Time::from_micros(0).after(Duration::from_secs(3600))));
    assert!(!due(&SecretBinding { rotation_period: None, ..binding }, Time::from_micros(i64::MAX)));
}

fn heard() -> impl proptest::strategy::Strategy<Value = Heard> {
    let step = || {
        prop_oneof![
            Just(Step::Create),
            Just(Step::Set),
            Just(Step::Test),
            Just(Step::Finish),
            Just(Step::Retire),
            Just(Step::Discard)
        ]
    };
    prop_oneof![
        8 => step().prop_map(Heard::Done),
        2 => step().prop_map(|step| Heard::Failed(step, "x".into())),
        1 => step().prop_map(|step| Heard::Refused(step, "x".into())),
        4 => (0u8..4, 7u64..9).prop_map(|(n, version)| Heard::Confirmed(name(n), version)),
        1 => prop::collection::btree_set(0u8..4, 0..4).prop_map(|all| Heard::Bound(names(all))),
        1 => Just(Heard::Tick),
    ]
}

proptest! {
    /// F52, F53 under whatever is heard in whatever order.
    #[test]
    fn the_promises_hold(all in prop::collection::vec(heard(), 1..80)) {
        let mut db = Story::new([0, 1, 2]);
        let (mut tested, mut committed) = (false, false);
        for heard in all {
            let before = db.rotation.clone();
            let acts = db.hear(heard.clone());
            tested |= before.phase == (Phase::Doing { step: Step::Test, failed: 0 }) && heard == Heard::Done(Step::Test)
                || matches!((&before.phase, &heard), (Phase::Doing { step: Step::Test, .. }, Heard::Done(Step::Test)));
            committed |= acts.iter().any(|act| matches!(act, Do::SayRotated(_)));
            prop_assert!(!committed || tested, "committed without a test");
            prop_assert_eq!(db.rotation.current() == 8, committed, "{:?}", db.rotation.phase);
            if acts.contains(&Do::Step(Step::Retire)) && before.phase != db.rotation.phase
                && !matches!(before.phase, Phase::Doing { step: Step::Retire, .. }) {
                prop_assert!(db.rotation.waiting().is_empty(), "retired before everybody confirmed");
            }
            // The same again changes nothing more, failures apart.
            if !matches!(heard, Heard::Failed(..)) {
                let (again, acts) = db.rotation.hear(heard, db.now);
                prop_assert_eq!((&again, acts), (&db.rotation, vec![]));
            }
        }
    }
}
