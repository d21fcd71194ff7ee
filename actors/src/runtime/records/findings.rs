//! Findings of drift as they are kept, and what people decide about them (R076).
//!
//! A decision is written into the finding; `DriftDetectionWorker` reads it there at its next look and
//! acts on it. So a decision is kept whoever dies, and nothing is put right twice.

use protocol::{Principal, Tenant, Time};
use supervisor::activity::Failure;

use crate::runtime::model::{
    Digest, DriftFinding, DriftKind, DriftPolicy, EnvironmentId, FindingHash, FindingState, Revision,
};
use crate::runtime::records::place::{self, Place};
use crate::runtime::store::{self, RuntimeStore, Space};

/// The error name of a finding that is not there.
pub const UNKNOWN: &str = "UnknownFinding";
/// The error name of a decision that cannot be made about a finding.
pub const NOT_NOW: &str = "NotNow";

/// The error name of an approval that nobody gave.
pub const NOT_APPROVED: &str = "NotApproved";

/// What a person decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// It is to be put right.
    Approve,
    /// It is to stay as it is.
    Accept,
}

/// Every finding of an environment, by service and kind.
pub async fn all(
    store: &dyn RuntimeStore,
    owner: &Tenant,
    environment: &EnvironmentId,
) -> Result<Vec<DriftFinding>, Failure> {
    let below = place::findings(environment);
    let known = store::read_all::<DriftFinding>(store, &Space::Of(owner.clone()), &below).await?;
    let mut findings: Vec<_> = known.into_iter().map(|(_, finding)| finding).collect();
    findings.sort_by(|one, other| {
        (&one.service_id, one.kind, &one.field).cmp(&(&other.service_id, other.kind, &other.field))
    });
    Ok(findings)
}

/// Who approved that what differs of a service in `kinds` is put right by bringing `to`: the first who
/// approved a finding of these kinds that is still there. Nobody approved another image than the one that
/// `runs` or that is wanted, nor another configuration.
pub async fn approval(
    store: &dyn RuntimeStore,
    place: &Place,
    kinds: &[DriftKind],
    runs: Option<&Digest>,
    to: &Revision,
) -> Result<Option<Principal>, Failure> {
    let mut open = all(store, &place.owner, &place.environment).await?;
    open.retain(|finding| finding.service_id == place.service && finding.is_open());
    let image = |finding: &DriftFinding| match finding.kind {
        DriftKind::Image | DriftKind::Missing => finding.desired == to.image.as_str(),
        DriftKind::Replicas | DriftKind::Configuration | DriftKind::Secret | DriftKind::Unmanaged | DriftKind::Held => {
            false
        }
    };
    let configuration = to.configuration.as_ref().map_or_else(|| "none".to_owned(), ToString::to_string);
    let fits = |finding: &DriftFinding| match finding.kind {
        DriftKind::Image | DriftKind::Missing => image(finding),
        DriftKind::Configuration => finding.desired == configuration,
        DriftKind::Replicas | DriftKind::Secret | DriftKind::Unmanaged | DriftKind::Held => true,
    };
    if runs != Some(&to.image) && !open.iter().any(image) {
        return Ok(None);
    }
    let approved = open.iter().filter(|finding| kinds.contains(&finding.kind) && fits(finding));
    Ok(approved.filter_map(|finding| finding.state.approved_by()).next().cloned())
}

/// What may be put right by itself in an environment, if somebody said so.
pub async fn policy(
    store: &dyn RuntimeStore,
    owner: &Tenant,
    environment: &EnvironmentId,
) -> Result<Option<DriftPolicy>, Failure> {
    let name = place::drift_policy(environment);
    Ok(store::read(store, &Space::Of(owner.clone()), &name).await?.map(|read| read.value))
}

/// Keeps what may be put right by itself; answers whether that changed anything.
pub async fn set_policy(
    store: &dyn RuntimeStore,
    owner: &Tenant,
    environment: &EnvironmentId,
    policy: &DriftPolicy,
) -> Result<bool, Failure> {
    let (space, name, mut changed) = (Space::Of(owner.clone()), place::drift_policy(environment), false);
    store::change(store, &space, &name, |there: Option<&DriftPolicy>| {
        changed = there != Some(policy);
        changed.then(|| policy.clone())
    })
    .await?;
    Ok(changed)
}

/// The one finding whose hash begins with `text`, with or without `sha256:`.
pub fn named<'a>(findings: &'a [DriftFinding], text: &str) -> Result<&'a DriftFinding, Failure> {
    let digits = text.strip_prefix("sha256:").unwrap_or(text);
    let begins = |hash: &FindingHash| hash.as_str().strip_prefix("sha256:").is_some_and(|all| all.starts_with(digits));
    let mut found = findings.iter().filter(|finding| !digits.is_empty() && begins(&finding.hash));
    match (found.next(), found.next()) {
        (Some(finding), None) => Ok(finding),
        (Some(_), Some(_)) => {
            Err(Failure::named(UNKNOWN, format!("several findings begin with {text}; write more of it")))
        }
        (None, _) => Err(Failure::named(UNKNOWN, format!("there is no finding {text}; `skald drift list` has them"))),
    }
}

