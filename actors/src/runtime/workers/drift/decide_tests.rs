use proptest::prelude::*;
use protocol::{Principal, Tenant};

use super::*;
use crate::runtime::model::{ConfigurationId, ConfigurationRef, Digest, Strategy, TargetKind};

fn image(n: u8) -> Digest {
    Digest::new(format!("sha256:{}", format!("{n:02x}").repeat(32))).unwrap()
}

fn name(n: u8) -> ServiceId {
    ServiceId::new(format!("s{n}")).unwrap()
}

fn spec(n: u8, of: u8, replicas: u32) -> ServiceSpec {
    ServiceSpec {
        service_id: name(n),
        tenant_id: Tenant::new("acme").unwrap(),
        environment_id: EnvironmentId::new("shop").unwrap(),
        image: image(of),
        version: "1".into(),
        replicas,
        command: vec![],
        configuration: None,
        secrets: BTreeMap::new(),
        probes: vec![],
        target: TargetKind::Continuous,
        strategy: Strategy::default(),
        wave: 0,
    }
}

fn release(of: u8) -> Release {
    Release { image: image(of), configuration: None, secrets: BTreeMap::new() }
}

fn there(n: u8, of: u8, replicas: u32) -> ObservedService {
    ObservedService {
        service_id: name(n),
        tenant_id: Tenant::new("acme").unwrap(),
        environment_id: EnvironmentId::new("shop").unwrap(),
        image: image(of),
        replicas,
        ready: replicas,
        configuration: None,
        secrets: BTreeMap::new(),
        endpoint_url: None,
        last_observed_at: at(100),
    }
}

fn at(seconds: i64) -> Time {
    Time::from_micros(seconds * 1_000_000)
}

struct World {
    stage: Stage,
    desired: Vec<ServiceSpec>,
    observed: Vec<ObservedService>,
    known: BTreeMap<ServiceId, Known>,
    findings: BTreeMap<FindingHash, DriftFinding>,
    policy: DriftPolicy,
}

impl World {
    fn new(stage: Stage, desired: Vec<ServiceSpec>, observed: Vec<ObservedService>) -> Self {
        Self {
            stage,
            desired,
            observed,
            known: BTreeMap::new(),
            findings: BTreeMap::new(),
            policy: DriftPolicy::default(),
        }
    }

    fn look(&mut self) -> Drift {
        let environment = EnvironmentId::new("shop").unwrap();
        let look = Look {
            environment: &environment,
            stage: self.stage,
            desired: &self.desired,
            observed: &self.observed,
            known: &self.known,
            findings: &self.findings,
            policy: &self.policy,
        };
        let drift = detect(&look, at(200)).unwrap();
        let resolved = drift.resolved.iter().map(|(finding, _)| finding);
        for finding in drift.opened.iter().chain(&drift.changed).chain(resolved) {
            self.findings.insert(finding.hash.clone(), finding.clone());
        }
        drift
    }

    fn mark(&mut self, state: &FindingState) {
        for finding in self.findings.values_mut() {
            finding.state = state.clone();
        }
    }
}

fn kinds(drift: &Drift) -> Vec<DriftKind> {
    drift.opened.iter().map(|finding| finding.kind).collect()
}

/// R068, F44.
#[test]
fn what_is_in_sync_says_nothing() {
    let mut world = World::new(Stage::Dev, vec![spec(1, 1, 2)], vec![there(1, 1, 2)]);
    assert_eq!(world.look(), Drift::default());
}

/// R069–R075 as a table.
#[test]
fn what_may_be_corrected() {
    use DriftKind::{Configuration, Held, Image, Missing, Replicas, Secret, Unmanaged};
    let policy = DriftPolicy::default();
    for kind in [Image, Replicas, Configuration, Secret] {
        for stage in [Stage::Dev, Stage::Test, Stage::Staging] {
            assert_eq!(policy.remedy(kind, stage), Remedy::Automatic, "R072");
        }
        assert_eq!(policy.remedy(kind, Stage::Prod), Remedy::AfterApproval, "R073");
    }
    for stage in [Stage::Dev, Stage::Test, Stage::Staging, Stage::Prod] {
        assert_eq!(policy.remedy(Unmanaged, stage), Remedy::Review, "R074");
        assert_eq!(policy.remedy(Missing, stage), Remedy::Review, "R075");
        assert_eq!(policy.remedy(Held, stage), Remedy::None, "H01");
    }
    let careful = DriftPolicy { review: [Image].into(), ..policy };
    assert_eq!(careful.remedy(Image, Stage::Dev), Remedy::Review);
}

