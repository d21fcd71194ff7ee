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
use serde_json::json;
use supervisor::ports::Clock;

use crate::compute_contract::{Place, until, workload};

pub mod conversation;
pub mod kubelet;

use conversation::Conversation;
use kubelet::Kubelet;

/// Set it to write anew the conversations that there are, against a server without their namespaces;
/// for one more make an empty file first.
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

/// A moment.
struct At(Time);

impl Clock for At {
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
            let kubernetes = adapter(&dir, &plain, &conversation, Arc::new(At(conversation.at)), secrets.clone()).await;
            return Some(Self { case, dir, namespace: plain, conversation, kubernetes, real: None, secrets });
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
        let conversation = Conversation::with(client.clone(), Now.now()).await;
        let kubernetes = adapter(&dir, &namespace, &conversation, Arc::new(Now), secrets.clone()).await;
        let real = Some(Real { client, kubelet });
        Some(Self { case, dir, namespace, conversation, kubernetes, real, secrets })
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
        let file = file(self.case);
        if std::env::var_os(RECORD).is_some() && file.exists() {
            std::fs::write(file, self.conversation.text()).unwrap();
        }
        let namespaces: Api<Namespace> = Api::all(real.client.clone());
        namespaces.delete(&self.namespace, &Default::default()).await.unwrap();
        // The kubelet is still there: it ends the pods, and nothing is left of the case.
        until("the namespace is gone", async || {
            namespaces.get_opt(&self.namespace).await.unwrap().is_none().then_some(())
        })
        .await;
    }
}

async fn adapter(
    dir: &tempfile::TempDir,
    namespace: &str,
    conversation: &Conversation,
    clock: Arc<dyn Clock>,
    secrets: Option<Secrets>,
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
        let clock: Arc<dyn Clock> = match &self.real {
            Some(_) => Arc::new(Now),
            None => Arc::new(At(self.conversation.at)),
        };
        self.kubernetes = adapter(&self.dir, &self.namespace, &self.conversation, clock, self.secrets.clone()).await;
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
