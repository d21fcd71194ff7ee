//! What can be set on a node, and why each default is what it is.
//!
//! A setting is written once, with its reason: the same words are the documentation, the comments
//! of `skald node --print-config` and the list from which a misspelt name is corrected. Values come
//! from a TOML file, then from `SKALD_…` variables (two underscores between section and name), then
//! from flags. There is deliberately no reading of settings anywhere else.

mod adapters;
mod load;
mod print;
mod servers;

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::{Path, PathBuf};

use actors::runtime::compute::confine::users as process_users;
use actors::runtime::ports::desired::git;
use protocol::NodeId;
use serde::{Deserialize, Serialize};
use supervisor::machine::definition::source::SOURCE_MAX_BYTES;

use crate::secret::{Secret, without_login};

pub use load::{Fault, load};

/// Variables that belong to the command line, not to the node's settings.
pub const CLI_VARIABLES: &[&str] =
    &["server", "tenant", "as", "creds", "tls_authorities", "tls_identity", "color", "state", "nats_server"];

/// A named setting with the lines of its documentation.
pub type Described = (&'static str, &'static [&'static str]);

macro_rules! settings {
    ($(#[doc = $about:literal])+ pub struct $name:ident { $(
        $(#[doc = $doc:literal])+ $(#[serde($($attr:tt)*)])? $field:ident : $type:ty = $default:expr,
    )+ }) => {
        $(#[doc = $about])+
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name { $( $(#[doc = $doc])+ $(#[serde($($attr)*)])? pub $field: $type, )+ }

        impl $name {
            /// Every setting of this section, with its documentation.
            pub const SETTINGS: &'static [Described] = &[ $( (stringify!($field), &[$($doc),+]), )+ ];
        }

        impl Default for $name {
            fn default() -> Self { Self { $( $field: $default, )+ } }
        }
    };
}

settings! {
    /// One node.
    pub struct Config {
        /// The node's name, unique in its cluster. When it is not set, the host's name and a short
        /// random suffix are chosen once and kept in `data_dir`, so that a restart is the same node.
        #[serde(skip_serializing_if = "Option::is_none")]
        node: Option<NodeId> = None,
        /// Addresses of the NATS servers; any one that answers is enough to find the others.
        #[serde(deserialize_with = "servers::read")]
        servers: Vec<String> = vec![DEFAULT_SERVER.to_owned()],
        /// Monitoring addresses of all servers (`http://host:8222`): the only place where a server
        /// says when it writes through to the disk.
        #[serde(deserialize_with = "servers::read")]
        monitors: Vec<String> = Vec::new(),
        /// A NATS credentials file, or one that `skald nats config` wrote. Without any way to say who
        /// it is, the node connects as the server's default user.
        #[serde(skip_serializing_if = "Option::is_none")]
        credentials: Option<PathBuf> = None,
        /// Where the node keeps what belongs to this machine: its name, its logs. Nothing here is
        /// needed to recover a saga.
        data_dir: PathBuf = default_data_dir(),
        /// Shards of the cluster. Fixed when the cluster is created: it decides which journal a saga
        /// is in. Few busy writers fill larger frames than many idle ones: with 64 clients, 4 finish a
        /// third more sagas than 8 on one disk. At least as many as there will be nodes.
        shards: u16 = 4,
        /// The connection to NATS, beyond its address.
        nats: Nats = Nats::default(),
        /// The journal.
        journal: Journal = Journal::default(),
        /// Events and dead letters.
        events: Events = Events::default(),
        /// Limits: a full queue answers "busy", it never grows in silence.
        limits: Limits = Limits::default(),
        /// Sagas in memory.
        sagas: Sagas = Sagas::default(),
        /// Membership and ownership.
        cluster: Cluster = Cluster::default(),
        /// The debug endpoint.
        debug: Debug = Debug::default(),
        /// The HTTP door of the runtime platform.
        http: Http = Http::default(),
        /// Logs and traces.
        telemetry: Telemetry = Telemetry::default(),
        /// Definitions.
        definitions: Definitions = Definitions::default(),
        /// The marketplace's catalogue.
        catalog: Catalog = Catalog::default(),
        /// The runtime platform.
        runtime: Runtime = Runtime::default(),
    }
}

settings! {
    /// The connection to NATS, beyond its address.
    pub struct Nats {
        /// A user; needs `password`.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<String> = None,
        /// The user's password.
        #[serde(skip_serializing_if = "Option::is_none")]
        password: Option<Secret> = None,
        /// A token.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<Secret> = None,
        /// The seed of an nkey.
        #[serde(skip_serializing_if = "Option::is_none")]
        nkey_seed: Option<Secret> = None,
        /// Where answers to this node come, when its permissions name a place: `_INBOX_skald` lets it
        /// listen to `_INBOX_skald.>`. A file that `skald nats config` wrote says it by itself.
        #[serde(skip_serializing_if = "Option::is_none")]
        inbox_prefix: Option<String> = None,
        /// Refuse a connection that is not encrypted.
        tls_required: bool = false,
        /// A file with the certificates of authorities to trust, instead of the system's.
        #[serde(skip_serializing_if = "Option::is_none")]
        tls_authorities: Option<PathBuf> = None,
        /// The node's own certificate; needs `tls_key`.
        #[serde(skip_serializing_if = "Option::is_none")]
        tls_certificate: Option<PathBuf> = None,
        /// The key of the node's certificate.
        #[serde(skip_serializing_if = "Option::is_none")]
        tls_key: Option<PathBuf> = None,
        /// How long to try before giving up at the start, in milliseconds.
        start_within_ms: u64 = 30_000,
    }
}

settings! {
    /// The journal.
    pub struct Journal {
        /// How shards are laid onto streams: `one` stream for all, or one stream `per-shard`. `auto`
        /// takes `per-shard` on one server (faster there) and `one` on several (fewer Raft groups).
        streams: Streams = Streams::Auto,
        /// Copies of the journal: 1, 3 or 5. Three need three servers.
        replicas: u32 = 1,
        /// How long history is kept, in hours; 720 are 30 days.
        retention_hours: u64 = 720,
        /// How long an append may take, in milliseconds; one that takes longer is undecided, and the
        /// shard looks at its last frame.
        append_timeout_ms: u64 = 2_000,
    }
}

settings! {
    /// Events and dead letters.
    pub struct Events {
        /// How long events are kept for consumers that were away, in hours; 336 are two weeks.
        kept_hours: u64 = 336,
        /// How long dead letters are kept, in hours: as long as the journal that explains them.
        dead_kept_hours: u64 = 720,
        /// How long the server remembers an event's id, in milliseconds: a repetition within it costs
        /// nothing. What may have been sent longer ago is looked for in the stream first.
        dedupe_window_ms: u64 = 120_000,
        /// How long an event that the servers refuse for good (too large, no permission, a sealed
        /// stream) is tried again, in milliseconds, before it becomes a dead letter and the others go on.
        refused_for_ms: u64 = 5_000,
        /// How long the oldest unsent event of a shard, or a timer that is due, may wait before the
        /// node says that the shard stands still, in milliseconds.
        still_after_ms: u64 = 30_000,
        /// Dead letters of one tenant that each node keeps in a second, over a minute; more are only counted.
        dead_per_second: NonZeroU32 = const { NonZeroU32::new(20).unwrap() },
        /// Bytes of them in a second, over a minute; beyond it only the head and a digest are kept.
        dead_bytes_per_second: NonZeroU32 = const { NonZeroU32::new(65_536).unwrap() },
        /// Bytes of one tenant's dead letters that each node keeps whole at once, and again over
        /// `dead_kept_hours`: so that one tenant's do not fill the disk. Beyond it only heads and digests are kept.
        dead_bytes_per_tenant: NonZeroU32 = const { NonZeroU32::new(67_108_864).unwrap() },
        /// The largest dead letter that is kept whole, in bytes: the largest command fits.
        dead_letter_bytes: usize = 1_048_576,
        /// Dead letters of one tenant of which only the head is kept, and which a node holds in memory at once
        /// until it is. Each may be as large as a message. All tenants together may have four times as many.
        /// A letter beyond either limit is only counted.
        dead_heads_at_once: NonZeroUsize = const { NonZeroUsize::new(4).unwrap() },
        /// Dead letters of one tenant and reason; beyond it the oldest go.
        dead_per_reason: u32 = 1_000,
        /// Bytes of all dead letters together; beyond it the oldest go. 0 is no limit: a server sets aside
        /// as much as is named here.
        dead_bytes: u64 = 0,
        /// Whether an event is on the disk before it counts as published. Without it one server
        /// publishes ten times as many, and a power cut can take the last moments' events.
        synced: bool = true,
    }
}

settings! {
    /// Limits.
    pub struct Limits {
        /// Commands a node works on at once. Beyond it a command is answered "busy" at the door.
        commands_in_flight: usize = 4_096,
        /// How many of these may be one tenant's, so that the rest find room.
        commands_per_tenant: usize = 1_024,
        /// Commands that wait for an outcome at once (`saga.wait`, `saga.start` with `waitMs`); they
        /// cost little and do not count among the others.
        waits_in_flight: usize = 16_384,
        /// How many of these may be one tenant's, so that the rest find room.
        waits_per_tenant: usize = 4_096,
        /// Facts that may wait for one saga; a saga that gets more signals than it can record is full.
        facts_per_saga: usize = 10_000,
        /// Attempts of one activity running at once on this node.
        attempts_per_activity: usize = 1_024,
        /// The largest body of a command or of a worker's answer, in bytes. Below what the servers
        /// carry in one message (`max_payload`, 1 MiB unless they say otherwise).
        body_bytes: usize = 524_288,
        /// The longest source of a definition that may be deployed, in bytes.
        definition_bytes: usize = 262_144,
        /// Time for all expressions of one decision together, in milliseconds. What needs more goes on
        /// behind the others; a state whose expressions alone need more fails.
        expression_ms: u64 = 1_000,
        /// States of one saga that may need more than that, with nothing from outside in between; then it is
        /// parked as stuck until an operator releases it. A retry or two is fair, the rest holds up others.
        overruns: u32 = 5,
        /// States that a saga may enter without waiting for anything; then it is parked as stuck. Some
        /// minutes of turns, and more than any list that fits into a saga has items.
        unbroken_states: u64 = 1_000_000,
        /// Decisions with expressions that take long which may be under way at once, each on a thread of
        /// its own; tenants take turns. 0: one fewer than processors, and at least two.
        decision_threads: usize = 0,
        /// Deepest evaluation of one expression: recursion beyond it is a mistake.
        expression_depth: usize = 2_000,
        /// Longest list an expression may make on the way.
        expression_items: usize = 20_000,
        /// Most bytes an expression may make on the way, shared parts counted each time.
        expression_bytes: usize = 8_388_608,
        /// Largest value a saga keeps (an input, a result, an output, variables), in bytes of JSON.
        value_bytes: usize = 262_144,
        /// Items of one Map; each is some hundred bytes of state.
        map_items: usize = 10_000,
        /// How many parents a saga may have above it; the step that would start a deeper one fails with
        /// `Saga.LimitExceeded`. A definition that starts itself ends here.
        child_depth: u32 = 32,
        /// Living sagas below one that was started from outside, together with their children's. The step
        /// that would start one more fails with `Saga.LimitExceeded`. Each shard holds its part of the
        /// limit, rounded up, because sagas are spread evenly over them.
        descendants: usize = 20_000,
        /// Environments that one tenant may make; another one is refused. Each has workers that look after
        /// it every few seconds.
        environments_per_tenant: usize = 200,
        /// Versions of definitions of one tenant; a deployment that would make one more is refused. A
        /// gigabyte at most, when each has the longest source.
        definitions_per_tenant: usize = 4_000,
        /// Living sagas of one tenant, by shard in the same way. A start beyond it is refused; a child
        /// fails the step that starts it with `Saga.LimitExceeded`. One that sleeps takes about half a
        /// kilobyte of a node's memory.
        sagas_per_tenant: usize = 500_000,
        /// Bytes that the journal keeps for the living sagas of one tenant: the state of each as it was
        /// last stored, and its records since. A start beyond it is refused; a child fails the step that
        /// starts it with `Saga.LimitExceeded`; what lives goes on. Each shard holds its part of the
        /// limit, wherever it is. A takeover reads it all; these are 4 KiB for each of as many sagas as
        /// one tenant may have.
        journal_bytes_per_tenant: u64 = 2_147_483_648,
        /// Bytes that one tenant may write to the journal in a day, by shard in the same way. What its ended
        /// sagas leave there stays as long as the journal keeps it (`journal.retention_hours`), so that this
        /// bounds what one tenant takes of the servers' disks. A start beyond it is refused; a child fails the
        /// step that starts it with `Saga.LimitExceeded`; what lives goes on. Three megabytes a second, all day.
        journal_bytes_per_day: u64 = 274_877_906_944,
    }
}

settings! {
    /// Sagas in memory.
    pub struct Sagas {
        /// Records after which a snapshot is written: the most a takeover replays for one saga.
        snapshot_every_records: u64 = 64,
        /// How long a changed saga may go without a snapshot, in milliseconds.
        snapshot_every_ms: u64 = 10_000,
        /// Ended sagas that each shard remembers, so that a repeated start is answered with what came of
        /// the first; beyond it the oldest of the tenant that has the most are forgotten. Each takes half
        /// a kilobyte on the server's disk, and some seven bytes of memory.
        ended_per_shard: usize = 1_000_000,
        /// How long an ended saga is remembered where its definition does not say so, in hours; 168 are
        /// a week.
        ended_kept_hours: u64 = 168,
    }
}

settings! {
    /// Membership and ownership.
    pub struct Cluster {
        /// How long a silent node counts as alive, in milliseconds; it beats five times as often.
        /// Shorter takes over sooner, and takes shards from nodes that were only slow. Safety does
        /// not depend on it.
        dead_after_ms: u64 = 1_000,
        /// How long a node that stops may take to hand its shards over, in milliseconds.
        drain_ms: u64 = 15_000,
        /// Failures of a supervised service within a minute that end the process: peers do better
        /// with its shards than it does.
        restarts_per_minute: u32 = 10,
    }
}

settings! {
    /// The debug endpoint.
    pub struct Debug {
        /// Whether it is served.
        enabled: bool = true,
        /// Where it listens; port 0 takes a free one. Off loopback a token is required.
        bind: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7070)),
        /// Bearer token that every request must carry when the endpoint is not on loopback.
        #[serde(skip_serializing_if = "Option::is_none")]
        token: Option<Secret> = None,
        /// The longest address of a request, in bytes.
        uri_max_bytes: usize = 2_048,
        /// All headers of a request together, in bytes.
        header_max_bytes: usize = 16_384,
        /// Connections at once, never more than an eighth of the files that the process may have open.
        /// Beyond it, the connection that has asked for nothing for the longest is closed for the new one.
        connections: usize = 256,
        /// Those of them that may come from one address, so that others find room: half of them when not
        /// set. Beyond it, one of that address gives way; while all of them are being answered, the new one
        /// is closed at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        connections_per_peer: Option<usize> = None,
        /// How long a client may take to send the head of a request, may be silent between two
        /// requests, or take nothing of an answer, in milliseconds.
        head_within_ms: u64 = 10_000,
        /// How long an answer may take, in milliseconds.
        answer_within_ms: u64 = 10_000,
    }
}

settings! {
    /// The HTTP door of the runtime platform.
    pub struct Http {
        /// Where it listens: off when not set; port 0 takes a free one.
        #[serde(skip_serializing_if = "Option::is_none")]
        bind: Option<SocketAddr> = None,
        /// Whether a proxy in front of it speaks TLS. Needed off loopback, where tokens would be read by
        /// whoever listens.
        behind_tls: bool = false,
        /// The file of the tokens, as `skald http token` writes it. `http-tokens.toml` below `data_dir`
        /// when not set. It is read again when it has changed.
        #[serde(skip_serializing_if = "Option::is_none")]
        tokens: Option<PathBuf> = None,
        /// Requests answered at once. Beyond it a request is answered "busy".
        in_flight: usize = 256,
        /// How many of these may be one tenant's, so that the rest find room.
        in_flight_per_tenant: usize = 64,
        /// Connections at once, never more than an eighth of the files that the process may have open.
        /// Beyond it, the connection that has asked for nothing for the longest is closed for the new one.
        connections: usize = 1_024,
        /// Those of them that may come from one address, so that others find room: half of them when not
        /// set, twice as many as are answered at once. A proxy in front is one address. Beyond it, one of
        /// that address gives way; while all of them are being answered, the new one is closed at once.
        #[serde(skip_serializing_if = "Option::is_none")]
        connections_per_peer: Option<usize> = None,
        /// How long a client may take to send the head of a request, may be silent between two
        /// requests, or take nothing of an answer, in milliseconds.
        head_within_ms: u64 = 10_000,
        /// How long a client may take to send a body, in milliseconds.
        body_within_ms: u64 = 10_000,
        /// How long an answer may take, in milliseconds: longer than the machine of the processes may
        /// take to look.
        answer_within_ms: u64 = 30_000,
    }
}

settings! {
    /// Logs and traces.
    pub struct Telemetry {
        /// What is logged: a `tracing` filter such as `info,node::nats=debug`.
        log: String = "info".to_owned(),
        /// How: `human`, `json`, or `auto` (human on a terminal, JSON elsewhere).
        format: LogFormat = LogFormat::Auto,
        /// An OTLP collector over HTTP, such as `http://127.0.0.1:4318`. Traces are off without it.
        #[serde(skip_serializing_if = "Option::is_none")]
        otlp_endpoint: Option<String> = None,
        /// The share of traces exported, 0 to 1.
        sample_ratio: f64 = 1.0,
    }
}

settings! {
    /// Definitions.
    pub struct Definitions {
        /// Principals who may deploy definitions for their tenant; `*` is everyone of the tenant. The
        /// same on all nodes: any of them may be asked.
        #[serde(deserialize_with = "servers::read")]
        deployers: Vec<String> = vec!["*".to_owned()],
    }
}

settings! {
    /// The marketplace's catalogue.
    pub struct Catalog {
        /// The directory that holds it, shared by all nodes of the cluster. `catalog` below
        /// `data_dir` when not set.
        #[serde(skip_serializing_if = "Option::is_none")]
        dir: Option<PathBuf> = None,
        /// Directories below which targets of installations may be; `{tenant}` stands for the
        /// tenant's name, as in `/srv/projects/{tenant}`. When none is set, a node that says to the
        /// server who it is installs nowhere, and one on a server without authentication, where
        /// everybody may speak as anybody, installs anywhere it can write.
        #[serde(deserialize_with = "servers::read")]
        target_roots: Vec<String> = Vec::new(),
        /// The largest archive taken in or unpacked, in bytes.
        archive_bytes: u64 = 67_108_864,
        /// All of an archive's content together, in bytes.
        unpacked_bytes: u64 = 536_870_912,
        /// Files and directories of one archive.
        archive_entries: usize = 20_000,
        /// The longest path in an archive, in bytes.
        path_bytes: usize = 1_024,
        /// Content per compressed byte, which tells a package from a bomb.
        archive_ratio: u64 = 200,
    }
}

settings! {
    /// The runtime platform: services as processes of this machine, or in a Kubernetes cluster.
    pub struct Runtime {
        /// The directory that says which processes run and should: off when not set. Nodes of one
        /// machine name the same, on a disk of that machine; one of them keeps the processes, and
        /// another one takes over when it ends. Set it on the nodes of one machine of the cluster.
        /// With `compute = "kubernetes"` it holds the secrets and the addresses of the gateways.
        #[serde(skip_serializing_if = "Option::is_none")]
        dir: Option<PathBuf> = None,
        /// The directory of the artifacts, each in a file named after its SHA-256. `published` below
        /// `dir` when not set; below `dir` itself other names are taken.
        #[serde(skip_serializing_if = "Option::is_none")]
        artifacts: Option<PathBuf> = None,
        /// Where the gateways of environments listen: `NAME=ADDRESS`, as in `prod=127.0.0.1:8080`. One
        /// that is not named takes a free port on loopback and keeps it.
        #[serde(deserialize_with = "servers::read")]
        gateways: Vec<String> = Vec::new(),
        /// Whether this node takes part in looking after services: health, scaling, drift and the
        /// others. When not set: where `dir` is. Set it to the same on all nodes of a cluster.
        #[serde(skip_serializing_if = "Option::is_none")]
        workers: Option<bool> = None,
        /// How long requests under way may take when a replica is to end, in milliseconds.
        drain_ms: u64 = 30_000,
        /// How long a process may take to end after it was asked to, in milliseconds, before it is
        /// killed.
        stop_ms: u64 = 10_000,
        /// The users that environments get, one each, where the node runs as root: numbers that nobody
        /// else on the machine uses. In a container take some that it knows (`/proc/self/uid_map`).
        users: String = format!("{}-{}", process_users::RANGE.start(), process_users::RANGE.end()),
        /// The tenant of whoever runs the node. Where services cannot have a user of their own (the node
        /// does not run as root) they run as the node's, and only this tenant's may run.
        operator: String = "default".to_owned(),
        /// Whether services get files and processes of their own, where the kernel lets the node make
        /// them. Off only for a service that cannot live with it.
        namespaces: bool = true,
        /// Programs of the machine that a deployment may name as its command: absolute paths; one that
        /// ends with `/` stands for all below it. Others come from the artifact.
        #[serde(deserialize_with = "servers::read")]
        commands: Vec<String> = Vec::new(),
        /// Files and directories that services may read besides the machine's programs and libraries
        /// (`/usr`, `/lib` and what these need of `/etc`): absolute paths.
        #[serde(deserialize_with = "servers::read")]
        visible: Vec<String> = Vec::new(),
        /// A directory of the control group file system, version 2, that was delegated to the node
        /// (systemd: `Delegate=yes`), for limits. When not set, a node that runs as root makes one.
        #[serde(skip_serializing_if = "Option::is_none")]
        cgroup: Option<PathBuf> = None,
        /// Memory of a replica whose deployment names none, in bytes: much for a service, little for a
        /// machine.
        replica_memory_bytes: u64 = 4_294_967_296,
        /// Processes and threads of a replica whose deployment names no number.
        replica_processes: u32 = 1_024,
        /// What a replica's `/tmp` holds, in bytes of memory.
        tmp_bytes: u64 = 268_435_456,
        /// What a service's directory `SKALD_STATE` holds, in bytes. It is looked at every five seconds;
        /// a service that took more is ended, and not started before there is room.
        state_bytes: u64 = 1_073_741_824,
        /// How long the log of a replica becomes, in bytes, before it is put aside; one before it is kept.
        log_bytes: u64 = 16_777_216,
        /// How much a replica may write into its log in a second, in bytes: more than a person or a
        /// collector reads. The rest is counted, and the log says how much it was.
        log_bytes_per_second: u64 = 1_048_576,
        /// Where services run: `process` on this machine, or `kubernetes`.
        compute: ComputeKind = ComputeKind::Process,
        /// The kubeconfig. When not set: what `KUBECONFIG` names, else the user's own, else the service
        /// account of the pod the node runs in.
        #[serde(skip_serializing_if = "Option::is_none")]
        kubernetes_config: Option<PathBuf> = None,
        /// The context in the kubeconfig; its current one when not set.
        #[serde(skip_serializing_if = "Option::is_none")]
        kubernetes_context: Option<String> = None,
        /// The namespace of an environment; `{environment}` stands for its name. It must be there.
        kubernetes_namespace: String = "skald-{environment}".to_owned(),
        /// The repository of services' images, as in `registry.example.org/shop/{service}`;
        /// `{service}` stands for the service's name. An artifact's digest is put behind it, so that
        /// exactly those bytes run. Needed for `compute = "kubernetes"`.
        #[serde(skip_serializing_if = "Option::is_none")]
        kubernetes_image: Option<String> = None,
        /// Who makes environments: `machine` (a directory, a port and a quota here) or `pulumi`.
        provisioner: ProvisionerKind = ProvisionerKind::Machine,
        /// The Pulumi project whose stacks are the environments: a directory with a `Pulumi.yaml`. It
        /// is given an environment as settings (`skald:…`). Needed for `provisioner = "pulumi"`.
        #[serde(skip_serializing_if = "Option::is_none")]
        pulumi_project: Option<PathBuf> = None,
        /// The program `pulumi`, or where it is.
        pulumi_program: PathBuf = PathBuf::from("pulumi"),
        /// Variables that Pulumi is given, by name, from those of the node: logins of clouds and of its
        /// backend. It sees no others but `PATH`, `HOME` and what Skald sets itself.
        #[serde(deserialize_with = "servers::read")]
        pulumi_variables: Vec<String> =
            vec!["PULUMI_ACCESS_TOKEN".into(), "PULUMI_BACKEND_URL".into(), "PULUMI_CONFIG_PASSPHRASE_FILE".into()],
        /// How long one run of Pulumi may take, in milliseconds. Clouds take minutes.
        pulumi_within_ms: u64 = 1_800_000,
        /// The git repository in which it is written down how services should be, as an https://,
        /// ssh://, user@host:path or file:/// address: one file per service,
        /// `environments/ENVIRONMENT/SERVICE.yaml`. What is not set wants nothing, and nothing is drift.
        #[serde(skip_serializing_if = "Option::is_none")]
        desired: Option<String> = None,
        /// The branch of that repository whose tip counts.
        desired_branch: String = "main".to_owned(),
    }
}

/// The directory of the artifacts below `runtime.dir`, unless another one is set.
pub const PUBLISHED: &str = "published";

/// How shards are laid onto streams.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Streams {
    /// By the number of servers.
    Auto,
    /// One stream for all shards.
    One,
    /// One stream for each shard.
    PerShard,
}

/// Where services run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ComputeKind {
    /// As processes of the machine of `runtime.dir`.
    Process,
    /// In a Kubernetes cluster.
    Kubernetes,
}

/// Who makes environments.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProvisionerKind {
    /// The machine of `runtime.dir`.
    Machine,
    /// Pulumi's command line.
    Pulumi,
}

/// How logs are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// Short lines for a person.
    Human,
    /// One JSON object for each line.
    Json,
}

