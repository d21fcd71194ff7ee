//! A small service for stories about deployments, who asks it, and who ends it afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinHandle;

/// Says which version it is, and at `/of/NAME` what its variable NAME holds. What is broken answers
/// its probe and fails all else.
const SERVER: &str = r#"#!/usr/bin/env python3
import http.server, os
VERSION, BROKEN = "@VERSION@", @BROKEN@
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        name = self.path[4:] if self.path.startswith("/of/") else None
        body = (VERSION if name is None else os.environ.get(name, "")).encode()
        self.send_response(500 if BROKEN and self.path != "/health" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// The program of a version.
pub fn server(version: &str, broken: bool) -> String {
    SERVER.replace("@VERSION@", version).replace("@BROKEN@", if broken { "True" } else { "False" })
}

/// Whether this machine can run it.
pub fn has_python() -> bool {
    Path::new("/usr/bin/python3").exists() || Path::new("/usr/local/bin/python3").exists()
}

/// Ends the processes of the story in this directory, however it ends: they outlive their node on
/// purpose.
pub struct Left(pub PathBuf);

impl Drop for Left {
    fn drop(&mut self) {
        let dir = self.0.display().to_string();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok());
            let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let ours =
                String::from_utf8_lossy(&command).contains(&dir) && pid != i32::try_from(std::process::id()).ok();
            if let Some(pid) = pid.filter(|_| ours).and_then(rustix::process::Pid::from_raw) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }
}

/// What became of one request: its answer, or what went wrong.
pub type Seen = Result<String, String>;

/// Requests, one after the other, until it is told to stop.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    seen: JoinHandle<Vec<Seen>>,
}

impl Traffic {
    /// Asks `url` from now on.
    pub fn begin(url: &str) -> Self {
        let (stop, url) = (Arc::new(AtomicBool::new(false)), format!("{url}/"));
        let told = stop.clone();
        let seen = tokio::spawn(async move {
            let client = reqwest::Client::new();
            let mut seen = Vec::new();
            while !told.load(SeqCst) {
                let answer = async {
                    let answer = client.get(&url).send().await.map_err(|error| error.to_string())?;
                    let status = answer.status();
                    let text = answer.text().await.map_err(|error| error.to_string())?;
                    if status.is_success() { Ok(text) } else { Err(format!("{status} {text}")) }
                };
                seen.push(answer.await);
                tokio::time::sleep(Duration::from_millis(3)).await;
            }
            seen
        });
        Self { stop, seen }
    }

    /// Stops, and answers what was seen.
    pub async fn end(self) -> Vec<Seen> {
        self.stop.store(true, SeqCst);
        self.seen.await.expect("the requests do not panic")
    }
}
