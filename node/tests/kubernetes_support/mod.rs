//! A cluster for a test: a real API server where `KUBECONFIG` names one, else what one said before.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actors::runtime::compute::Compute;
use actors::runtime::compute::observed::ObservedReplica;
use actors::runtime::compute::process::Secrets;
use async_trait::async_trait;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::api::ListParams;
use kube::{Api, Client, Config};
use node::kubernetes::{Kubernetes, Settings};
use protocol::Time;
use serde_json::{Value, json};
use supervisor::ports::Clock;

use crate::compute_contract::{Place, workload};

pub mod conversation;
pub mod kubelet;

use conversation::Conversation;
use kubelet::Kubelet;

/// Set it to write conversations anew, on a fresh API server.
const RECORD: &str = "SKALD_RECORD";
/// The artifact of every set: the played kubelet runs the workload, whatever it is.
pub const DIGEST: &str = "5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e5ca1ab1e";

pub struct Now;

impl Clock for Now {
    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        Time::from_micros(since.as_micros().try_into().unwrap())
    }
}

/// The time of a conversation that is told again: when the last thing in it happened.
struct Then(Time);

impl Then {
    fn of(text: &str) -> Self {
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        Self(lines.filter_map(|line: Value| newest(&line)).max().unwrap_or(Time::from_micros(0)))
    }
}

/// The latest time in `value`, wherever it stands.
fn newest(value: &Value) -> Option<Time> {
    match value {
        Value::String(text) => serde_json::from_value(text.as_str().into()).ok(),
        Value::Array(all) => all.iter().filter_map(newest).max(),
        Value::Object(fields) => fields.values().filter_map(newest).max(),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

impl Clock for Then {
    fn now(&self) -> Time {
        self.0
    }
}

/// A namespace of a cluster, with the adapter.
pub struct World {
    case: &'static str,
    dir: tempfile::TempDir,
    pub namespace: String,
    pub conversation: Conversation,
    pub kubernetes: Kubernetes,
    pub real: Option<Real>,
    clock: Arc<dyn Clock>,
    secrets: Option<Secrets>,
}

/// What there is only with a real server.
pub struct Real {
    /// A way to it past the adapter.
    pub client: Client,
    kubelet: Kubelet,
}

fn file(case: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/kubernetes_conversations/{case}.jsonl"))
}

impl World {
    /// For `case`. `None`, with the reason printed: there is no server, and no conversation of the case.
    pub async fn open(case: &'static str, secrets: Option<Secrets>) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let plain = format!("skald-{}", case.replace('_', "-"));
        if std::env::var_os("KUBECONFIG").is_none() {
            let Ok(text) = std::fs::read_to_string(file(case)) else {
                println!("skipped: {case} needs an API server; set KUBECONFIG (see tests/kubernetes.rs)");
                return None;
            };
            let conversation = Conversation::told(&text).await;
            let clock: Arc<dyn Clock> = Arc::new(Then::of(&text));
            let kubernetes = adapter(&dir, &plain, &conversation, (clock.clone(), secrets.clone())).await;
            return Some(Self { case, dir, namespace: plain, conversation, kubernetes, real: None, clock, secrets });
        }
        let client = Client::try_from(Config::infer().await.unwrap()).unwrap();
        let nodes = Api::<Node>::all(client.clone()).list(&ListParams::default().limit(1)).await.unwrap();
        assert!(nodes.items.is_empty(), "the test plays the kubelet: name an API server without nodes");
        let namespace = match std::env::var_os(RECORD) {
            Some(_) => plain,
            None => format!("{plain}-{}", &uuid::Uuid::new_v4().simple().to_string()[..8]),
        };
        let made = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } });
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&Default::default(), &serde_json::from_value(made).unwrap()).await.unwrap();
        let program = dir.path().join("workload");
        std::fs::write(&program, workload()).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let kubelet = Kubelet::begin(client.clone(), &namespace, program);
        let conversation = Conversation::with(client.clone()).await;
        let clock: Arc<dyn Clock> = Arc::new(Now);
        let kubernetes = adapter(&dir, &namespace, &conversation, (clock.clone(), secrets.clone())).await;
        let real = Some(Real { client, kubelet });
        Some(Self { case, dir, namespace, conversation, kubernetes, real, clock, secrets })
    }

    /// Something happens in the cluster behind the adapter's back.
    pub async fn behind(&self, happens: impl AsyncFnOnce(Client)) {
        self.conversation.mark();
        if let Some(real) = &self.real {
            happens(real.client.clone()).await;
        }
    }

    /// The case is over.
    pub async fn end(self) {
        self.kubernetes.close().await;
        assert_eq!(self.conversation.faults(), Vec::<String>::new());
        let Some(real) = &self.real else { return };
        if std::env::var_os(RECORD).is_some() {
            let file = file(self.case);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, self.conversation.text()).unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(real.client.clone());
        namespaces.delete(&self.namespace, &Default::default()).await.unwrap();
    }
}

async fn adapter(
    dir: &tempfile::TempDir,
    namespace: &str,
    conversation: &Conversation,
    (clock, secrets): (Arc<dyn Clock>, Option<Secrets>),
) -> Kubernetes {
    let mut settings = Settings::new(dir.path().join("state"), "registry.example.org/shop/{service}");
    settings.namespace = namespace.to_owned();
    settings.stop_time = Duration::from_secs(2);
    settings.retry_pause = Duration::from_millis(200);
    settings.secrets = secrets;
    Kubernetes::open_with(settings, conversation.client(), clock).await.unwrap()
}

#[async_trait]
impl Place for World {
    fn compute(&self) -> &dyn Compute {
        &self.kubernetes
    }

    fn publish(&self, _: &[u8]) -> String {
        DIGEST.to_owned()
    }

    fn publish_as(&self, _: &[u8], _: &str) {
        unreachable!("images are somebody else's")
    }

    async fn reborn(&mut self) {
        self.kubernetes.close().await;
        let given = (self.clock.clone(), self.secrets.clone());
        self.kubernetes = adapter(&self.dir, &self.namespace, &self.conversation, given).await;
    }

    async fn kill(&self, replica: &ObservedReplica) {
        self.conversation.mark();
        if let Some(real) = &self.real {
            real.kubelet.kill(&replica.id);
        }
    }

    fn has_logs(&self) -> bool {
        // The API server asks the node for them, and there is none.
        false
    }
}
