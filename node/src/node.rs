//! One node: the engine's tree with its ports on NATS, the command service and the debug endpoint.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use actors::marketplace::targets::Targets;
use actors::runtime::compute::process;
use actors::runtime::ports::desired::DesiredState;
use actors::runtime::ports::desired::git::Repository;
use actors::runtime::records::environments::Environments as OwnEnvironments;
use actors::runtime::store::RuntimeStore;
use actors::runtime::workers;
use anyhow::Context;
use async_trait::async_trait;
use futures::FutureExt;
use protocol::command::{Deploy, Of, Routed, name};
use protocol::query::{Answer, Body, Query};
use protocol::view::{History, SagaView};
use protocol::{Code, NodeId, Problem, SagaId, Time, subjects};
use serde::de::DeserializeOwned;
use supervisor::activities::Activities;
use supervisor::activity::Activity;
use supervisor::machine::restart::Intensity;
use supervisor::ports::{Clock, Cluster, Environments, Outbox};
use supervisor::tree::engine::{Engine, Limits, Seeds};
use supervisor::tree::own::own_event;
use supervisor::tree::root::{self, ClusterLimits, RootActor, Service, Shards};
use supervisor::tree::shard::Message;
use supervisor::tree::shell::Handle;
use supervisor::tree::turns::Turns;
use supervisor::tree::workers::{Local, WorkersActor};
use supervisor::worker::Worker;
use tokio::sync::mpsc;
use tracing::{error, info, warn};

use crate::config::Config;
use crate::debug::{self, Access, DebugSource, Scope};
use crate::http;
use crate::nats::{
    self, Auth, Bus, BusActivities, Deployer, EventReader, JetStreamJournal, KvCluster, KvDefinitions, KvRuntime,
    KvSnapshots, KvWorkerMemory, StreamOutbox, connect, sync_mode,
};
use crate::runtime::keeper::FarKeeper;
use crate::runtime::{Local as OnDisk, OwnSagas, RuntimeDesk, RuntimeHost, worker_ports};
use crate::service::{
    CommandService, DefinitionLibrary, DefinitionLimits, Dispatcher, Door, NatsPeers, QueryService, Router, Triggers,
    serve_peers,
};
use crate::telemetry::{Metrics, Observed, Troubles};

/// The principal under which a node looks at its own sagas for the debug endpoint.
const OPERATOR: &str = "skald";

/// Time from the machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Time {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    }
}

/// What a node is made of besides its settings.
#[derive(Default)]
pub struct Parts {
    /// Activities of this process.
    pub activities: Vec<Arc<dyn Activity>>,
    /// Definitions deployed at start: file and source.
    pub definitions: Vec<(String, String)>,
    /// Kinds of workers; every node of a cluster has the same.
    pub workers: Vec<Arc<dyn Worker>>,
    /// Which environments they look after; needed when there are workers.
    pub environments: Option<Arc<dyn Environments>>,
}

/// A running node.
pub struct Node {
    root: Handle<root::Message>,
    last_word: mpsc::UnboundedReceiver<String>,
    debug: Arc<OnceLock<SocketAddr>>,
    http: Arc<OnceLock<SocketAddr>>,
    dispatcher: Arc<Dispatcher>,
    commands: Arc<CommandService>,
    workers: Arc<Local>,
    id: NodeId,
}

/// How long a node that leaves waits for its workers: the time in which a run may end, and to abort
/// the others.
const LAST_RUNS: Duration = Duration::from_secs(8);
/// How long a node that leaves works on commands that came before it closed its door; a command
/// that waits for a shard to settle is held no longer.
const LAST_COMMANDS: Duration = Duration::from_secs(8);

/// How often the servers are asked when they write through: somebody may have changed it, or a
/// monitor that was silent speaks.
const LOOK_AT_SYNC: Duration = Duration::from_secs(60);
/// What stands around a value in a record or an event, at most: names, times, headers.
const AROUND_A_VALUE: usize = 64 * 1024;