/// Where a NATS server is looked for when nothing says otherwise.
pub const DEFAULT_SERVER: &str = "nats://127.0.0.1:4222";
/// The most shards: each has a subtree, a timer wheel and a journal subject.
pub const SHARDS_MAX: u16 = 1_024;
/// The shortest silence that may count as death, in milliseconds: below it an ordinary pause would.
pub const DEAD_AFTER_MIN_MS: u64 = 500;

/// The least a limit for data may be, in bytes: Skald's own definitions and answers need some.
pub const BYTES_MIN: usize = 4_096;
/// The most `limits.body_bytes` may be: servers refuse messages above 64 MiB, and advise 8.
pub const BODY_MAX_BYTES: usize = 8 << 20;
/// The most `limits.value_bytes` may be: a record carries several values, and one message a record.
pub const VALUE_MAX_BYTES: usize = 1 << 20;
/// The most `limits.expression_bytes` may be: every shard may evaluate at the same time.
pub const EXPRESSION_MAX_BYTES: usize = 256 << 20;
/// The most `catalog.path_bytes` may be: what the system takes.
pub const PATH_MAX_BYTES: usize = 4_096;

impl Config {
    /// Every section by name, with its settings; the first is the top level.
    pub const SECTIONS: &'static [(&'static str, &'static [Described])] = &[
        ("", Config::SETTINGS),
        ("nats", Nats::SETTINGS),
        ("journal", Journal::SETTINGS),
        ("events", Events::SETTINGS),
        ("limits", Limits::SETTINGS),
        ("sagas", Sagas::SETTINGS),
        ("cluster", Cluster::SETTINGS),
        ("debug", Debug::SETTINGS),
        ("http", Http::SETTINGS),
        ("telemetry", Telemetry::SETTINGS),
        ("definitions", Definitions::SETTINGS),
        ("catalog", Catalog::SETTINGS),
        ("runtime", Runtime::SETTINGS),
    ];

    /// The effective settings as TOML, each with its documentation above it.
    pub fn to_commented_toml(&self) -> String {
        print::commented(self)
    }

    /// The directory of the catalogue.
    pub fn catalog_dir(&self) -> PathBuf {
        self.catalog.dir.clone().unwrap_or_else(|| self.data_dir.join("catalog"))
    }

    /// The node's name: the one set, or the one kept in `data_dir`, made when there is none.
    pub fn node_id(&self) -> std::io::Result<NodeId> {
        match &self.node {
            Some(node) => Ok(node.clone()),
            None => kept_node_id(&self.data_dir),
        }
    }

    /// What is wrong with values that are each readable but not usable, all at once.
    pub fn check(&self) -> Result<(), Fault> {
        let mut wrong = Vec::new();
        let mut refuse = |bad: bool, why: String| {
            if bad {
                wrong.push(why);
            }
        };
        let (shards, replicas) = (self.shards, self.journal.replicas);
        refuse(self.servers.is_empty(), format!("servers: it is empty; name at least one, such as {DEFAULT_SERVER:?}"));
        for server in self.servers.iter().filter(|server| without_login(server) != **server) {
            // Addresses are logged and shown; what logs in is not.
            let server = without_login(server);
            refuse(true, format!("servers: {server} carries a login; set nats.user and nats.password, or nats.token"));
        }
        refuse(shards == 0 || shards > SHARDS_MAX, format!("shards: {shards} is not between 1 and {SHARDS_MAX}"));
        refuse(
            self.nats.user.is_some() != self.nats.password.is_some(),
            "nats.user and nats.password go together".into(),
        );
        refuse(
            self.nats.tls_certificate.is_some() != self.nats.tls_key.is_some(),
            "nats.tls_certificate and nats.tls_key go together".into(),
        );
        let identities = [
            self.credentials.is_some(),
            self.nats.user.is_some(),
            self.nats.token.is_some(),
            self.nats.nkey_seed.is_some(),
        ];
        refuse(
            identities.into_iter().filter(|set| *set).count() > 1,
            "credentials, nats.user, nats.token and nats.nkey_seed say who the node is: set one of them".into(),
        );
        refuse(
            ![1, 3, 5].contains(&replicas),
            format!("journal.replicas: {replicas} is not 1, 3 or 5; an even number adds cost and no safety"),
        );
        for (name, value) in [
            ("limits.commands_in_flight", self.limits.commands_in_flight),
            ("limits.commands_per_tenant", self.limits.commands_per_tenant),
            ("limits.waits_in_flight", self.limits.waits_in_flight),
            ("limits.waits_per_tenant", self.limits.waits_per_tenant),
            ("limits.facts_per_saga", self.limits.facts_per_saga),
            ("limits.attempts_per_activity", self.limits.attempts_per_activity),
            ("limits.expression_ms", usize::try_from(self.limits.expression_ms).unwrap_or(usize::MAX)),
            ("limits.overruns", usize::try_from(self.limits.overruns).unwrap_or(usize::MAX)),
            ("limits.unbroken_states", usize::try_from(self.limits.unbroken_states).unwrap_or(usize::MAX)),
            ("limits.expression_depth", self.limits.expression_depth),
            ("limits.expression_items", self.limits.expression_items),
            ("limits.map_items", self.limits.map_items),
            ("limits.environments_per_tenant", self.limits.environments_per_tenant),
            ("limits.definitions_per_tenant", self.limits.definitions_per_tenant),
            ("limits.sagas_per_tenant", self.limits.sagas_per_tenant),
            (
                "limits.journal_bytes_per_tenant",
                usize::try_from(self.limits.journal_bytes_per_tenant).unwrap_or(usize::MAX),
            ),
            ("limits.journal_bytes_per_day", usize::try_from(self.limits.journal_bytes_per_day).unwrap_or(usize::MAX)),
            ("catalog.archive_entries", self.catalog.archive_entries),
            ("catalog.archive_ratio", usize::try_from(self.catalog.archive_ratio).unwrap_or(usize::MAX)),
            ("http.in_flight", self.http.in_flight),
            ("http.in_flight_per_tenant", self.http.in_flight_per_tenant),
            ("http.connections", self.http.connections),
            ("http.connections_per_peer", self.http.connections_per_peer.unwrap_or(1)),
            ("http.head_within_ms", usize::try_from(self.http.head_within_ms).unwrap_or(usize::MAX)),
            ("http.body_within_ms", usize::try_from(self.http.body_within_ms).unwrap_or(usize::MAX)),
            ("debug.connections", self.debug.connections),
            ("debug.connections_per_peer", self.debug.connections_per_peer.unwrap_or(1)),
            ("debug.head_within_ms", usize::try_from(self.debug.head_within_ms).unwrap_or(usize::MAX)),
            ("runtime.replica_memory_bytes", usize::try_from(self.runtime.replica_memory_bytes).unwrap_or(usize::MAX)),
            ("runtime.replica_processes", usize::try_from(self.runtime.replica_processes).unwrap_or(usize::MAX)),
            ("runtime.tmp_bytes", usize::try_from(self.runtime.tmp_bytes).unwrap_or(usize::MAX)),
            ("runtime.state_bytes", usize::try_from(self.runtime.state_bytes).unwrap_or(usize::MAX)),
            ("runtime.log_bytes", usize::try_from(self.runtime.log_bytes).unwrap_or(usize::MAX)),
            ("runtime.log_bytes_per_second", usize::try_from(self.runtime.log_bytes_per_second).unwrap_or(usize::MAX)),
            ("http.answer_within_ms", usize::try_from(self.http.answer_within_ms).unwrap_or(usize::MAX)),
            ("debug.answer_within_ms", usize::try_from(self.debug.answer_within_ms).unwrap_or(usize::MAX)),
        ] {
            refuse(value == 0, format!("{name}: with 0 nothing could ever run"));
        }
        refuse(
            self.sagas.ended_per_shard == 0 || self.sagas.ended_kept_hours == 0,
            "sagas.ended_per_shard, sagas.ended_kept_hours: with 0 a repeated start would start a second saga".into(),
        );
        for (name, value, least, most) in [
            ("limits.body_bytes", self.limits.body_bytes, BYTES_MIN, BODY_MAX_BYTES),
            ("limits.definition_bytes", self.limits.definition_bytes, BYTES_MIN, SOURCE_MAX_BYTES),
            ("limits.value_bytes", self.limits.value_bytes, BYTES_MIN, VALUE_MAX_BYTES),
            ("limits.expression_bytes", self.limits.expression_bytes, BYTES_MIN, EXPRESSION_MAX_BYTES),
            ("catalog.path_bytes", self.catalog.path_bytes, 64, PATH_MAX_BYTES),
            ("debug.uri_max_bytes", self.debug.uri_max_bytes, 512, BYTES_MIN * 16),
            ("debug.header_max_bytes", self.debug.header_max_bytes, 1_024, BYTES_MIN * 64),
        ] {
            let why = format!("{name}: {value} is not between {least} and {most}");
            refuse(!(least..=most).contains(&value), why);
        }
        let ttl = self.cluster.dead_after_ms;
        refuse(
            ttl < DEAD_AFTER_MIN_MS,
            format!("cluster.dead_after_ms: {ttl} is shorter than an ordinary pause; at least {DEAD_AFTER_MIN_MS}"),
        );
        refuse(
            self.debug.enabled
                && !self.debug.bind.ip().is_loopback()
                && self.debug.token.as_ref().is_none_or(Secret::is_empty),
            format!("debug.bind: {} is not loopback, so debug.token must be set, and not be empty", self.debug.bind),
        );
        refuse(
            self.http.bind.is_some_and(|bind| !bind.ip().is_loopback()) && !self.http.behind_tls,
            "http.bind: it is not loopback; put a proxy that speaks TLS in front, and set http.behind_tls".into(),
        );
        let relative = self.catalog.target_roots.iter().find(|root| !root.starts_with('/'));
        refuse(
            relative.is_some(),
            format!("catalog.target_roots: {:?} is not absolute", relative.map_or("", String::as_str)),
        );
        if let Some(Err(fault)) = self.desired_settings().map(git::Repository::new) {
            refuse(true, format!("runtime.desired: {}", fault.cause));
        }
        for gateway in self.runtime.gateways.iter().filter(|gateway| adapters::gateway(gateway).is_none()) {
            refuse(true, format!("runtime.gateways: {gateway:?} is not NAME=ADDRESS, as in prod=127.0.0.1:8080"));
        }
        let runtime = &self.runtime;
        refuse(
            adapters::range(&runtime.users).is_none(),
            format!("runtime.users: {:?} is not FIRST-LAST, as in 1900000000-1900009999, without 0", runtime.users),
        );
        for path in runtime.visible.iter().filter(|path| !path.starts_with('/') || path.as_str() == "/") {
            refuse(true, format!("runtime.visible: {path:?} is not an absolute path below /"));
        }
        for path in runtime.commands.iter().filter(|path| !path.starts_with('/')) {
            refuse(true, format!("runtime.commands: {path:?} is not an absolute path"));
        }
        refuse(
            runtime.compute == ComputeKind::Kubernetes && runtime.kubernetes_image.is_none(),
            "runtime.kubernetes_image: needed for runtime.compute = \"kubernetes\": name the repository of images"
                .into(),
        );
        refuse(
            runtime.kubernetes_image.as_deref().is_some_and(|image| image.is_empty() || image.contains('@')),
            "runtime.kubernetes_image: name the repository alone; the digest is put behind it".into(),
        );
        refuse(
            runtime.provisioner == ProvisionerKind::Pulumi && runtime.pulumi_project.is_none(),
            "runtime.pulumi_project: needed for runtime.provisioner = \"pulumi\": name the project's directory".into(),
        );
        refuse(
            !(0.0..=1.0).contains(&self.telemetry.sample_ratio),
            format!("telemetry.sample_ratio: {} is not between 0 and 1", self.telemetry.sample_ratio),
        );
        if wrong.is_empty() { Ok(()) } else { Err(Fault::Unusable(wrong)) }
    }
}

