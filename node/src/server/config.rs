//! The settings of an own nats-server, and the file it reads them from.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::Duration;

/// The largest message. A frame gathers records while another is on its way; 8 MiB holds eight
/// thousand records of 1 KiB, and the server warns above it.
pub const MAX_PAYLOAD_BYTES: usize = 8 * 1024 * 1024;

/// When JetStream writes through to the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SyncInterval {
    /// Before every acknowledgement: what is acknowledged survives a power cut.
    #[default]
    Always,
    /// Now and then: an acknowledged write can be lost with the machine's power.
    Every(Duration),
}

/// JetStream, the durable half of the server.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct JetStreamConfig {
    /// When it writes through to the disk.
    pub sync_interval: SyncInterval,
    /// The most disk it may use; the server decides when absent (three quarters of what is free).
    pub max_file_bytes: Option<u64>,
}

/// One server's place among several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClusterRoutes {
    /// The cluster's name, the same for all.
    pub name: String,
    /// The port for the other servers.
    pub port: u16,
    /// The ports of all servers of the cluster, on the same host.
    pub peers: Vec<u16>,
}

/// How to run a nats-server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerConfig {
    /// Where everything it writes is kept. One server per directory, held by a lock.
    pub data_dir: PathBuf,
    /// Its name among servers.
    pub name: String,
    /// Where it listens.
    pub host: IpAddr,
    /// The port for clients; 0 lets the server choose a free one, kept over restarts.
    pub port: u16,
    /// The port for monitoring, on loopback only; 0 lets the server choose.
    pub monitor_port: u16,
    /// JetStream; `None` switches it off, which Skald cannot work with.
    pub jetstream: Option<JetStreamConfig>,
    /// The largest message in bytes.
    pub max_payload: usize,
    /// Its place in a cluster, if it is in one.
    pub cluster: Option<ClusterRoutes>,
    /// Lines added to the file as they are: users, TLS, accounts.
    pub extra: String,
    /// How long it may take until it answers; a large store is read first.
    pub start_within: Duration,
    /// How long an orderly stop may take before it is killed.
    pub stop_within: Duration,
}

impl ServerConfig {
    /// One server with its data in `data_dir`, on a free loopback port, every write synced.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            name: "skald".into(),
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 0,
            monitor_port: 0,
            jetstream: Some(JetStreamConfig::default()),
            max_payload: MAX_PAYLOAD_BYTES,
            cluster: None,
            extra: String::new(),
            start_within: Duration::from_secs(60),
            stop_within: Duration::from_secs(15),
        }
    }

    /// The server's log.
    pub fn log_file(&self) -> PathBuf {
        self.data_dir.join("nats-server.log")
    }

    pub(super) fn config_file(&self) -> PathBuf {
        self.data_dir.join("nats-server.conf")
    }

    /// What the server says before it has a log: a configuration it does not understand.
    pub(super) fn stderr_file(&self) -> PathBuf {
        self.data_dir.join("nats-server.stderr")
    }

    pub(super) fn ports_dir(&self) -> PathBuf {
        self.data_dir.join("ports")
    }

    pub(super) fn lock_file(&self) -> PathBuf {
        self.data_dir.join("nats-server.lock")
    }

    /// The file's text. `port` and `monitor_port` are the ones kept from an earlier start.
    pub(super) fn render(&self, port: u16, monitor_port: u16) -> String {
        let free = |port: u16| if port == 0 { "-1".to_owned() } else { port.to_string() };
        let mut text = String::from("# Written by skald at every start; changes here are lost.\n");
        let mut line = |it: std::fmt::Arguments<'_>| {
            let _ = text.write_fmt(it);
            text.push('\n');
        };
        line(format_args!("server_name: {}", quoted(&self.name)));
        line(format_args!("host: {}\nport: {}", quoted(&self.host.to_string()), free(port)));
        line(format_args!("http: \"127.0.0.1:{}\"", free(monitor_port)));
        line(format_args!("max_payload: {}", self.max_payload));
        // The default of 64 MiB would close a connection that reads eight full frames slowly.
        line(format_args!("max_pending: {}", (self.max_payload * 16).max(64 * 1024 * 1024)));
        line(format_args!("ports_file_dir: {}", quoted(&self.ports_dir().to_string_lossy())));
        line(format_args!("log_file: {}", quoted(&self.log_file().to_string_lossy())));
        line(format_args!("logfile_size_limit: 16MB\nlogfile_max_num: 4"));
        if let Some(jetstream) = &self.jetstream {
            line(format_args!("jetstream {{"));
            line(format_args!("  store_dir: {}", quoted(&self.data_dir.to_string_lossy())));
            match jetstream.sync_interval {
                SyncInterval::Always => line(format_args!("  sync_interval: always")),
                SyncInterval::Every(pause) => line(format_args!("  sync_interval: \"{}ms\"", pause.as_millis())),
            }
            if let Some(bytes) = jetstream.max_file_bytes {
                line(format_args!("  max_file_store: {bytes}"));
            }
            line(format_args!("}}"));
        }
        if let Some(cluster) = &self.cluster {
            let routes: Vec<_> = cluster
                .peers
                .iter()
                .filter(|port| **port != cluster.port)
                .map(|port| format!("\"nats-route://127.0.0.1:{port}\""))
                .collect();
            line(format_args!(
                "cluster {{\n  name: {}\n  listen: \"127.0.0.1:{}\"",
                quoted(&cluster.name),
                cluster.port
            ));
            line(format_args!("  routes: [{}]\n}}", routes.join(", ")));
        }
        text.push_str(&self.extra);
        text.push('\n');
        text
    }
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_synced_unless_somebody_says_otherwise() {
        let mut config = ServerConfig::new("/data");
        assert!(config.render(0, 0).contains("sync_interval: always"));
        assert!(config.render(0, 0).contains("port: -1"));
        assert!(config.render(4222, 0).contains("port: 4222"));
        config.jetstream = None;
        assert!(!config.render(0, 0).contains("jetstream"));
    }
}
