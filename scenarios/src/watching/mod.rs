//! Measures the control loops at rest: whether every probe has its turn in every window, and what it
//! costs that nothing happens.

mod crowd;
mod figures;
mod world;

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actors::runtime::workers;
use anyhow::Context;
use axum::Router;
use axum::routing::get;
use protocol::{Environment, Principal, Tenant, TraceId, Value, WorkerId, WorkerKind};
use supervisor::worker::{Run, Why, Worker};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpListener;

pub use figures::Figures;
use world::World;

/// What is to be measured.
pub struct Asked {
    /// Services of one environment.
    pub services: u32,
    /// Replicas of each.
    pub replicas: u32,
    /// Whether each replica is asked over HTTP.
    pub probes: bool,
    /// One kind of worker alone; all when absent.
    pub only: Option<String>,
    /// For how long.
    pub time: Duration,
}

/// Answers `/health` on a free port of loopback, which it prints, until its parent is gone.
pub async fn answer() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    let app = Router::new().route("/health", get(|| async { "well" }));
    let served = axum::serve(listener, app);
    let mut parent = BufReader::new(tokio::io::stdin());
    tokio::select! {
        ended = async { served.await } => Ok(ended?),
        // The parent holds the other end for as long as it lives.
        _ = async { parent.read_line(&mut String::new()).await } => Ok(()),
    }
}

/// Measures.
pub async fn measure(asked: &Asked) -> anyhow::Result<Figures> {
    let mut answers = tokio::process::Command::new(std::env::current_exe()?)
        .arg("--answer")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting whoever answers probes")?;
    let said = answers.stdout.take().context("it says nothing")?;
    let mut port = String::new();
    BufReader::new(said).read_line(&mut port).await?;
    let world = World::build(asked, port.trim().parse().context("the port of whoever answers")?).await?;
    let mut workers = workers::all(&world.ports);
    // Those without a timer do nothing at rest.
    workers.retain(|worker| worker.rhythm().every.is_some());
    // The first run reads what runs; from then on nothing changes.
    for worker in &workers {
        turn(&world, worker, 0).await?;
    }
    workers.retain(|worker| asked.only.as_deref().is_none_or(|only| only == worker.kind()));
    anyhow::ensure!(!workers.is_empty(), "no worker of that kind has a timer");
    world.begin();
    let (begun, before) = (Instant::now(), node::bench::cpu_ms(&[std::process::id()]));
    let loops = workers.iter().map(|worker| rounds(&world, worker, asked.time));
    let counted = futures::future::try_join_all(loops).await?;
    let (took, cpu) = (begun.elapsed(), node::bench::cpu_ms(&[std::process::id()]) - before);
    Ok(Figures {
        services: asked.services,
        replicas: asked.services * asked.replicas,
        seconds: took.as_secs_f64(),
        runs: counted.iter().map(|counted| counted.runs).sum(),
        probes: counted.iter().map(|counted| counted.probes).sum(),
        probes_wanted: counted.iter().map(|counted| counted.health).sum::<u64>()
            * u64::from(if asked.probes { asked.services * asked.replicas } else { 0 }),
        unasked: counted.iter().map(|counted| counted.unasked).sum(),
        changed: counted.iter().map(|counted| counted.changed).sum(),
        longest_run_ms: counted.iter().map(|counted| counted.longest.as_millis() as u64).max().unwrap_or(0),
        late: counted.iter().map(|counted| counted.late).sum(),
        most_at_once: world.crowd.most_at_once(),
        busiest_second: world.crowd.busiest_second(),
        core_percent: cpu / took.as_secs_f64() / 10.0,
        writes: world.writes(),
        events: world.events(),
    })
}

/// What the runs of one worker came to.
#[derive(Default)]
struct Counted {
    runs: u64,
    health: u64,
    probes: u64,
    unasked: u64,
    changed: u64,
    /// Runs that began after their time because the one before had not ended.
    late: u64,
    longest: Duration,
}

/// Runs a worker at its rhythm.
async fn rounds(world: &World, worker: &Arc<dyn Worker>, time: Duration) -> anyhow::Result<Counted> {
    let every = worker.rhythm().every.context("it has a timer")?;
    let mut counted = Counted::default();
    let mut at = tokio::time::Instant::now();
    let end = at + time;
    let mut number = 1;
    while at < end {
        tokio::time::sleep_until(at).await;
        counted.late += u64::from(at.elapsed() > Duration::from_secs(1));
        let begun = Instant::now();
        let report = turn(world, worker, number).await?;
        counted.longest = counted.longest.max(begun.elapsed());
        counted.runs += 1;
        counted.health += u64::from(worker.kind() == "health");
        counted.probes += report.counts.get("probes").copied().unwrap_or(0);
        counted.unasked += report.counts.get("unasked").copied().unwrap_or(0);
        counted.changed += u64::from(report.changed);
        (at, number) = (at + every, number + 1);
    }
    tokio::time::sleep_until(end).await;
    Ok(counted)
}

async fn turn(world: &World, worker: &Arc<dyn Worker>, number: u64) -> anyhow::Result<supervisor::worker::Report> {
    let (tenant, environment) = (Tenant::new(world::TENANT)?, Environment::new(world::ENVIRONMENT)?);
    let id = WorkerId::new(WorkerKind::new(worker.kind())?, tenant, environment);
    let why = match number {
        0 => Why::ByHand(Principal::new("bench")?),
        1.. => Why::Timer,
    };
    let around = (world.ports.clock.clone(), world.ports.outbox.clone());
    let run = Run::alone(id, number, (why, TraceId::new("bench")?), Value::Null, around);
    worker.run(&run).await.map_err(|failure| anyhow::anyhow!("{}: {failure}", worker.kind()))
}
