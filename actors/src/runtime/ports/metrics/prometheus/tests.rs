//! Answers as a server gives them, and the contract on a real server when there is one: the
//! program `prometheus` on the path, or where the variable `PROMETHEUS` says.

use std::net::{Ipv4Addr, TcpListener as Reserved};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::contract::{self, Stage, orders};
use super::*;

fn answered(code: u16, body: &str) -> String {
    match read(&Query::Metric(Metric::Rps), StatusCode::from_u16(code).unwrap(), body.as_bytes()) {
        Ok(sample) => format!("{:?}", sample.map(|sample| (sample.value, sample.at.as_millis()))),
        Err(failure) => format!("{}: {}", failure.error, failure.cause),
    }
}

/// As Prometheus 2.42 answers.
#[test]
fn answers_of_a_server() {
    let vector =
        |result: &str| format!(r#"{{"status":"success","data":{{"resultType":"vector","result":[{result}]}}}}"#);
    let one = r#"{"metric":{},"value":[1732200000.123,"4.5"]}"#;
    assert_eq!(answered(200, &vector(one)), "Some((4.5, 1732200000123))");
    assert_eq!(answered(200, &vector("")), "None");
    assert_eq!(answered(200, &vector(r#"{"metric":{},"value":[1,"NaN"]}"#)), "None");
    assert_eq!(answered(200, &vector(r#"{"metric":{},"value":[1,"+Inf"]}"#)), "None");
    let two = answered(200, &vector(&format!("{one},{one}")));
    assert_eq!(two, "BadQuery: the query for rps has 2 answers and should have one; mend it");
    let scalar = r#"{"status":"success","data":{"resultType":"scalar","result":[2,"7"]}}"#;
    assert_eq!(answered(200, scalar), "Some((7.0, 2000))");
    let matrix = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
    assert_eq!(answered(200, matrix), "BadQuery: the query for rps answers no number; mend it");
    let error = r#"{"status":"error","errorType":"bad_data","error":"invalid parameter \"query\": 1:5: parse error"}"#;
    let refused = "BadQuery: the query for rps is refused: invalid parameter \"query\": 1:5: parse error; mend it";
    assert_eq!(answered(400, error), refused);
    let busy = r#"{"status":"error","errorType":"timeout","error":"query timed out in query execution"}"#;
    assert!(
        answered(503, busy).starts_with("Transient: asking Prometheus: it answered with 503"),
        "{}",
        answered(503, busy)
    );
    assert!(answered(502, "<html>").starts_with("Transient: asking Prometheus: it answered with 502"));
}

#[tokio::test]
async fn a_server_that_is_not_there_may_come() {
    let port = free_port();
    let metrics = Prometheus::new(Settings::new(format!("http://127.0.0.1:{port}"))).unwrap();
    let failed = metrics.sample(&orders(), &Query::Metric(Metric::Cpu)).await.unwrap_err();
    assert!(!failed.permanent && !failed.cause.contains("query="), "{failed}");
}

fn free_port() -> u16 {
    Reserved::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn program() -> Option<PathBuf> {
    let named = std::env::var_os("PROMETHEUS").map(PathBuf::from);
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|dir| dir.join("prometheus")).find(|file| file.is_file());
    named.or(found)
}

/// A server that scrapes one workload every second.
struct Server {
    child: Child,
    answer: Arc<Mutex<Option<String>>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

async fn workload(answer: Arc<Mutex<Option<String>>>) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.lock().unwrap().clone();
            let _asked = stream.read(&mut [0; 2048]).await;
            if let Some(text) = answer {
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/plain; version=0.0.4\r\n";
                let whole = format!("{head}content-length: {}\r\n\r\n{text}", text.len());
                stream.write_all(whole.as_bytes()).await.ok();
            }
        }
    });
    port
}

impl Server {
    async fn start(program: &Path, dir: &Path) -> (Self, String) {
        let answer = Arc::new(Mutex::new(None));
        let scraped = workload(answer.clone()).await;
        let config = format!(
            "global: {{scrape_interval: 1s}}\nscrape_configs:\n- job_name: a\n  static_configs:\n  \
             - targets: ['127.0.0.1:{scraped}']\n    labels: {{environment: prod, service: orders}}\n"
        );
        std::fs::write(dir.join("prometheus.yml"), config).unwrap();
        let address = format!("127.0.0.1:{}", free_port());
        let child = Command::new(program)
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        (Self { child, answer }, format!("http://{address}"))
    }
}

#[async_trait]
impl Stage for Server {
    async fn answer(&self, text: Option<String>) {
        *self.answer.lock().unwrap() = text;
    }
    async fn pass(&self) {
        // The server's own clock: it looks once a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    async fn grow_old(&self) {
        tokio::time::sleep(Duration::from_secs(6)).await;
    }
}

#[tokio::test]
async fn a_real_server_keeps_the_contract() {
    let Some(program) = program() else {
        eprintln!("skipped: there is no program `prometheus`; answers as a server gives them were read instead");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let (server, address) = Server::start(&program, dir.path()).await;
    let mut settings = Settings { stale: Duration::from_secs(4), ..Settings::new(address) };
    for query in settings.queries.values_mut() {
        *query = query.replace("[1m]", "[5s]");
    }
    settings.queries.insert(Query::Named("broken".into()), "sum(".into());
    settings.queries.insert(
        Query::Named("many".into()),
        "vector(1) or on(a) label_replace(vector(2), \"a\", \"b\", \"\", \"\")".into(),
    );
    let metrics = Prometheus::new(settings).unwrap();
    // It takes a moment to start.
    let queue = Query::Metric(Metric::Queue);
    for _ in 0..30 {
        match metrics.sample(&orders(), &queue).await {
            Ok(_) => break,
            Err(failure) => assert!(!failure.permanent, "{failure}"),
        }
        server.pass().await;
    }
    contract::hold(&metrics, &server).await;
    for named in ["broken", "many"] {
        let refused = metrics.sample(&orders(), &Query::Named(named.into())).await.unwrap_err();
        assert_eq!(refused.error, "BadQuery", "{refused}");
    }
}
