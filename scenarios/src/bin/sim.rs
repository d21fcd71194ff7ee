//! `cargo sim`: plays many seeds of the deterministic simulator and says what broke.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use scenarios::sim::run::Sum;
use scenarios::sim::shrink::shrink;
use scenarios::sim::{Outcome, Plan, run};

/// Plays the engine (its actors, journal, placement and takeover) on a simulated network, disk and
/// clock, one seed after another, and checks after each that nothing was lost, doubled or left behind.
#[derive(Parser, Debug)]
#[command(
    name = "sim",
    max_term_width = 100,
    after_help = "\
Examples:
  cargo sim --seeds 10000          what a release is held to
  cargo sim --seed 4711            one seed, told from beginning to end
  RUST_LOG=supervisor=debug cargo sim --seed 4711
                                   and with what the engine says on its way
  cargo sim --seeds 500 --json     for scripts

Exit codes: 0 nothing broke · 1 something did: the smallest account of the first seed is printed"
)]
struct Args {
    /// How many seeds.
    #[arg(long, default_value_t = 1_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Only this one, told from beginning to end.
    #[arg(long, conflicts_with_all = ["seeds", "from"])]
    seed: Option<u64>,
    /// How many at once; as many as the machine has cores unless set.
    #[arg(long)]
    threads: Option<usize>,
    /// Answer with one JSON document on standard output.
    #[arg(long)]
    json: bool,
    /// Go on after a seed that broke something.
    #[arg(long)]
    keep_going: bool,
    /// Plant each known bug in the engine and say how many seeds it takes until it is found.
    #[cfg(feature = "simulation")]
    #[arg(long)]
    planted: bool,
    /// Play each seed twice and compare: the same seed must be the same run.
    #[arg(long)]
    twice: bool,
}

fn main() -> ExitCode {
    // Activities panic because their story asks for it; the trees above them answer.
    std::panic::set_hook(Box::new(|_| {}));
    let args = Args::parse();
    #[cfg(feature = "simulation")]
    if args.planted {
        return planted(&args);
    }
    match args.seed {
        Some(seed) => one(seed, &args),
        None => many(&args),
    }
}

/// Plants one bug after another; each must be found.
#[cfg(feature = "simulation")]
fn planted(args: &Args) -> ExitCode {
    let mut missed = false;
    for bug in supervisor::simulation::BUGS {
        let found = scenarios::sim::run::find_planted(bug, args.from, args.seeds);
        match &found {
            Some((seeds, violation)) => println!("{bug:?}: found after {seeds} seeds: {violation}"),
            None => println!("{bug:?}: NOT FOUND within {} seeds", args.seeds),
        }
        missed |= found.is_none();
    }
    if missed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn one(seed: u64, args: &Args) -> ExitCode {
    // What the engine says on its way, if `RUST_LOG` asks for it; the clock on the wall means nothing here.
    if std::env::var_os("RUST_LOG").is_some() {
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).without_time().init();
    }
    let outcome = run(&Plan::new(seed));
    tell(&outcome, args);
    println!("digest {:016x}", outcome.digest);
    if outcome.verdict.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn tell(outcome: &Outcome, args: &Args) {
    if args.json {
        return;
    }
    let plan = &outcome.plan;
    println!(
        "seed {}: {} nodes, {} shards, {} definitions, {} sagas, {:?}{}",
        plan.seed,
        plan.nodes,
        plan.shards,
        plan.definitions,
        plan.sagas,
        plan.weather,
        if plan.skewed { ", clocks are wrong" } else { "" },
    );
    for line in &outcome.story {
        println!("{line}");
    }
    for line in &outcome.account {
        println!("  {line}");
    }
    for violation in &outcome.verdict.violations {
        println!("BROKEN {violation}");
    }
    println!(
        "{} sagas in {} frames, {} lines in the ledger, {} appends fenced, {} late effects refused, {} stuck",
        outcome.sagas,
        outcome.records,
        outcome.attempts,
        outcome.fenced,
        outcome.refused_late,
        outcome.verdict.stuck.len(),
    );
}

fn many(args: &Args) -> ExitCode {
    let began = Instant::now();
    let bar = if args.json { ProgressBar::hidden() } else { ProgressBar::new(args.seeds) };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} seeds, {per_sec}, {eta} to go  {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(200));
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    let (next, stop) = (AtomicU64::new(args.from), AtomicBool::new(false));
    let (sum, broken) = (Mutex::new(Sum::default()), Mutex::new(Vec::<Outcome>::new()));
    let end = args.from + args.seeds;
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Relaxed) {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run(&Plan::new(seed));
                    if args.twice && run(&Plan::new(seed)).digest != outcome.digest {
                        bar.suspend(|| eprintln!("seed {seed} is not the same run twice"));
                        stop.store(true, Relaxed);
                    }
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome);
                    bar.inc(1);
                    if !outcome.verdict.violations.is_empty() {
                        bar.suspend(|| eprintln!("seed {seed} breaks: {}", outcome.verdict.violations[0]));
                        stop.fetch_or(!args.keep_going, Relaxed);
                        broken.lock().unwrap_or_else(PoisonError::into_inner).push(outcome);
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    let sum = sum.into_inner().unwrap_or_else(PoisonError::into_inner);
    let mut broken = broken.into_inner().unwrap_or_else(PoisonError::into_inner);
    broken.sort_by_key(|outcome| outcome.plan.seed);
    report(args, &sum, &broken, began.elapsed());
    let Some(first) = broken.into_iter().next() else { return ExitCode::SUCCESS };
    if !args.json {
        println!("\nmaking seed {} small …", first.plan.seed);
    }
    tell(&shrink(first), args);
    ExitCode::FAILURE
}

fn report(args: &Args, sum: &Sum, broken: &[Outcome], took: Duration) {
    if args.json {
        let violations: Vec<_> = broken
            .iter()
            .flat_map(|outcome| outcome.verdict.violations.iter().map(move |violation| (outcome.plan.seed, violation)))
            .map(|(seed, violation)| serde_json::json!({ "seed": seed, "violation": violation.to_string() }))
            .collect();
        let kinds: serde_json::Map<_, _> =
            sum.kinds.iter().map(|(kind, count)| (format!("{kind:?}"), serde_json::json!(count))).collect();
        let document = serde_json::json!({
            "seeds": sum.seeds, "seconds": took.as_secs_f64(), "sagas": sum.sagas, "frames": sum.records,
            "ledgerLines": sum.attempts, "faults": kinds, "fenced": sum.fenced, "lateEffectsRefused": sum.refused_late,
            "stuck": sum.stuck, "looked": sum.looked, "violations": violations,
        });
        println!("{document:#}");
        return;
    }
    println!(
        "{} seeds in {took:.1?}: {} sagas, {} frames, {} ledger lines",
        sum.seeds, sum.sagas, sum.records, sum.attempts
    );
    let kinds: Vec<String> = sum.kinds.iter().map(|(kind, count)| format!("{count} {kind:?}")).collect();
    println!("{} faults: {}", sum.faults, kinds.join(", "));
    println!("{} appends fenced, {} late effects refused, {} sagas stuck", sum.fenced, sum.refused_late, sum.stuck);
    for (invariant, count) in &sum.looked {
        let wrong = broken.iter().flat_map(|outcome| &outcome.verdict.violations);
        let wrong = wrong.filter(|violation| violation.invariant == *invariant).count();
        println!("  {invariant:<36} {count:>9} looked at, {wrong} broken");
    }
}
