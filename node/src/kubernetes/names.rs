//! What our objects are called, and the labels and annotations that mark them as ours.

use actors::runtime::compute::SetId;
use sha2::{Digest as _, Sha256};
use supervisor::activity::Failure;

/// Whose fields are ours, in every object that we apply.
pub const MANAGER: &str = "skald";
/// The label by which everybody sees who keeps an object; we watch nothing without it.
pub const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Labels: whose an object is.
pub const ENVIRONMENT: &str = "skald/environment";
/// See [`ENVIRONMENT`].
pub const SERVICE: &str = "skald/service";
/// See [`ENVIRONMENT`].
pub const REVISION: &str = "skald/revision";
/// On a Deployment: what it was made of ([`Made`](super::made::Made)).
pub const MADE: &str = "skald/made";
/// On a Deployment: how many replicas should be there. `spec.replicas` follows, when those that are
/// too many have been drained.
pub const WANTED: &str = "skald/wanted";
/// On a Deployment: it is on its way out.
pub const REMOVING: &str = "skald/removing";
/// On a pod: the artifact that it runs.
pub const DIGEST: &str = "skald/digest";
/// On a pod: the configuration that it runs with.
pub const CONFIG_VERSION: &str = "skald/config-version";
/// On a pod: it gets no more requests, and why.
pub const LEAVING: &str = "skald/leaving";
/// On a Service: where requests go.
pub const ROUTES: &str = "skald/routes";
/// On a Secret: a digest of the variables that it holds.
pub const VARIABLES: &str = "skald/variables";
/// Tells the controller which pods to end first when a Deployment shrinks.
pub const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";
/// What selects all of ours.
pub const OURS: &str = "app.kubernetes.io/managed-by=skald";
/// The container of a pod that is the replica.
pub const CONTAINER: &str = "main";

/// Bytes of a service's and of a revision's name that stand in an object's name: a person should
/// know it again, and with what Kubernetes adds a pod's name should be a host name of 63 bytes.
const SERVICE_BYTES: usize = 24;
const REVISION_BYTES: usize = 10;

/// The name of the Deployment and the Secret of a set. The digest keeps names apart that are cut.
pub fn of(id: &SetId) -> String {
    let digest = hex::encode(Sha256::digest(id.to_string()));
    let short = |name: &str, most: usize| name[..name.len().min(most)].to_owned();
    let (service, revision) = (short(&id.service, SERVICE_BYTES), short(&id.revision, REVISION_BYTES));
    format!("{service}-{revision}-{}", &digest[..8])
}

/// Whether Kubernetes takes the names: labels must end with a letter or digit, and a Service's name
/// must begin with a letter.
pub fn check(id: &SetId) -> Result<(), Failure> {
    let bad = |why: String| Err(Failure::named("BadSet", why));
    for name in [&id.environment, &id.service, &id.revision] {
        if name.ends_with('-') {
            return bad(format!("Kubernetes takes no name that ends with a hyphen, as {name:?} does"));
        }
    }
    if !id.service.starts_with(|first: char| first.is_ascii_lowercase()) {
        return bad(format!("in Kubernetes the name of a service begins with a letter, unlike {:?}", id.service));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_short_and_apart() {
        let long = SetId::new("prod", "s".repeat(63), "r".repeat(63));
        assert!(of(&long).len() + "-0123456789-abcde".len() <= 63, "{}", of(&long));
        let (one, other) = (SetId::new("prod", "a-b", "c"), SetId::new("prod", "a", "b-c"));
        assert_ne!(of(&one), of(&other));
        assert_ne!(of(&one), of(&SetId { environment: "test".into(), ..one.clone() }));
        assert!(check(&one).is_ok());
        for bad in [SetId::new("prod", "7up", "r1"), SetId::new("prod", "web", "r1-"), SetId::new("p-", "web", "r")] {
            assert_eq!(check(&bad).unwrap_err().error, "BadSet");
        }
    }
}
