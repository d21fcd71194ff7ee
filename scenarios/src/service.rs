//! A small service for stories about deployments, who asks it, and who ends it afterwards.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::task::JoinHandle;

/// Says which version it is, at `/of/NAME` what its variable NAME holds, and at `/metrics` how often it was
/// asked. What is broken answers its probe and fails all else.
const SERVER: &str = r#"#!/usr/bin/env python3
import http.server, itertools, os
VERSION, BROKEN = "@VERSION@", @BROKEN@
COUNT = itertools.count(1)
ASKED = [0]
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/":
            ASKED[0] = next(COUNT)
        said = {
            "/metrics": "http_requests_total %d\n" % ASKED[0],
        }
        body = said.get(self.path, os.environ.get(self.path[4:], "") if self.path.startswith("/of/") else VERSION)
        body = body.encode()
        self.send_response(500 if BROKEN and self.path not in ("/health", "/metrics") else 200)
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
    seen: UnboundedReceiver<Seen>,
    task: JoinHandle<()>,
}

impl Traffic {
    /// Asks `url` from now on, as fast as a patient client does.
    pub fn begin(url: &str) -> Self {
        Self::paced(url, Duration::from_millis(3))
    }

    /// Asks `url` from now on, with a pause after each answer.
    pub fn paced(url: &str, pause: Duration) -> Self {
        let (sees, seen) = unbounded_channel();
        let stop = Arc::new(AtomicBool::new(false));
        let (told, url) = (stop.clone(), format!("{url}/"));
        let task = tokio::spawn(async move {
            let client = reqwest::Client::new();
            while !told.load(SeqCst) {
                let answer = async {
                    let answer = client.get(&url).send().await.map_err(|error| format!("{error:?}"))?;
                    let status = answer.status();
                    let text = answer.text().await.map_err(|error| format!("{error:?}"))?;
                    if status.is_success() { Ok(text) } else { Err(format!("{status} {text}")) }
                };
                // Nobody looks any more: the story is over.
                let _ = sees.send(answer.await);
                tokio::time::sleep(pause).await;
            }
        });
        Self { stop, seen, task }
    }

    /// What was seen since the last look; goes on asking.
    pub fn look(&mut self) -> Vec<Seen> {
        std::iter::from_fn(|| self.seen.try_recv().ok()).collect()
    }

    /// Stops, and answers what was seen since the last look.
    pub async fn end(mut self) -> Vec<Seen> {
        self.stop.store(true, SeqCst);
        (&mut self.task).await.expect("the requests do not panic");
        self.look()
    }
}
