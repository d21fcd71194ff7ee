use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use protocol::command::Start;
use protocol::runtime::ListServices;
use protocol::view::{SagaView, Status};
use protocol::{SagaKey, Value};
use serde_json::json;

use crate::client::{Client, Error};
use crate::debug::{self, Paint};

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, artifact, duration, follow, parts};

/// Brings a revision of a service into an environment, as processes behind a gateway
#[derive(Args, Debug)]
#[command(after_help = "\
The artifact is an executable, or a .tar.gz with files in it; it is kept in the artifacts directory
of this machine's nodes. A replica listens on the port in its variable PORT. A revision that fails
its gates is taken back by itself, and does not come again until something else is wanted.

Example:
  skald environment create dev
  skald deploy web --environment dev --artifact ./server --probe /health --replicas 2
  skald deploy web --environment dev --artifact ./server-2 --strategy canary --steps 10,50

Next: skald services for what runs; skald rollback SERVICE to go back; skald history KEY for how it
came about")]
pub(super) struct Deploy {
    /// Name of the service: lower-case letters, digits and hyphens
    service: String,
    /// Name of the environment
    #[arg(long, short, value_name = "NAME")]
    environment: String,
    /// File to run, or the digest of one that was put there before
    #[arg(long, value_name = "FILE|sha256:…")]
    artifact: String,
    /// Program and arguments, separated by blanks; the artifact itself when not set
    #[arg(long, value_name = "WORDS", value_delimiter = ' ', allow_hyphen_values = true)]
    command: Vec<String>,
    /// How many replicas; as many as there are, or one
    #[arg(long, value_name = "N")]
    replicas: Option<u32>,
    /// How it takes over
    #[arg(long, value_name = "HOW", default_value = "rolling")]
    strategy: How,
    /// Percent of the traffic that a canary gets, step by step
    #[arg(long, value_name = "PERCENT", value_delimiter = ',', default_value = "10,50")]
    steps: Vec<u8>,
    /// How long each step of a canary, or the new set after a switch, is watched
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "30s")]
    watch: Duration,
    /// Percent of the requests that may fail while it is watched
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    max_failures: f64,
    /// Fewer requests than this say nothing, and it waits for `skald services resume`
    #[arg(long, value_name = "N", default_value_t = 20)]
    min_requests: u64,
    /// How long the old set is kept after the traffic left it
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "30s")]
    keep_old: Duration,
    /// Path that a healthy replica answers with 200 to 399; without one it is healthy when it takes connections, also
    /// where the deployment before had one
    #[arg(long, value_name = "PATH")]
    probe: Option<String>,
    /// A variable of its configuration; all that are needed, because they replace what was
    #[arg(long, value_name = "NAME=VALUE")]
    config: Vec<String>,
    /// What people call it; the beginning of the digest when not set
    #[arg(long = "release", value_name = "TEXT")]
    release: Option<String>,
    /// Directory of the artifacts, where it is not that of a running `skald up` or of the settings
    #[arg(long, value_name = "DIR")]
    artifacts: Option<PathBuf>,
    /// Name of the saga; the same key is the same deployment
    #[arg(long)]
    key: Option<SagaKey>,
    /// Return when it is accepted instead of watching it
    #[arg(long, conflicts_with = "wait")]
    detach: bool,
    /// Watch it until it ends, which is what happens anyway
    #[arg(long)]
    wait: bool,
}

/// How often it is looked whether a rollout waits for a person.
const LOOK_FOR_WAITS: Duration = Duration::from_secs(1);

/// How a revision takes over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum How {
    /// Replica by replica
    Rolling,
    /// Traffic step by step, watched
    Canary,
    /// All traffic at once, watched afterwards
    BlueGreen,
}

impl Deploy {
    fn strategy(&self) -> Value {
        let analysis = || {
            json!({
                "intervalMs": millis(self.watch), "count": 1, "requestsMin": self.min_requests,
                "success": [{ "figure": "failurePercent", "is": "atMost", "bound": self.max_failures }],
            })
        };
        match self.strategy {
            How::Rolling => json!({
                "name": "RollingHealthGated", "maxSurge": { "percent": 25 }, "maxUnavailable": { "percent": 25 },
            }),
            How::Canary => {
                let step = |percent: &u8| {
                    [
                        json!({ "type": "weight", "percent": percent }),
                        json!({ "type": "analysis", "analysis": analysis() }),
                    ]
                };
                let steps: Vec<Value> = self.steps.iter().flat_map(step).collect();
                json!({ "name": "Canary", "steps": steps, "scaleDownDelayMs": millis(self.keep_old) })
            }
            How::BlueGreen => json!({
                "name": "BlueGreen", "autoPromoteAfterMs": 0, "after": analysis(),
                "scaleDownDelayMs": millis(self.keep_old),
            }),
        }
    }