/// Writes the decision into the finding, and answers the finding and whether that changed it.
pub async fn decide(
    store: &dyn RuntimeStore,
    owner: &Tenant,
    finding: &DriftFinding,
    decision: Decision,
    by: &Principal,
    now: Time,
) -> Result<(DriftFinding, bool), Failure> {
    let (space, name) = (Space::Of(owner.clone()), place::finding(&finding.environment_id, &finding.hash));
    let (mut refused, mut changed) = (None, false);
    let stands = store::change(store, &space, &name, |there: Option<&DriftFinding>| {
        let there = there?;
        refused = may(there, decision).err();
        let state = match (decision, &there.state) {
            (Decision::Approve, FindingState::Approved { .. } | FindingState::Remediating { .. })
            | (Decision::Accept, FindingState::Accepted { .. }) => None,
            (Decision::Approve, FindingState::Open | FindingState::Accepted { .. } | FindingState::Resolved { .. }) => {
                Some(FindingState::Approved { by: by.clone(), at: now })
            }
            (
                Decision::Accept,
                FindingState::Open
                | FindingState::Approved { .. }
                | FindingState::Remediating { .. }
                | FindingState::Resolved { .. },
            ) => Some(FindingState::Accepted { by: by.clone() }),
        };
        changed = refused.is_none() && state.is_some();
        state.filter(|_| changed).map(|state| DriftFinding { state, ..there.clone() })
    })
    .await?;
    match (refused, stands) {
        (Some(refused), _) => Err(refused),
        (None, Some(finding)) => Ok((finding, changed)),
        (None, None) => Err(Failure::named(UNKNOWN, "the finding is not there any more")),
    }
}

/// Whether `decision` can be made about a finding, and why not.
pub fn may(finding: &DriftFinding, decision: Decision) -> Result<(), Failure> {
    let service = &finding.service_id;
    if !finding.is_open() {
        return Err(Failure::named(NOT_NOW, "the finding is gone: what is there is what is wanted"));
    }
    let why = match (decision, finding.kind) {
        (Decision::Accept, _) => return Ok(()),
        (
            Decision::Approve,
            DriftKind::Image | DriftKind::Replicas | DriftKind::Configuration | DriftKind::Secret | DriftKind::Missing,
        ) => return Ok(()),
        (Decision::Approve, DriftKind::Unmanaged) => {
            format!("nobody wrote down how {service} should be; write it down, end it by hand, or accept the finding")
        }
        (Decision::Approve, DriftKind::Held) => {
            format!(
                "what is wanted of {service} was rolled back; let desired state move on, or `skald services unhold`"
            )
        }
    };
    Err(Failure::named(NOT_NOW, why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::model::ServiceId;
    use crate::runtime::store::MemoryStore;

    fn finding(kind: DriftKind, digit: char) -> DriftFinding {
        DriftFinding {
            hash: FindingHash::new(format!("sha256:{}", digit.to_string().repeat(64))).unwrap(),
            environment_id: EnvironmentId::new("prod").unwrap(),
            service_id: ServiceId::new("web").unwrap(),
            kind,
            field: String::new(),
            desired: "3".into(),
            observed: "2".into(),
            state: FindingState::Open,
            opened: 1,
            opened_at: Time::from_micros(0),
        }
    }

    #[tokio::test]
    async fn a_decision_is_kept_once_and_only_where_it_can_be_carried_out() {
        let (store, acme, ann) = (MemoryStore::new(), Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
        let (image, unmanaged) = (finding(DriftKind::Image, 'a'), finding(DriftKind::Unmanaged, 'b'));
        for one in [&image, &unmanaged] {
            let name = place::finding(&one.environment_id, &one.hash);
            store::write(&store, &Space::Of(acme.clone()), &name, one, 0).await.unwrap();
        }
        let known = all(&store, &acme, &image.environment_id).await.unwrap();
        assert_eq!(named(&known, "aaaa").unwrap().hash, image.hash);
        assert_eq!(named(&known, "c").unwrap_err().error, UNKNOWN);
        let now = Time::from_micros(5);
        let decided = |one: DriftFinding, what| {
            let (store, acme, ann) = (&store, &acme, &ann);
            async move { decide(store, acme, &one, what, ann, now).await }
        };
        let (approved, changed) = decided(image.clone(), Decision::Approve).await.unwrap();
        assert!(changed && approved.state.approved_by() == Some(&ann));
        assert!(!decided(image.clone(), Decision::Approve).await.unwrap().1, "again: nothing");
        assert_eq!(decided(unmanaged.clone(), Decision::Approve).await.unwrap_err().error, NOT_NOW);
        assert!(decided(unmanaged, Decision::Accept).await.unwrap().1);
    }
}
