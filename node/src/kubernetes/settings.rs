//! What the adapter may be told.

use std::path::PathBuf;
use std::time::Duration;

use actors::runtime::compute::gateway;
use actors::runtime::compute::process::Secrets;
use actors::runtime::compute::set::Set;
use supervisor::activity::Failure;

/// The first port of a replica: `PORT`. Extra ports are the ones after it. Pods have addresses of
/// their own, so all replicas may have the same; above 1024, so that nobody needs to be root.
pub const PORT: u16 = 8080;

/// How a cluster is used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the addresses of gateways are kept, and the lock that keeps other adapters out.
    pub dir: PathBuf,
    /// The kubeconfig. `None`: what `KUBECONFIG` names, else the user's own, else the service
    /// account of the pod we run in.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it. `None`: its current one.
    pub context: Option<String>,
    /// The namespace of an environment; `{environment}` stands for its name. It must be there.
    pub namespace: String,
    /// The repository of a service's images; `{service}` stands for its name. The digest of the
    /// set's artifact is put behind it.
    pub image: String,
    /// How long requests under way may take when a replica is to end.
    pub drain_time: Duration,
    /// How long a process may take to end after it was asked to: the pod's grace period.
    pub stop_time: Duration,
    /// How long we wait to see what we wrote, or for a watch that broke: several round trips.
    pub settle_time: Duration,
    /// The pause before a removal, a shrinking or a restart that failed is tried again.
    pub retry_pause: Duration,
    /// Where secrets are kept. `None`: a set that needs any is refused.
    pub secrets: Option<Secrets>,
    /// The gateways.
    pub gateway: gateway::Settings,
}

impl Settings {
    /// With the defaults, keeping its own in `dir`, for images below `image`.
    pub fn new(dir: impl Into<PathBuf>, image: impl Into<String>) -> Self {
        Self {
            dir: dir.into(),
            kubeconfig: None,
            context: None,
            namespace: "skald-{environment}".to_owned(),
            image: image.into(),
            drain_time: Duration::from_secs(30),
            stop_time: Duration::from_secs(10),
            settle_time: Duration::from_secs(10),
            retry_pause: Duration::from_secs(5),
            secrets: None,
            gateway: gateway::Settings::default(),
        }
    }

    /// The namespace of `environment`.
    pub fn namespace_of(&self, environment: &str) -> Result<String, Failure> {
        let namespace = self.namespace.replace("{environment}", environment);
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let fits = (1..=63).contains(&namespace.len())
            && namespace.bytes().all(plain)
            && !namespace.starts_with('-')
            && !namespace.ends_with('-');
        match fits {
            true => Ok(namespace),
            false => Err(Failure::named(
                "BadSet",
                format!("{namespace:?} cannot be a namespace: set runtime.kubernetes.namespace to something shorter"),
            )),
        }
    }

    /// The image of `set`: exactly the bytes of its digest, whatever tags say.
    pub fn image_of(&self, set: &Set) -> String {
        format!("{}@sha256:{}", self.image.replace("{service}", &set.id.service), set.digest)
    }
}
