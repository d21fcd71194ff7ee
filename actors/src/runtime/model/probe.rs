//! How a workload is asked whether it is well.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::fault::{self, Fault};
use super::millis;

/// The window in which every probe runs once (W017).
pub const WINDOW: Duration = Duration::from_secs(30);
/// Tries within one window before the probe has failed (W021).
pub const TRIES: u32 = 3;
/// How long one try may take unless told otherwise (D401: Kubernetes has 1 s).
pub const TIMEOUT: Duration = Duration::from_secs(1);
/// The longest one try may take: three of them and the pauses between fit into the window.
pub const TIMEOUT_MAX: Duration = Duration::from_secs(8);
/// The pause between two tries.
pub const PAUSE: Duration = Duration::from_millis(500);
/// The most arguments of a command probe.
pub const ARGUMENTS_MAX: usize = 64;
/// The longest path, service name or argument, in bytes.
pub const TEXT_MAX_BYTES: usize = 1_024;
/// The most windows a threshold may ask for: half an hour.
pub const THRESHOLD_MAX: u32 = 60;

/// What the answer decides.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, strum::Display)]
#[serde(rename_all = "camelCase")]
#[strum(serialize_all = "lowercase")]
pub enum ProbeKind {
    /// Whether it has started; until then the other two are not asked (D403).
    Startup,
    /// Whether it lives; if not it is restarted (D404).
    Liveness,
    /// Whether it can take traffic; if not it gets none (D404).
    Readiness,
}

/// How it is asked (D405).
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase", tag = "type")]
pub enum Probe {
    /// GET; any status from 200 to 399 is well.
    Http {
        /// The port.
        port: u16,
        /// The path, beginning with `/`.
        path: String,
    },
    /// A connection that is accepted is well.
    Tcp {
        /// The port.
        port: u16,
    },
    /// The gRPC health service; SERVING is well.
    Grpc {
        /// The port.
        port: u16,
        /// Which service is asked about; empty: the server.
        #[serde(default)]
        service: String,
    },
    /// A command beside the workload; status 0 is well.
    Command {
        /// The program and its arguments.
        command: Vec<String>,
    },
}

/// One probe of one workload.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbeSpec {
    /// What the answer decides.
    pub kind: ProbeKind,
    /// How it is asked.
    pub probe: Probe,
    /// How long one try may take.
    #[serde(rename = "timeoutMs", with = "millis", default = "timeout")]
    pub timeout: Duration,
    /// How many windows in a row must fail before the probe counts as failing.
    #[serde(default = "one")]
    pub failure_threshold: u32,
    /// How many windows in a row must pass before it counts as passing again.
    #[serde(default = "one")]
    pub success_threshold: u32,
    /// How long after its start the workload is left alone.
    #[serde(rename = "initialDelayMs", with = "millis", default)]
    pub initial_delay: Duration,
}

const fn timeout() -> Duration {
    TIMEOUT
}

const fn one() -> u32 {
    1
}

impl ProbeSpec {
    /// A probe with the defaults.
    pub const fn new(kind: ProbeKind, probe: Probe) -> Self {
        Self {
            kind,
            probe,
            timeout: TIMEOUT,
            failure_threshold: 1,
            success_threshold: 1,
            initial_delay: Duration::ZERO,
        }
    }

    /// The longest one window's tries can take; less than the window, so that a probe never meets
    /// itself (F50).
    pub fn longest(&self) -> Duration {
        (self.timeout + PAUSE) * TRIES
    }

    /// Holds the sizes to their bounds.
    pub fn check(&self) -> Result<(), Fault> {
        fault::between("timeoutMs", self.timeout.as_millis(), 1, TIMEOUT_MAX.as_millis())?;
        fault::between("failureThreshold", self.failure_threshold, 1, THRESHOLD_MAX)?;
        fault::between("successThreshold", self.success_threshold, 1, THRESHOLD_MAX)?;
        match self.kind {
            // D402: a workload that must first prove itself well again would be restarted meanwhile.
            ProbeKind::Startup | ProbeKind::Liveness if self.success_threshold != 1 => {
                let fault = format!("it is {}", self.success_threshold);
                return Err(Fault::new("successThreshold", fault, "use 1 for startup and liveness"));
            }
            ProbeKind::Startup | ProbeKind::Liveness | ProbeKind::Readiness => {}
        }
        let port = |port: u16| match port {
            0 => Err(Fault::new("probe.port", "it is 0", "use 1 to 65535")),
            1.. => Ok(()),
        };
        match &self.probe {
            Probe::Http { port: at, path } => {
                port(*at)?;
                fault::text("probe.path", path, TEXT_MAX_BYTES)?;
                if !path.starts_with('/') {
                    return Err(Fault::new("probe.path", format!("{path:?} is not a path"), "begin it with /"));
                }
                Ok(())
            }
            Probe::Tcp { port: at } => port(*at),
            Probe::Grpc { port: at, service } => {
                port(*at)?;
                fault::at_most("probe.service", service.len(), TEXT_MAX_BYTES, "bytes")
            }
            Probe::Command { command } => {
                fault::at_most("probe.command", command.len(), ARGUMENTS_MAX, "arguments")?;
                match command.first() {
                    None => Err(Fault::new("probe.command", "it is empty", "name a program")),
                    Some(program) => fault::text("probe.command", program, TEXT_MAX_BYTES),
                }?;
                command.iter().try_for_each(|arg| fault::at_most("probe.command", arg.len(), TEXT_MAX_BYTES, "bytes"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_probe_that_would_meet_itself_is_refused() {
        let probe = ProbeSpec::new(ProbeKind::Liveness, Probe::Tcp { port: 80 });
        assert!(probe.check().is_ok());
        let slow = ProbeSpec { timeout: TIMEOUT_MAX, ..probe.clone() };
        assert!(slow.check().is_ok() && slow.longest() < WINDOW);
        assert!(ProbeSpec { timeout: Duration::from_secs(9), ..probe.clone() }.check().is_err());
        let fault = ProbeSpec { success_threshold: 2, ..probe }.check().unwrap_err();
        assert_eq!(fault.to_string(), "successThreshold: it is 2; use 1 for startup and liveness");
    }

    #[test]
    fn the_edge_speaks_camel_case_and_fills_in_defaults() {
        let text = r#"{"kind":"readiness","probe":{"type":"http","port":8080,"path":"/ready"}}"#;
        let probe: ProbeSpec = serde_json::from_str(text).unwrap();
        assert_eq!(probe, ProbeSpec::new(ProbeKind::Readiness, Probe::Http { port: 8080, path: "/ready".into() }));
        assert_eq!(serde_json::to_value(&probe).unwrap()["timeoutMs"], 1_000);
    }
}
