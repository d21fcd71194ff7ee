//! The settings in the words of the adapters that they are for.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actors::listener::{Bounds, Crowd};
use actors::marketplace::archive;
use actors::marketplace::targets::Targets;
use actors::runtime::compute::process;
use actors::runtime::ports::desired::git;
use actors::runtime::ports::provisioning::pulumi;
use supervisor::machine::expression;
use supervisor::tree::engine;

use crate::debug::HttpLimits;
use crate::http;
use crate::kubernetes;
use crate::nats::{Auth, ConnectConfig, JournalConfig, LetterLimits, OutboxConfig, Replicas, Tls};

use crate::service::{DefinitionLimits, ServiceLimits};

use super::{ComputeKind, Config, PUBLISHED, ProvisionerKind, Streams};

/// The copy of the repository of desired state, below the node's directory.
const MIRROR: &str = "desired.git";
/// The file of the HTTP door's tokens, below the node's directory.
const TOKENS: &str = "http-tokens.toml";
/// What is kept for a Kubernetes cluster, below `runtime.dir`.
const CLUSTER: &str = "kubernetes";

const fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours.saturating_mul(3_600))
}

/// `NAME=ADDRESS`, taken apart.
pub(super) fn gateway(text: &str) -> Option<(String, SocketAddr)> {
    let (name, address) = text.split_once('=')?;
    Some((name.to_owned(), address.parse().ok()?))
}

/// The longest head of a request that is read at all, in bytes; what a door takes of it is its own
/// setting, and is refused with a reason.
const HEAD_BYTES: usize = 128 * 1_024;
/// Lines in a head: browsers and proxies send some thirty.
const HEADERS_MAX: usize = 128;
/// The part of the files that a process may have open which one door may take.
const DESCRIPTORS_SHARE: usize = 8;

/// `FIRST-LAST`, taken apart.
pub(super) fn range(text: &str) -> Option<RangeInclusive<u32>> {
    let (first, last) = text.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    (first > 0 && first <= last).then_some(first..=last)
}

impl Config {
    /// The users that programs of services run as; `None` where none run here.
    pub fn service_users(&self) -> Option<RangeInclusive<u32>> {
        self.runtime.dir.as_ref()?;
        range(&self.runtime.users)
    }

    /// How processes are kept; `None` where none are.
    pub fn process_settings(&self) -> Option<process::Settings> {
        let mut settings = process::Settings::new(self.runtime.dir.as_ref()?);
        settings.drain_time = Duration::from_millis(self.runtime.drain_ms);
        settings.stop_time = Duration::from_millis(self.runtime.stop_ms);
        settings.gateway.listen = self.runtime.gateways.iter().filter_map(|text| gateway(text)).collect();
        let runtime = &self.runtime;
        if let Some(users) = range(&runtime.users) {
            settings.users = users;
        }
        settings.operator.clone_from(&runtime.operator);
        settings.namespaces = runtime.namespaces;
        settings.commands.clone_from(&runtime.commands);
        settings.visible.extend(runtime.visible.iter().map(PathBuf::from));
        settings.cgroup.clone_from(&runtime.cgroup);
        settings.memory_bytes = runtime.replica_memory_bytes;
        settings.processes = runtime.replica_processes;
        settings.tmp_bytes = runtime.tmp_bytes;
        settings.state_bytes = runtime.state_bytes;
        settings.log_bytes = runtime.log_bytes;
        settings.log_bytes_per_second = runtime.log_bytes_per_second;
        Some(settings)
    }

    /// How a Kubernetes cluster is used; `None` where none is.
    pub fn kubernetes_settings(&self) -> Option<kubernetes::Settings> {
        let runtime = &self.runtime;
        if runtime.compute != ComputeKind::Kubernetes {
            return None;
        }
        let dir = runtime.dir.as_ref()?.join(CLUSTER);
        let mut settings = kubernetes::Settings::new(dir, runtime.kubernetes_image.clone()?);
        settings.kubeconfig = runtime.kubernetes_config.clone();
        settings.context = runtime.kubernetes_context.clone();
        settings.namespace.clone_from(&runtime.kubernetes_namespace);
        settings.drain_time = Duration::from_millis(runtime.drain_ms);
        settings.stop_time = Duration::from_millis(runtime.stop_ms);
        settings.gateway.listen = runtime.gateways.iter().filter_map(|text| gateway(text)).collect();
        Some(settings)
    }

    /// How Pulumi makes environments, keeping its state in `dir`; `None` where it does not.
    pub fn pulumi_settings(&self, dir: &Path) -> Option<pulumi::Settings> {
        let runtime = &self.runtime;
        if runtime.provisioner != ProvisionerKind::Pulumi {
            return None;
        }
        Some(pulumi::Settings {
            dir: dir.to_owned(),
            program: runtime.pulumi_program.clone(),
            project: runtime.pulumi_project.clone()?,
            variables: pulumi::cli::variables(&runtime.pulumi_variables),
            time: Duration::from_millis(runtime.pulumi_within_ms),
        })
    }