/// `$XDG_DATA_HOME/skald`, or `~/.local/share/skald`, or `./skald-data` for a user without a home.
fn default_data_dir() -> PathBuf {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("XDG_DATA_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".local/share")))
        .map_or_else(|| PathBuf::from("skald-data"), |base| base.join("skald"))
}

fn kept_node_id(data_dir: &Path) -> std::io::Result<NodeId> {
    let file = data_dir.join("node-id");
    if let Ok(text) = std::fs::read_to_string(&file) {
        let trimmed = text.trim();
        return NodeId::new(trimmed).map_err(|error| std::io::Error::other(format!("{}: {error}", file.display())));
    }
    let host = rustix::system::uname().nodename().to_string_lossy().to_ascii_lowercase();
    let short: String =
        host.split('.').next().unwrap_or_default().chars().filter(char::is_ascii_alphanumeric).collect();
    let short = if short.is_empty() { "node" } else { &short[..short.len().min(24)] };
    let suffix = uuid::Uuid::now_v7().simple().to_string();
    let name = format!("{short}-{}", &suffix[suffix.len() - 5..]);
    std::fs::create_dir_all(data_dir)?;
    std::fs::write(&file, format!("{name}\n"))?;
    NodeId::new(&name).map_err(std::io::Error::other)
}

#[cfg(test)]
mod tests;