impl Node {
    /// Starts a node and returns once it has joined its cluster and owns what it should own.
    pub async fn start(config: Config, parts: Parts) -> anyhow::Result<Self> {
        let id = config.node_id().context("the node's name")?;
        let descriptors = actors::listener::raise_descriptors();
        info!(descriptors, "files and connections that this process may have open");
        let bus = connect(config.connect_config()).await?;
        let journal_config = config.journal_config();
        let replicas = journal_config.replicas;
        let journal = JetStreamJournal::open(&bus, &journal_config).await?;
        let shape = journal.shape();
        let frame_max_bytes = journal.frame_max_bytes();
        let value_bytes = config.limits.value_bytes;
        anyhow::ensure!(
            value_bytes.saturating_add(AROUND_A_VALUE) <= frame_max_bytes,
            "limits.value_bytes is {value_bytes}, and the servers carry {frame_max_bytes} bytes in one message: \
             a saga's event with such a value could never be sent; lower it, or raise max_payload of every server"
        );
        let outbox_config = config.outbox_config();
        // From here on everything that is opened is looked at, and what is lost is told.
        let lost = nats::watch(&bus, vec![shape.known()]);
        let (snapshots, cluster, outbox, definitions, runtime_store) = futures::try_join!(
            KvSnapshots::open(&bus, replicas),
            KvCluster::open(&bus, replicas),
            StreamOutbox::open(&bus, &outbox_config),
            KvDefinitions::open(&bus, replicas),
            KvRuntime::open(&bus, replicas),
        )?;
        let restarts = cluster_limits(&config);
        cluster.enter(&id, restarts.dead_after).await?;
        let mut activities = Activities::new();
        for activity in parts.activities {
            activities.add(activity, config.limits.attempts_per_activity)?;
        }
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let streams = Arc::new(outbox);
        let outbox: Arc<dyn Outbox> = streams.clone();
        let turns = Turns::new(config.decision_threads());
        let deployers = config.definitions.deployers.clone();
        let bounds = fitting(config.definition_limits(), frame_max_bytes);
        let built_in =
            parts.definitions.into_iter().map(|(file, source)| Deploy { source, file: Some(file) }).collect();
        let library = Arc::new(DefinitionLibrary::new(
            definitions,
            activities.clone(),
            deployers,
            built_in,
            bounds,
            turns.clone(),
        ));
        let by = Deployer { by: format!("node {id}"), at: clock.now() };
        nats::setting_up(|problem: &Problem| problem.code == Code::Unavailable, async || library.build_in(&by).await)
            .await
            .context("a built-in definition is not stored")?;
        let peers = Arc::new(NatsPeers { dispatcher: OnceLock::new(), clock: clock.clone() });
        let metrics = Arc::new(Metrics::new());
        let troubles = Arc::new(Troubles::default());
        let remote = Arc::new(BusActivities::new(&bus).taking(config.limits.body_bytes));
        let runtime_store: Arc<dyn RuntimeStore> = Arc::new(runtime_store);
        let on_disk = match &config.runtime.dir {
            Some(dir) => Some(OnDisk::open(dir, &config, clock.clone()).await?),
            None => None,
        };
        let engine = Arc::new(Engine {
            node: id.clone(),
            shards: shape.shards,
            turns,
            limits: limits(&config, frame_max_bytes),
            clock: clock.clone(),
            journal: Arc::new(journal),
            snapshots: Arc::new(snapshots),
            outbox: outbox.clone(),
            events: streams.clone(),
            peers: peers.clone(),
            definitions: library.clone(),
            activities,
            remote: remote.clone(),
            seeds: Seeds::new(uuid::Uuid::new_v4().as_u64_pair().0),
            observer: Arc::new(Observed(metrics.clone(), troubles.clone())),
            pulses: Arc::default(),
        });
        let places = Arc::new(Shards::default());
        let sagas = Arc::new(OwnSagas { dispatcher: OnceLock::new(), clock: clock.clone() });
        let mut kinds = parts.workers;
        let mut environments = parts.environments;
        if config.looks_after_services() {
            let desired = config.desired_settings().map(Repository::new).transpose()?;
            let desired = desired.map(|repository| -> Arc<dyn DesiredState> { Arc::new(repository) });
            let around = (outbox.clone(), clock.clone());
            let own = worker_ports(&bus, runtime_store.clone(), sagas.clone(), around, desired);
            kinds.extend(workers::all(&own));
            environments.get_or_insert_with(|| Arc::new(OwnEnvironments::new(runtime_store.clone())));
        }
        let workers = Arc::new(Local::new(kinds)?);
        let about = crate::service::About {
            server: bus.server(),
            sync: std::sync::Mutex::new("unknown: not asked yet".into()),
            server_says: std::sync::Mutex::default(),
            replicas: config.journal.replicas,
            warnings: warnings(&config).await?,
            since: clock.now(),
        };
        // On a connection of its own: what anybody sends may be much and large, and the journal's answers
        // would come behind it.
        let commands_bus = connect(config.connect_config()).await?;
        // Where everybody has a name the server keeps tenants apart; where nobody has, there is nobody to.
        let doors = if config.connect_config().auth == Auth::None { 0 } else { subjects::DOORS };
        let doors = (0..doors).map(|_| connect(config.connect_config()));
        let doors = futures::future::try_join_all(doors).await?;
        let moored: Vec<Bus> = doors.iter().chain([&commands_bus]).cloned().collect();
        let queries = Arc::new(QueryService {
            node: id.clone(),
            shards: shape.shards,
            places: places.clone(),
            root: OnceLock::new(),
            workers: workers.clone(),
            bus: bus.clone(),
            commands: moored.clone(),
            letters: streams.clone(),
            engine: engine.clone(),
            message_bytes: frame_max_bytes,
            troubles,
            about,
        });
        let around = (outbox.clone(), clock.clone(), metrics.clone());
        tokio::spawn(tell_losses(lost, library.clone(), id.clone(), around, (shape, places.clone())));
        let router = Arc::new(Router {
            node: id.clone(),
            shards: shape.shards,
            places: places.clone(),
            client: bus.client.clone(),
        });
        let events = EventReader::new(&bus);
        let keeper = Arc::new(FarKeeper::new(&bus));
        let dispatcher = Arc::new(Dispatcher {
            router,
            definitions: library,
            events,
            queries: queries.clone(),
            runtime: RuntimeDesk::new(
                runtime_store.clone(),
                outbox.clone(),
                clock.clone(),
                remote,
                keeper.clone(),
                keeper,
            )
            .with_environments(config.limits.environments_per_tenant),
            workers: workers.clone(),
            body_bytes: config.limits.body_bytes,
        });
        // Set once, right here.
        let _ = peers.dispatcher.set(Arc::downgrade(&dispatcher));
        let _ = sagas.dispatcher.set(Arc::downgrade(&dispatcher));
        let host = RuntimeHost::new(
            &config,
            runtime_store,
            outbox.clone(),
            clock.clone(),
            bus.clone(),
            dispatcher.clone(),
            on_disk,
        );
        let http_address = Arc::new(OnceLock::new());
        let door = serves_http(&config, dispatcher.clone(), clock.clone(), http_address.clone());
        let commands = Arc::new(CommandService {
            bus: commands_bus,
            doors,
            dispatcher: dispatcher.clone(),
            outbox: outbox.clone(),
            clock,
            door: Door::new(config.service_limits()),
            metrics: metrics.clone(),
        });
        let source = Source { queries: queries.clone(), dispatcher: dispatcher.clone(), metrics, letters: streams };
        let source = Arc::new(source);
        let debug_address = Arc::new(OnceLock::new());
        let mut services = services(
            &config,
            &bus.client,
            commands.clone(),
            queries.clone(),
            dispatcher.clone(),
            source,
            debug_address.clone(),
        );
        services.extend(host.map(keeps_processes));
        let main = bus.clone();
        services.push(Service::new("mooring", move |card| {
            let kept = nats::mooring::keep(main.clone(), moored.clone(), card);
            async move {
                kept.await;
                Ok(())
            }
            .boxed()
        }));
        services.extend(door);
        if !workers.kinds().is_empty() {
            let environments = environments.context("workers need to know which environments there are")?;
            let memory = Arc::new(KvWorkerMemory::open(&bus, replicas).await?);
            let (engine, limits, local, shards) = (engine.clone(), Arc::default(), workers.clone(), places.clone());
            let actor = WorkersActor { engine, limits, local, shards, environments, memory };
            services.push(actor.service());
            let (client, workers, shards) = (bus.client.clone(), workers.clone(), places.clone());
            let triggers = Arc::new(Triggers { client, workers, shards, outbox });
            services.push(Service::new("triggers", move |_| triggers.clone().serve().boxed()));
        }
        let (last_word, last_words) = mpsc::unbounded_channel();
        let cluster: Arc<dyn Cluster> = Arc::new(cluster);
        let root = root::start(RootActor {
            engine,
            cluster,
            limits: restarts,
            info: nats::process::info(),
            shards: places,
            services,
            last_word,
        })
        .await?;
        // Set once, right here.
        let _ = queries.root.set(root.card().clone());
        watch_sync(config.monitors.clone(), Arc::downgrade(&queries));
        watch_servers(config.monitors.clone(), Arc::downgrade(&queries));
        let (debug, http) = (debug_address, http_address);
        let node = Self { root, last_word: last_words, debug, http, dispatcher, commands, workers, id };
        node.joined(&queries, config.debug.enabled, config.http.bind.is_some()).await?;
        Ok(node)
    }