    /// Where it is written down how services should be; `None` where it is not. The copy is this
    /// node's own.
    pub fn desired_settings(&self) -> Option<git::Settings> {
        let url = self.runtime.desired.clone()?;
        let place = git::Place::Far { url, mirror: self.data_dir.join(MIRROR) };
        Some(git::Settings::new(place, &self.runtime.desired_branch))
    }

    /// Whether the runtime platform's workers run here.
    pub fn looks_after_services(&self) -> bool {
        self.runtime.workers.unwrap_or(self.runtime.dir.is_some())
    }

    /// Where artifacts are; `None` where nothing runs.
    pub fn artifacts_dir(&self) -> Option<PathBuf> {
        let dir = self.runtime.dir.as_ref()?;
        Some(self.runtime.artifacts.clone().unwrap_or_else(|| dir.join(PUBLISHED)))
    }

    /// How to reach NATS.
    pub fn connect_config(&self) -> ConnectConfig {
        let nats = &self.nats;
        let auth = match (&self.credentials, &nats.user, &nats.token, &nats.nkey_seed) {
            (Some(file), _, _, _) => Auth::Credentials(file.clone()),
            (None, Some(user), _, _) => {
                Auth::User { user: user.clone(), password: nats.password.clone().unwrap_or_default() }
            }
            (None, None, Some(token), _) => Auth::Token(token.clone()),
            (None, None, None, Some(seed)) => Auth::Nkey(seed.clone()),
            (None, None, None, None) => Auth::None,
        };
        let tls = Tls {
            required: nats.tls_required,
            authorities: nats.tls_authorities.clone(),
            identity: nats.tls_certificate.clone().zip(nats.tls_key.clone()),
        };
        ConnectConfig {
            auth,
            inbox_prefix: nats.inbox_prefix.clone(),
            tls,
            name: self.node.as_ref().map_or_else(|| "skald".to_owned(), |node| format!("skald {node}")),
            start_within: Duration::from_millis(nats.start_within_ms),
            ..ConnectConfig::new(self.servers.clone())
        }
    }

    /// The journal's streams.
    pub fn journal_config(&self) -> JournalConfig {
        JournalConfig {
            shards: Some(self.shards),
            streams: match self.journal.streams {
                Streams::Auto => None,
                Streams::One => Some(1),
                Streams::PerShard => Some(self.shards),
            },
            replicas: self.replicas(),
            retention: hours(self.journal.retention_hours),
            append_within: Duration::from_millis(self.journal.append_timeout_ms),
        }
    }

    /// Where targets of installations may be. Nothing named is no limit only where the server does
    /// not ask who somebody is.
    pub fn targets(&self) -> Targets {
        let nats = &self.nats;
        let authenticated = self.credentials.is_some()
            || nats.user.is_some()
            || nats.token.is_some()
            || nats.nkey_seed.is_some()
            || nats.tls_certificate.is_some();
        let roots = &self.catalog.target_roots;
        if roots.is_empty() && !authenticated { Targets::Anywhere } else { Targets::Below(roots.clone()) }
    }

    /// The streams of events and dead letters.
    pub fn outbox_config(&self) -> OutboxConfig {
        OutboxConfig {
            replicas: self.replicas(),
            events_kept: hours(self.events.kept_hours),
            dedupe_window: Duration::from_millis(self.events.dedupe_window_ms),
            events_synced: self.events.synced,
            letters: LetterLimits {
                per_second: self.events.dead_per_second,
                bytes_per_second: self.events.dead_bytes_per_second,
                bytes_kept: self.events.dead_bytes_per_tenant,
                kept_for: hours(self.events.dead_kept_hours),
                whole_bytes: self.events.dead_letter_bytes,
                heads_at_once: self.events.dead_heads_at_once,
                per_reason: self.events.dead_per_reason.into(),
                stream_bytes: match self.events.dead_bytes {
                    0 => -1,
                    bytes => i64::try_from(bytes).unwrap_or(i64::MAX),
                },
            },
        }
    }

    /// What comes through the door of the command service.
    pub fn service_limits(&self) -> ServiceLimits {
        ServiceLimits {
            in_flight: self.limits.commands_in_flight,
            in_flight_per_tenant: self.limits.commands_per_tenant,
            waits: self.limits.waits_in_flight,
            waits_per_tenant: self.limits.waits_per_tenant,
            body_bytes: self.limits.body_bytes,
        }
    }

    /// Decisions that may be under way at length.
    pub fn decision_threads(&self) -> usize {
        match self.limits.decision_threads {
            0 => engine::decision_threads(),
            threads => threads,
        }
    }