    fn configuration(&self) -> Result<Option<BTreeMap<String, String>>, Fault> {
        if self.config.is_empty() {
            return Ok(None);
        }
        let pair = |text: &String| match text.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            Some(_) | None => Err(Fault::usage(format!("{text:?} is no variable")).mend("write NAME=VALUE")),
        };
        self.config.iter().map(pair).collect::<Result<_, _>>().map(Some)
    }

    /// The artifact's digest, once it is where nodes find it.
    fn put(&self, ctx: &Ctx) -> Result<String, Fault> {
        let digits = self.artifact.strip_prefix("sha256:").unwrap_or(&self.artifact);
        if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(format!("sha256:{}", digits.to_ascii_lowercase()));
        }
        artifact::put(Path::new(&self.artifact), self.artifacts.clone(), ctx)
    }

    fn input(&self, artifact: &str) -> Result<Value, Fault> {
        let mut input = json!({
            "environment": self.environment, "service": self.service, "kind": "deploy", "artifact": artifact,
            "command": self.command, "strategy": self.strategy(),
        });
        if let Some(replicas) = self.replicas {
            input["replicas"] = replicas.into();
        }
        if let Some(path) = &self.probe {
            input["probe"] = json!({ "path": path });
        }
        if let Some(release) = &self.release {
            input["version"] = release.clone().into();
        }
        if let Some(configuration) = self.configuration()? {
            input["configuration"] = json!(configuration);
        }
        Ok(input)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A fresh key for `what` of `service`.
pub(super) fn fresh_key(what: &str, service: &str) -> Result<SagaKey, Fault> {
    let id = uuid::Uuid::now_v7().simple().to_string();
    let name: String = service.chars().take(32).collect();
    SagaKey::new(format!("{what}-{name}-{}", &id[id.len() - 8..])).map_err(|error| Fault::usage(error.to_string()))
}

/// Starts a deployment and, unless `detach`, follows it to its end.
pub(super) async fn carry_out(key: SagaKey, input: Value, detach: bool, ctx: &Ctx) -> Ended {
    let client = ctx.connect().await?;
    let named = |what: &str| input[what].as_str().map(str::to_owned);
    let waits =
        say_waits(&client, ListServices { environment: named("environment"), service: named("service") }, &key, ctx);
    let definition = parts::DEPLOY_DEFINITION.to_owned();
    let start = Start { definition, version: None, key: Some(key.clone()), input, wait_ms: None };
    follow::carry_out(&client, (&key, &start), detach, waits, render, ctx).await
}

/// What a rollout waits for, when that is a person.
#[derive(PartialEq)]
pub(super) struct Waits {
    pub(super) service: String,
    pub(super) environment: String,
    what: String,
}

impl std::fmt::Display for Waits {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{} waits: {}", self.environment, self.service, self.what)
    }
}

/// What the rollout that `key` carries out waits for, when that is a person.
pub(super) async fn waits(client: &Client, asked: &ListServices, key: &SagaKey) -> Result<Option<Waits>, Error> {
    let listed = client.services(asked).await?;
    Ok(listed.services.into_iter().find_map(|row| {
        let under_way = row.under_way.filter(|under_way| under_way.saga.as_ref() == Some(key))?;
        Some(Waits { service: row.service, environment: row.environment, what: under_way.waits_for? })
    }))
}

/// Says it whenever it changes.
async fn say_waits(client: &Client, asked: ListServices, key: &SagaKey, ctx: &Ctx) -> Infallible {
    let mut said = None;
    loop {
        tokio::time::sleep(LOOK_FOR_WAITS).await;
        let Ok(now) = waits(client, &asked, key).await else { continue };
        if let Some(waits) = now.as_ref().filter(|_| now != said) {
            ctx.out.say(waits);
        }
        said = now;
    }
}

pub(super) async fn run(args: Deploy, ctx: &Ctx) -> Ended {
    let artifact = args.put(ctx)?;
    let input = args.input(&artifact)?;
    let key = match args.key {
        Some(key) => key,
        None => fresh_key("deploy", &args.service)?,
    };
    carry_out(key, input, args.detach, ctx).await
}

/// What runs now, or why it does not.
fn render(view: &SagaView, paint: Paint) -> String {
    let Some(outcome) = &view.outcome else { return debug::render_saga(view, paint) };
    let told = |name: &str| outcome.output.as_ref().and_then(|output| output[name].as_str().map(str::to_owned));
    match (outcome.status, told("version")) {
        (Status::Succeeded, Some(version)) if outcome.output.as_ref().is_some_and(|output| output["replicas"] == 0) => {
            let (service, environment) =
                (told("serviceId").unwrap_or_default(), told("environmentId").unwrap_or_default());
            let scale = format!("skald scale {service} --environment {environment} --replicas N");
            format!(
                "{} {service} {version}, of which nothing runs: it has 0 replicas; {scale}\n",
                paint.good("completed")
            )
        }
        (Status::Succeeded, Some(version)) => {
            let service = told("serviceId").unwrap_or_default();
            let at = told("endpointUrl").map(|url| format!(" at {url}")).unwrap_or_default();
            let what = format!("{service} {version}{at}");
            format!("{} {}\n", paint.good("completed"), what.trim_end())
        }
        (_, _) => debug::render_outcome(outcome, paint),
    }
}
