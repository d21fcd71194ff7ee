//! What every adapter of [`Provisioner`] must do.

use protocol::Tenant;

use super::*;
use crate::runtime::model::{Isolation, Stage, Status};

/// A plan for `name`.
pub fn plan(name: &str, replicas: u32) -> Plan {
    let quota = Quota { replicas, memory_bytes: Some(1 << 30), cpu_millis: None };
    Plan { wanted: Wanted::Present { quota }, ..absent(name) }
}

/// That `name` should go.
pub fn absent(name: &str) -> Plan {
    let environment = Environment {
        environment_id: EnvironmentId::new(name).unwrap(),
        tenant_id: Tenant::new("acme").unwrap(),
        stage: Stage::Test,
        region: "north".into(),
        status: Status::Requested,
        isolation_model: Isolation::Silo,
        max_replicas: None,
        removed_by: None,
    };
    Plan { environment, wanted: Wanted::Absent }
}

fn refusal<T: fmt::Debug>(result: Result<T, Failure>) -> String {
    let failure = result.unwrap_err();
    assert!(failure.permanent, "{failure}");
    failure.error
}

/// Holds `provisioner` to the port's promises. Nothing is there yet.
pub async fn hold(provisioner: &dyn Provisioner) {
    let shop = EnvironmentId::new("shop").unwrap();
    let state = async || provisioner.state(&shop).await.unwrap();
    assert_eq!(state().await, None);

    // A preview changes nothing, and is the same again.
    let make = plan("shop", 10);
    let preview = provisioner.preview(&make).await.unwrap();
    assert!(!preview.changes.is_empty() && preview.changes.iter().all(|change| change.from.is_none()), "{preview:?}");
    assert_eq!(provisioner.preview(&make).await.unwrap(), preview);
    assert_eq!(state().await, None);

    // Nothing is applied that was not shown.
    assert_eq!(refusal(provisioner.apply(&make, &PreviewId::new("made up")).await), "PreviewChanged");
    assert_eq!(refusal(provisioner.apply(&plan("shop", 11), &preview.id).await), "PreviewChanged");
    assert_eq!(state().await, None);

    // What was shown is applied, once.
    let outputs = provisioner.apply(&make, &preview.id).await.unwrap();
    assert!(!outputs.is_empty());
    let made = state().await.unwrap();
    assert_eq!((made.quota.replicas, &made.outputs), (10, &outputs));
    assert_eq!(made.environment.status, Status::Provisioned);
    assert_eq!(provisioner.apply(&make, &preview.id).await.unwrap(), outputs, "again: nothing happens");
    assert_eq!(state().await.unwrap(), made);
    assert_eq!(provisioner.preview(&make).await.unwrap().changes, []);

    // A change shows exactly what changes. Of two that were shown, the second one is refused.
    let (more, less) = (plan("shop", 20), plan("shop", 5));
    let (grow, shrink) = (provisioner.preview(&more).await.unwrap(), provisioner.preview(&less).await.unwrap());
    assert_eq!(grow.changes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["quota.replicas: 10 becomes 20"]);
    provisioner.apply(&more, &grow.id).await.unwrap();
    assert_eq!(refusal(provisioner.apply(&less, &shrink.id).await), "PreviewChanged");
    assert_eq!(refusal(provisioner.apply(&make, &preview.id).await), "PreviewChanged", "nor an old one");
    assert_eq!(state().await.unwrap().quota.replicas, 20);
    assert_eq!(state().await.unwrap().outputs, outputs, "what was made stays what it is");

    // What is fixed, and what makes no sense.
    let mut moved = plan("shop", 20);
    moved.environment.region = "south".into();
    assert_eq!(refusal(provisioner.preview(&moved).await), "BadPlan");
    for bad in ["..", ".hidden"] {
        assert_eq!(refusal(provisioner.preview(&plan(bad, 1)).await), "BadPlan");
    }
    assert_eq!(refusal(provisioner.preview(&plan("big", REPLICAS_MAX + 1)).await), "BadPlan");

    // Two environments share nothing.
    let other = plan("other", 1);
    let preview_of_other = provisioner.preview(&other).await.unwrap();
    let others = provisioner.apply(&other, &preview_of_other.id).await.unwrap();
    assert!(outputs.iter().all(|(name, value)| others.get(name) != Some(value)), "{outputs:?} {others:?}");

    // It goes, once; and a preview from before does not bring it back.
    let go = absent("shop");
    let end = provisioner.preview(&go).await.unwrap();
    assert!(!end.changes.is_empty() && end.changes.iter().all(|change| change.to.is_none()), "{end:?}");
    for _ in 0..2 {
        provisioner.apply(&go, &end.id).await.unwrap();
        assert_eq!(state().await, None);
    }
    for (plan, preview) in [(&make, &preview.id), (&more, &grow.id)] {
        assert_eq!(refusal(provisioner.apply(plan, preview).await), "PreviewChanged");
    }
    assert_eq!(state().await, None);
    assert_eq!(provisioner.preview(&go).await.unwrap().changes, [], "what is not there goes without a change");

    // It may come again, as something new.
    let again = provisioner.preview(&make).await.unwrap();
    assert_ne!(again.id, preview.id);
    provisioner.apply(&make, &again.id).await.unwrap();
    assert_eq!(state().await.unwrap().quota.replicas, 10);
}
