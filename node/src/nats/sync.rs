//! Whether an acknowledged write is on the disk. JetStream syncs every two minutes unless told
//! otherwise, and says what it was told only on its monitoring port.

use std::fmt;
use std::time::Duration;

use serde_json::Value;

/// How long a monitoring port may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(3);

/// When a server writes through to the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SyncMode {
    /// Before every acknowledgement.
    Always,
    /// Now and then: an acknowledged write can be lost with the machine's power.
    Every(Duration),
    /// It could not be read, and why.
    Unknown(String),
}

impl fmt::Display for SyncMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Always => f.write_str("always: an acknowledged write is on the disk"),
            Self::Every(pause) => {
                write!(f, "every {} s: an acknowledged write can be lost with the machine's power", pause.as_secs())
            }
            Self::Unknown(why) => write!(f, "unknown: {why}"),
        }
    }
}

/// Reads the sync mode from the servers' monitoring addresses (`http://host:8222`), all of a
/// cluster's. The weakest answer counts, and an unknown one is weaker than `always`.
pub async fn sync_mode(monitors: &[String]) -> SyncMode {
    if monitors.is_empty() {
        return SyncMode::Unknown("the servers' monitoring addresses are not set".into());
    }
    let modes = futures::future::join_all(monitors.iter().map(|url| one(url))).await;
    modes.into_iter().fold(SyncMode::Always, weaker)
}

fn weaker(a: SyncMode, b: SyncMode) -> SyncMode {
    match (a, b) {
        (SyncMode::Every(a), SyncMode::Every(b)) => SyncMode::Every(a.max(b)),
        (every @ SyncMode::Every(_), SyncMode::Always | SyncMode::Unknown(_))
        | (SyncMode::Always | SyncMode::Unknown(_), every @ SyncMode::Every(_)) => every,
        (unknown @ SyncMode::Unknown(_), SyncMode::Always | SyncMode::Unknown(_))
        | (SyncMode::Always, unknown @ SyncMode::Unknown(_)) => unknown,
        (SyncMode::Always, SyncMode::Always) => SyncMode::Always,
    }
}

async fn one(monitor: &str) -> SyncMode {
    let url = format!("{}/varz", monitor.trim_end_matches('/'));
    let ask = async {
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).build()?;
        client.get(&url).send().await?.error_for_status()?.json::<Value>().await
    };
    match ask.await {
        Ok(said) => read(&said),
        Err(error) => SyncMode::Unknown(super::connect::chain(&error)),
    }
}

/// What the servers say of themselves that is wrong. A server whose disk was full refuses to write a
/// stream until it is started again, however much room there is meanwhile: only here does it say so.
/// A monitor that does not answer says nothing: whether the server can be reached is seen elsewhere.
pub async fn complaints(monitors: &[String]) -> Vec<String> {
    let asked = monitors.iter().map(|url| async move {
        let address = format!("{}/healthz", url.trim_end_matches('/'));
        let client = reqwest::Client::builder().timeout(ANSWER_WITHIN).build().ok()?;
        let answer = client.get(&address).send().await.ok()?;
        if answer.status().is_success() {
            return None;
        }
        complaint(url, &answer.text().await.ok()?)
    });
    futures::future::join_all(asked).await.into_iter().flatten().collect()
}

/// What of a server's `/healthz` a person must act upon: elections and catching up pass by themselves.
fn complaint(url: &str, said: &str) -> Option<String> {
    let said: Value = serde_json::from_str(said).ok()?;
    let error = said["error"].as_str()?;
    let disk = error.contains("write error") || error.contains("no space left");
    disk.then(|| {
        format!(
            "the NATS server at {url} cannot write: {error}; make room, then restart that server: it refuses until then"
        )
    })
}

/// Reads `/varz`.
fn read(said: &Value) -> SyncMode {
    let config = &said["jetstream"]["config"];
    if config["sync_always"].as_bool() == Some(true) {
        return SyncMode::Always;
    }
    match config["sync_interval"].as_u64() {
        Some(nanos) => SyncMode::Every(Duration::from_nanos(nanos)),
        None => SyncMode::Unknown("the server does not say".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_disk_is_complained_of() {
        let said = r#"{"status":"unavailable","status_code":503,"error":"JetStream stream '$G > A' write error: write 6.blk: no space left on device"}"#;
        assert!(complaint("http://s1:8222", said).unwrap().contains("restart that server"));
        assert_eq!(
            complaint(
                "x",
                r#"{"status":"unavailable","error":"JetStream has not established contact with a meta leader"}"#
            ),
            None
        );
        assert_eq!(complaint("x", "not json"), None);
    }

    #[test]
    fn the_weakest_server_counts() {
        let unknown = || SyncMode::Unknown("no answer".into());
        let every = SyncMode::Every(Duration::from_secs(120));
        assert_eq!(weaker(SyncMode::Always, unknown()), unknown());
        assert_eq!(weaker(unknown(), every.clone()), every);
        assert_eq!(weaker(SyncMode::Always, SyncMode::Always), SyncMode::Always);
    }
}