    /// Waits until every shard has an owner, so that the first command finds one.
    async fn joined(&self, queries: &QueryService, debug: bool, http: bool) -> anyhow::Result<()> {
        let until = tokio::time::Instant::now() + Duration::from_secs(30);
        loop {
            let Body::Health(health) = queries.here(&Query::Health).await.body else { continue };
            let listens = (!debug || self.debug.get().is_some()) && (!http || self.http.get().is_some());
            if health.ready && listens {
                info!(node = %self.id, shards = ?health.shards, members = ?health.members, "joined");
                return Ok(());
            }
            // A shard that may not go on is no reason to stay away: the others serve, and this node tells.
            let others =
                health.lost.len() == health.troubles.len().saturating_sub(usize::from(!health.lost.is_empty()));
            if listens && !health.lost.is_empty() && others {
                warn!(node = %self.id, lost = health.lost.join("; "), "joined, but not everything is there");
                return Ok(());
            }
            if tokio::time::Instant::now() > until {
                if listens && health.members.iter().any(|member| *member == *self.id.as_str()) {
                    warn!(node = %self.id, troubles = health.troubles.join("; "), "joined, but not ready");
                    return Ok(());
                }
                let mut why = health.troubles;
                why.extend(silent(debug, &self.debug, "debug endpoint (debug.bind)"));
                why.extend(silent(http, &self.http, "HTTP door (http.bind)"));
                anyhow::bail!("the node did not become ready within 30 s: {}", why.join("; "));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Its name.
    pub fn id(&self) -> &NodeId {
        &self.id
    }

    /// Where its debug endpoint listens, if it has one.
    pub fn debug(&self) -> Option<SocketAddr> {
        self.debug.get().copied()
    }

    /// Where its HTTP door listens, if it has one.
    pub fn http(&self) -> Option<SocketAddr> {
        self.http.get().copied()
    }

    /// Carries out commands without the bus; for tools in the same process.
    pub fn dispatcher(&self) -> &Arc<Dispatcher> {
        &self.dispatcher
    }

    /// Waits until it ended by itself, and says why.
    pub async fn ended(&mut self) -> String {
        self.last_word.recv().await.unwrap_or_else(|| "its tree ended".into())
    }

    /// Ends the tree at once, as a crash would: nothing is finished, nothing handed over, and the
    /// peers notice only when the heartbeat stays away.
    pub fn kill(self) {
        self.root.kill();
    }

    /// Stops taking commands, finishes its appends, hands its shards over.
    pub async fn drain(self) -> anyhow::Result<()> {
        let (tell, told) = tokio::sync::oneshot::channel();
        self.root.tell(root::Message::Drain(tell));
        // Runs under way may end while shards are handed over.
        let (told, ()) = tokio::join!(told, self.workers.drain(LAST_RUNS));
        told.context("the tree ended while it was handed over")?;
        // Commands that came meanwhile are on their way to the new owners, which the root still sees.
        self.commands.door.close(LAST_COMMANDS).await;
        self.root.stop();
        Ok(())
    }
}

/// The limits of definitions on a bus whose messages take `message_bytes`.
fn fitting(mut bounds: DefinitionLimits, message_bytes: usize) -> DefinitionLimits {
    let run = &mut bounds.run;
    run.message_bytes = message_bytes;
    // Both are written as one message, of which they are the most by estimate.
    run.record_bytes = run.record_bytes.min(message_bytes / 4 * 3);
    run.execution_bytes = run.execution_bytes.min(message_bytes / 4 * 3);
    bounds
}

fn limits(config: &Config, frame_max_bytes: usize) -> Limits {
    let mut limits = Limits {
        facts_per_saga: config.limits.facts_per_saga,
        decision_threads: Some(config.decision_threads()),
        descendants: config.limits.descendants,
        sagas_per_tenant: config.limits.sagas_per_tenant,
        journal_bytes_per_tenant: config.limits.journal_bytes_per_tenant,
        journal_bytes_per_day: config.limits.journal_bytes_per_day,
        sweep_every: Duration::from_millis(config.sagas.snapshot_every_ms),
        snapshot_every_records: config.sagas.snapshot_every_records,
        ended_per_shard: config.sagas.ended_per_shard,
        ended_for: Duration::from_secs(config.sagas.ended_kept_hours.saturating_mul(3_600)),
        refused_for: Duration::from_millis(config.events.refused_for_ms),
        still_after: Duration::from_millis(config.events.still_after_ms),
        ..Limits::default()
    };
    limits.writer.batch_max_bytes = frame_max_bytes;
    limits.writer.frame_max_bytes = limits.writer.frame_max_bytes.min(frame_max_bytes);
    limits
}

/// What of the settings suits one machine of one person only, said once in the log and again to
/// whoever asks.
async fn warnings(config: &Config) -> anyhow::Result<Vec<String>> {
    let mut warnings = Vec::new();
    if config.targets() == Targets::Anywhere {
        warnings.push("installations may go to any directory this node can write; set catalog.target_roots".to_owned());
    }
    for warning in &warnings {
        warn!(warning, "settings for one person");
    }
    if let Some(settings) = config.process_settings().filter(|_| config.kubernetes_settings().is_none()) {
        let found = tokio::task::spawn_blocking(move || process::confinement(&settings)).await?;
        info!(users = found.users, space = ?found.space, filter = found.filter, "how services are held in");
        for missing in &found.missing {
            warn!(missing, "services are not held in as they could be");
        }
        warnings.extend(found.missing.into_iter().map(|missing| format!("services: {missing}")));
    }
    Ok(warnings)
}

fn cluster_limits(config: &Config) -> ClusterLimits {
    ClusterLimits {
        dead_after: Duration::from_millis(config.cluster.dead_after_ms),
        beat_every: Duration::from_millis(config.cluster.dead_after_ms / 5),
        restarts: Intensity { restarts: config.cluster.restarts_per_minute, ..Intensity::default() },
    }
}

#[allow(clippy::too_many_arguments, reason = "each service gets what it serves, once, here")]
fn services(
    config: &Config,
    client: &async_nats::Client,
    commands: Arc<CommandService>,
    queries: Arc<QueryService>,
    dispatcher: Arc<Dispatcher>,
    source: Arc<Source>,
    address: Arc<OnceLock<SocketAddr>>,
) -> Vec<Service> {
    let (bus, node) = (client.clone(), queries.node.clone());
    let mut services = vec![
        Service::new("commands", move |_| commands.clone().serve().boxed()),
        Service::new("peers", move |_| {
            let served = serve_peers(bus.clone(), node.clone(), dispatcher.clone());
            async move { Ok(served.await?) }.boxed()
        }),
        Service::new("queries", move |_| {
            let served = queries.clone().serve();
            async move { Ok(served.await?) }.boxed()
        }),
    ];
    if config.debug.enabled {
        let (bind, token, users) = (config.debug.bind, config.debug.token.clone(), config.service_users());
        let (limits, connections) = (config.http_limits(), config.debug_connections());
        services.push(Service::new("debug", move |card| {
            let connections = connections.clone();
            let (source, token, address) = (source.clone(), token.clone(), address.clone());
            let users = users.clone();
            // A restart listens where it listened before.
            let bind = address.get().copied().unwrap_or(bind);
            async move {
                // The listener stops with this service: whichever way it ends, `_alive` is dropped.
                let (_alive, ended) = tokio::sync::oneshot::channel::<()>();
                let stop = async move { drop(ended.await) };
                let access = Access::new(bind, token.as_ref())?.limited(limits).refusing(users);
                let (at, served) = debug::serve(bind, access, connections, source, stop).await?;
                // The same address at every restart.
                let _ = address.set(at);
                card.doing(format!("http://{at}"));
                Ok(served.await?)
            }
            .boxed()
        }));
    }
    services
}

/// That something which is `wanted` does not listen.
fn silent(wanted: bool, listens: &OnceLock<SocketAddr>, what: &str) -> Option<String> {
    let is_silent = wanted && listens.get().is_none();
    is_silent.then(|| format!("its {what} does not listen; the log above says why, most often the port is taken"))
}

/// The HTTP door, where the settings say that there is one.
fn serves_http(
    config: &Config,
    dispatcher: Arc<Dispatcher>,
    clock: Arc<dyn Clock>,
    address: Arc<OnceLock<SocketAddr>>,
) -> Option<Service> {
    let bind = config.http.bind?;
    let (file, limits, connections) = (config.http_tokens(), config.http_door_limits(), config.http_connections());
    Some(Service::new("http", move |card| {
        let door = http::Door::new(dispatcher.clone(), http::token::Tokens::new(&file), clock.clone(), limits);
        let (address, connections) = (address.clone(), connections.clone());
        // A restart listens where it listened before.
        let bind = address.get().copied().unwrap_or(bind);
        async move {
            // The listener stops with this service: whichever way it ends, `_alive` is dropped.
            let (_alive, ended) = tokio::sync::oneshot::channel::<()>();
            let (at, served) = http::serve(bind, door, connections, async move { drop(ended.await) }).await?;
            let _ = address.set(at);
            card.doing(format!("http://{at}"));
            Ok(served.await?)
        }
        .boxed()
    }))
}

fn keeps_processes(host: RuntimeHost) -> Service {
    let host = Arc::new(host);
    Service::new("runtime", move |card| {
        let served = host.clone().serve(card);
        async move { Ok(served.await?) }.boxed()
    })
}

/// Tells what was lost, and puts back what this node knows of it.
async fn tell_losses(
    mut lost: mpsc::UnboundedReceiver<nats::Lost>,
    library: Arc<DefinitionLibrary>,
    node: NodeId,
    (outbox, clock, metrics): (Arc<dyn Outbox>, Arc<dyn Clock>, Arc<Metrics>),
    (shape, places): (nats::Shape, Arc<Shards>),
) {
    while let Some(lost) = lost.recv().await {
        metrics.store_lost(&lost.stream);
        // A shard that rests would notice with its next record or sweep: it begins again now, and decides.
        let stands_on = |shard| lost.stream == nats::SNAPSHOTS || shape.holds(&lost.stream, shard);
        for (_, shard) in places.all_local().into_iter().filter(|(shard, _)| stands_on(*shard)) {
            shard.tell(Message::Lost(lost.what.clone()));
        }
        if lost.stream == nats::CLUSTER {
            // What stood beside the leases of shards that rest would not be written again.
            for (_, shard) in places.all_local() {
                shard.tell(Message::Anchor { anew: true });
            }
        }
        let by = Deployer { by: format!("node {node}"), at: clock.now() };
        if lost.stream == nats::DEFINITIONS {
            // By itself: what else is lost meanwhile does not wait for it.
            tokio::spawn(put_back(library.clone(), by));
        }
        let random = uuid::Uuid::new_v4().as_u64_pair();
        let event = own_event("StoreLost", lost.stream.clone(), nats::told(&lost), clock.now(), random);
        if let Err(error) = outbox.publish(&event).await {
            warn!(%error, stream = lost.stream, "the event that a store was lost could not be published");
        }
    }
}

async fn put_back(library: Arc<DefinitionLibrary>, by: Deployer) {
    for _ in 0..PUT_BACK_TRIES {
        match library.put_back(&by).await {
            Ok(count) => {
                warn!(count, "definitions that this node knows are put back");
                return;
            }
            Err(error) => warn!(%error, "definitions could not be put back yet"),
        }
        tokio::time::sleep(PUT_BACK_PAUSE).await;
    }
}

/// How often it is tried to put back what a lost store held, and the pause between: as long as an election
/// takes, several times.
const PUT_BACK_TRIES: usize = 30;
const PUT_BACK_PAUSE: Duration = Duration::from_secs(1);
/// How often the servers are asked how they do.
const LOOK_AT_SERVERS: Duration = Duration::from_secs(2);

/// Asks the servers' monitors what is wrong with them.
fn watch_servers(monitors: Vec<String>, queries: std::sync::Weak<QueryService>) {
    if monitors.is_empty() {
        return;
    }
    tokio::spawn(async move {
        // Until the node is gone.
        while let Some(queries) = queries.upgrade() {
            let said = nats::complaints(&monitors).await;
            let before = std::mem::replace(
                &mut *queries.about.server_says.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
                said.clone(),
            );
            for news in said.iter().filter(|said| !before.contains(said)) {
                error!(news, "a server is in trouble");
            }
            drop(queries);
            tokio::time::sleep(LOOK_AT_SERVERS).await;
        }
    });
}

/// Finds out, in the background and now and then, when the server fsyncs.
fn watch_sync(monitors: Vec<String>, queries: std::sync::Weak<QueryService>) {
    tokio::spawn(async move {
        // Until the node is gone.
        while let Some(queries) = queries.upgrade() {
            let text = sync_mode(&monitors).await.to_string();
            let before = std::mem::replace(
                &mut *queries.about.sync.lock().unwrap_or_else(std::sync::PoisonError::into_inner),
                text.clone(),
            );
            let changed = before != text;
            if changed && text.starts_with("always") {
                info!(sync = text, "durability checked");
            } else if changed {
                warn!(sync = text, "durability is not assured: run the server with `sync_interval: always`");
            }
            drop(queries);
            tokio::time::sleep(LOOK_AT_SYNC).await;
        }
    });
}

/// What the debug endpoint shows.
struct Source {
    queries: Arc<QueryService>,
    dispatcher: Arc<Dispatcher>,
    metrics: Arc<Metrics>,
    letters: Arc<StreamOutbox>,
}

impl Source {
    async fn ask<T: DeserializeOwned>(&self, command: &str, saga: SagaId) -> Result<T, Problem> {
        let routed = Routed {
            tenant: saga.tenant,
            principal: OPERATOR.into(),
            command: command.into(),
            received_at: SystemClock.now(),
            trace: None,
            id: "debug".into(),
            causes: 0,
            hops: 0,
            content_type: protocol::codec::Format::Json.content_type().into(),
            body: protocol::codec::Format::Json.write(&Of { key: saga.key }),
        };
        let answer = self.dispatcher.handle(routed).await?;
        serde_json::from_value(answer).map_err(|error| Problem::new(Code::Internal, error.to_string()))
    }
}

#[async_trait]
impl DebugSource for Source {
    async fn query(&self, scope: Scope, query: Query) -> Vec<Answer> {
        match scope {
            Scope::Node => vec![self.queries.here(&query).await],
            Scope::Cluster => self.queries.everywhere(&query).await,
        }
    }

    async fn saga(&self, saga: SagaId) -> Result<SagaView, Problem> {
        self.ask(name::SAGA_DESCRIBE, saga).await
    }

    async fn history(&self, saga: SagaId) -> Result<History, Problem> {
        self.ask(name::SAGA_HISTORY, saga).await
    }

    async fn metrics(&self) -> String {
        for query in [Query::Tree, Query::Owners, Query::Health] {
            match self.queries.here(&query).await.body {
                Body::Actor(root) => self.metrics.observe_tree(&root),
                Body::Owners(shards) => self.metrics.observe_shards(&shards),
                Body::Health(health) => self.metrics.observe_health(&health),
                Body::Sagas(_) | Body::Workers(_) | Body::Nothing => {}
            }
        }
        self.metrics.observe_pulses(&self.queries.pulses());
        self.metrics.observe_letters(self.letters.letters_counted());
        self.metrics.encode()
    }
}
