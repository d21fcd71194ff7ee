//! When a started server is ready: what ports it took, and whether it says that it is healthy.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How often a starting server is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long one look at its health may take.
const HEALTH_WITHIN: Duration = Duration::from_secs(2);
/// How many of the log's last lines go into an error.
const LOG_LINES: usize = 12;

/// The ports a server took.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ports {
    pub(super) client: u16,
    pub(super) monitor: u16,
}

/// Reads the file in which the server `pid` says what ports it took, once it is there and whole.
pub(super) fn ports(dir: &Path, pid: u32) -> Option<Ports> {
    let wanted = format!("_{pid}.ports");
    let entry = std::fs::read_dir(dir)
        .ok()?
        .filter_map(Result::ok)
        .find(|entry| entry.file_name().to_string_lossy().ends_with(&wanted))?;
    let text = std::fs::read(entry.path()).ok()?;
    let said: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let port = |which: &str| said[which][0].as_str()?.rsplit(':').next()?.trim_end_matches('/').parse::<u16>().ok();
    Some(Ports { client: port("nats")?, monitor: port("monitoring")? })
}

/// Asks the server on its monitoring port whether it is healthy; `Err` says what it is waiting for.
pub(super) async fn healthy(monitor_port: u16, query: &str) -> Result<(), String> {
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(("127.0.0.1", monitor_port)).await?;
        let request = format!("GET /healthz{query} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    match tokio::time::timeout(HEALTH_WITHIN, ask).await {
        Ok(Ok(answer)) if answer.split_whitespace().nth(1) == Some("200") => Ok(()),
        Ok(Ok(answer)) => Err(answer.lines().last().unwrap_or("it said nothing").to_owned()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("its monitoring port does not answer".into()),
    }
}

/// The last lines a server wrote in its log from byte `from`, and on its standard error.
pub(super) fn last_words(log: &Path, from: u64, stderr: &Path) -> String {
    let read = |path: &Path, from: u64| {
        let bytes = std::fs::read(path).unwrap_or_default();
        let from = usize::try_from(from).unwrap_or(0).min(bytes.len());
        String::from_utf8_lossy(&bytes[from..]).into_owned()
    };
    let (log, stderr) = (read(log, from), read(stderr, 0));
    let lines: Vec<_> = log.lines().chain(stderr.lines()).filter(|line| !line.trim().is_empty()).collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES)..];
    if shown.is_empty() { "(it wrote nothing)".into() } else { shown.join("\n") }
}