#[test]
fn one_correction_per_service_for_all_that_differs() {
    let mut one = there(1, 2, 5);
    one.secrets.insert(crate::runtime::model::SecretBindingId::new("db").unwrap(), 3);
    let mut world = World::new(Stage::Prod, vec![spec(1, 1, 2), spec(2, 1, 1)], vec![one, there(3, 1, 1)]);
    let drift = world.look();
    assert_eq!(
        kinds(&drift),
        [DriftKind::Image, DriftKind::Replicas, DriftKind::Secret, DriftKind::Missing, DriftKind::Unmanaged]
    );
    let [correction] = &drift.corrections[..] else { panic!("{:?}", drift.corrections) };
    assert_eq!((correction.service_id.as_str(), correction.findings.len()), ("s1", 3), "F40: nothing for the others");
    assert!(correction.needs_approval, "R073");
    // F43, W074: the same look again says nothing, and asks for the same.
    let again = world.look();
    assert!(again.is_quiet());
    assert_eq!(again.corrections, drift.corrections);
}

/// H01, F36.
#[test]
fn what_is_held_is_found_and_left_alone() {
    let mut world = World::new(Stage::Dev, vec![spec(1, 2, 2)], vec![there(1, 1, 2)]);
    world.known.insert(name(1), Known { held: [release(2)].into(), ..Known::default() });
    let drift = world.look();
    assert_eq!((kinds(&drift), drift.corrections.len()), (vec![DriftKind::Held], 0));
    for _ in 0..100 {
        assert_eq!(world.look(), Drift::default());
    }
    // The hold is cleared: now it is an image that differs.
    world.known.clear();
    let drift = world.look();
    assert_eq!((kinds(&drift), drift.resolved.len(), drift.corrections.len()), (vec![DriftKind::Image], 1, 1));
}

/// The same image with the mended configuration is something else, and so is the same configuration
/// with another image.
#[test]
fn what_is_held_is_the_release_that_failed() {
    let with = |version| Some(ConfigurationRef { configuration_id: ConfigurationId::new("web").unwrap(), version });
    let held = Release { configuration: with(1), ..release(2) };
    for (wanted, found) in [((2, 1), DriftKind::Held), ((2, 2), DriftKind::Image), ((3, 1), DriftKind::Image)] {
        let wants = ServiceSpec { configuration: with(wanted.1), ..spec(1, wanted.0, 2) };
        let runs = ObservedService { configuration: with(wanted.1), ..there(1, 1, 2) };
        let mut world = World::new(Stage::Dev, vec![wants], vec![runs]);
        world.known.insert(name(1), Known { held: [held.clone()].into(), ..Known::default() });
        let drift = world.look();
        assert_eq!(kinds(&drift), [found], "{wanted:?}");
        assert_eq!(drift.corrections.is_empty(), found == DriftKind::Held, "{wanted:?}");
    }
}

/// H02, F41.
#[test]
fn replicas_that_a_policy_owns_are_no_drift() {
    let mut world = World::new(Stage::Dev, vec![spec(1, 1, 2)], vec![there(1, 1, 9)]);
    world.known.insert(name(1), Known { governed: Some(ReplicaRange { min: 1, max: 9 }), ..Known::default() });
    assert_eq!(world.look(), Drift::default());
    world.observed[0].replicas = 10;
    let drift = world.look();
    assert_eq!((drift.opened[0].desired.as_str(), drift.opened[0].observed.as_str()), ("9", "10"));
}