    /// What a definition may ask.
    pub fn definition_limits(&self) -> DefinitionLimits {
        let limits = &self.limits;
        let run = expression::Limits {
            expression_ms: limits.expression_ms,
            overruns: limits.overruns,
            unbroken_states: limits.unbroken_states,
            expression_depth: limits.expression_depth,
            expression_sequence: limits.expression_items,
            expression_bytes: limits.expression_bytes,
            value_bytes: limits.value_bytes,
            map_items: limits.map_items,
            child_depth: limits.child_depth,
            ..expression::Limits::default()
        };
        DefinitionLimits { source_bytes: limits.definition_bytes, per_tenant: limits.definitions_per_tenant, run }
    }

    /// What an archive of a package may ask.
    pub fn archive_limits(&self) -> archive::Limits {
        let catalog = &self.catalog;
        archive::Limits {
            packed_bytes: catalog.archive_bytes,
            unpacked_bytes: catalog.unpacked_bytes,
            entries: catalog.archive_entries,
            ratio: catalog.archive_ratio,
            path_bytes: catalog.path_bytes,
            ..archive::Limits::default()
        }
    }

    /// What a request to the debug endpoint may ask.
    pub fn http_limits(&self) -> HttpLimits {
        let debug = &self.debug;
        let within = Duration::from_millis(debug.answer_within_ms);
        HttpLimits {
            uri_bytes: debug.uri_max_bytes,
            header_bytes: debug.header_max_bytes,
            within,
            ..HttpLimits::default()
        }
    }

    /// The file of the HTTP door's tokens.
    pub fn http_tokens(&self) -> PathBuf {
        self.http.tokens.clone().unwrap_or_else(|| self.data_dir.join(TOKENS))
    }

    /// How much the HTTP door lets in.
    pub fn http_door_limits(&self) -> http::Limits {
        http::Limits {
            in_flight: self.http.in_flight,
            in_flight_per_tenant: self.http.in_flight_per_tenant,
            body_bytes: self.limits.body_bytes,
            body_within: Duration::from_millis(self.http.body_within_ms),
            within: Duration::from_millis(self.http.answer_within_ms),
        }
    }

    /// How many connections the HTTP door takes, and what each may do.
    pub fn http_connections(&self) -> (Crowd, Bounds) {
        let http = &self.http;
        let bounds = Bounds {
            head_within: Duration::from_millis(http.head_within_ms),
            write_within: Duration::from_millis(http.head_within_ms),
            head_bytes: HEAD_BYTES,
            headers_max: HEADERS_MAX,
        };
        (Crowd::within(http.connections, http.connections_per_peer, DESCRIPTORS_SHARE), bounds)
    }

    /// The same of the debug endpoint.
    pub fn debug_connections(&self) -> (Crowd, Bounds) {
        let (debug, (_, bounds)) = (&self.debug, self.http_connections());
        let within = Duration::from_millis(debug.head_within_ms);
        let bounds = Bounds { head_within: within, write_within: within, ..bounds };
        (Crowd::within(debug.connections, debug.connections_per_peer, DESCRIPTORS_SHARE), bounds)
    }

    /// On how many servers everything is kept; [`Config::check`] lets no other number through.
    pub fn replicas(&self) -> Replicas {
        match self.journal.replicas {
            0..=2 => Replicas::One,
            3 | 4 => Replicas::Three,
            5.. => Replicas::Five,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Nats;

    #[test]
    fn a_node_says_who_it_is_in_the_one_way_that_is_set() {
        let auth = |nats| Config { nats, ..Config::default() }.connect_config().auth;
        assert_eq!(auth(Nats::default()), Auth::None);
        assert_eq!(auth(Nats { token: Some("t".into()), ..Nats::default() }), Auth::Token("t".into()));
        let user = Nats { user: Some("ann".into()), password: Some("p".into()), ..Nats::default() };
        assert_eq!(auth(user), Auth::User { user: "ann".into(), password: "p".into() });
    }

    #[test]
    fn the_defaults_are_those_of_the_adapters() {
        let config = Config::default();
        assert_eq!(config.journal_config().retention, JournalConfig::default().retention);
        assert_eq!(config.shards, crate::nats::DEFAULT_SHARDS);
        assert_eq!(config.outbox_config(), OutboxConfig::default());
        assert_eq!(config.definition_limits().run, expression::Limits::default());
        assert_eq!(config.archive_limits(), archive::Limits::default());
        assert_eq!(config.http_limits(), HttpLimits::default());
        assert_eq!(config.limits.body_bytes, protocol::codec::BODY_MAX_BYTES);
        let runtime = crate::config::Runtime { dir: Some("/runtime".into()), ..config.runtime.clone() };
        let told = Config { runtime, ..config }.process_settings().unwrap();
        let default = process::Settings::new("/runtime");
        assert_eq!(format!("{told:?}"), format!("{default:?}"));
    }
}