/// H21, F43: merged while open, opened again with a count, and asked for anew.
#[test]
fn a_drift_that_comes_back_is_opened_again() {
    let mut world = World::new(Stage::Dev, vec![spec(1, 1, 2)], vec![there(1, 2, 2)]);
    let first = world.look();
    world.mark(&FindingState::Remediating { key: first.corrections[0].key.clone(), since: at(150), approved_by: None });
    assert!(world.look().is_quiet());
    world.observed[0] = there(1, 1, 2);
    let gone = world.look();
    assert!(matches!(&gone.resolved[..], [(_, true)]), "R067: it is gone, and it was corrected");
    world.observed[0] = there(1, 2, 2);
    let back = world.look();
    assert_eq!((back.opened[0].opened, &back.opened[0].hash), (2, &first.opened[0].hash));
    assert_ne!(back.corrections[0].key, first.corrections[0].key);
    // Another wrong value is the same drift.
    world.observed[0] = there(1, 3, 2);
    let other = world.look();
    assert_eq!((other.opened.len(), other.changed.len()), (0, 1));
}

/// R076: an operator may leave it as it is.
#[test]
fn what_somebody_accepted_is_not_asked_for() {
    let mut world = World::new(Stage::Dev, vec![spec(1, 1, 2)], vec![there(1, 2, 2)]);
    world.look();
    world.mark(&FindingState::Accepted { by: Principal::new("anna").unwrap() });
    assert_eq!(world.look(), Drift::default());
}

#[test]
fn what_is_on_its_way_is_not_judged() {
    let mut world = World::new(Stage::Dev, vec![spec(1, 1, 2)], vec![there(1, 2, 2)]);
    world.look();
    for known in
        [Known { under_way: true, ..Known::default() }, Known { settled_at: Some(at(101)), ..Known::default() }]
    {
        world.known.insert(name(1), known);
        let unsettled = [name(1)].into();
        assert_eq!(world.look(), Drift { unsettled, ..Drift::default() }, "neither opened nor closed");
    }
    world.known.insert(name(1), Known { settled_at: Some(at(100)), ..Known::default() });
    assert_eq!(world.look().corrections.len(), 1);
}

/// D202, D204.
#[test]
fn nothing_wanted_is_not_taken_for_an_order() {
    let mut world = World::new(Stage::Dev, vec![], vec![there(1, 1, 1)]);
    let environment = EnvironmentId::new("shop").unwrap();
    let look = Look {
        environment: &environment,
        stage: world.stage,
        desired: &world.desired,
        observed: &world.observed,
        known: &world.known,
        findings: &world.findings,
        policy: &world.policy,
    };
    assert_eq!(
        detect(&look, at(0)).unwrap_err().to_string(),
        "desired: it wants nothing, but 1 services run; look at the repository, or set allowEmpty"
    );
    world.policy.allow_empty = true;
    assert_eq!(kinds(&world.look()), [DriftKind::Unmanaged]);
    world.policy.ignore.insert((name(1), DriftKind::Unmanaged));
    assert!(matches!(&world.look().resolved[..], [(_, false)]));
}

proptest! {
    /// F44: over any two worlds, the second look writes nothing and says nothing.
    #[test]
    fn a_second_look_is_quiet(
        desired in prop::collection::btree_map(0u8..6, (0u8..3, 0u32..3), 1..6),
        observed in prop::collection::btree_map(0u8..6, (0u8..3, 0u32..3), 0..6),
        held in prop::collection::btree_set(0u8..3, 0..2),
    ) {
        let desired = desired.into_iter().map(|(n, (of, replicas))| spec(n, of, replicas)).collect();
        let observed = observed.into_iter().map(|(n, (of, replicas))| there(n, of, replicas)).collect();
        let mut world = World::new(Stage::Dev, desired, observed);
        let held: BTreeSet<Release> = held.into_iter().map(release).collect();
        for n in 0..6 {
            world.known.insert(name(n), Known { held: held.clone(), ..Known::default() });
        }
        let first = world.look();
        let second = world.look();
        prop_assert!(second.is_quiet());
        prop_assert_eq!(&second.corrections, &first.corrections);
        for correction in &first.corrections {
            let wanted = world.desired.iter().find(|spec| spec.service_id == correction.service_id).unwrap();
            prop_assert!(!held.iter().any(|held| held.is_wanted_by(wanted)), "what is held is never asked for");
        }
    }
}
