//! Hostile input for as long as one likes: `cargo fuzzing --minutes 10`, on any toolchain.
//!
//! Every target runs in a process of its own with bounded memory, so that an overflow of the stack or
//! an input without end is a failure like any other: the input under way is always in a file. The
//! inputs are mutations of the seeds from one printed number.

use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use scenarios::dice::Dice;
use scenarios::hostile::run::{self, Failure, Tried};
use scenarios::hostile::{TARGETS, seeds, target};
use serde::{Deserialize, Serialize};

/// How often a worker says how far it is.
const SAY_EVERY: Duration = Duration::from_millis(200);
/// A worker that says nothing for this long has an input without end.
const STUCK: Duration = Duration::from_secs(20);

/// Tries every door with hostile input
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  cargo fuzzing --minutes 10\n  cargo fuzzing --target expression --minutes 5 --json\n  \
    cargo fuzzing --target expression --input FILE    # one input again"
)]
struct Asked {
    /// How long, shared by the targets
    #[arg(long, default_value_t = 2.0)]
    minutes: f64,
    /// Only this target
    #[arg(long, value_parser = TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>())]
    target: Option<String>,
    /// Only this input, once
    #[arg(long, requires = "target")]
    input: Option<PathBuf>,
    /// Where inputs that fail are kept
    #[arg(long, default_value = "target/hostile")]
    keep: PathBuf,
    /// The number that the inputs come from
    #[arg(long)]
    seed: Option<u64>,
    /// The most memory of one worker, in MiB
    #[arg(long, default_value_t = 4_096)]
    memory: u64,
    /// One JSON object for each target instead of text
    #[arg(long)]
    json: bool,
    /// Only write the seeds below this directory, where cargo-fuzz looks for them: fuzz/corpus
    #[arg(long)]
    seeds: Option<PathBuf>,
    /// Works: started by this program itself
    #[arg(long, hide = true)]
    worker: bool,
}

/// What a worker says, and what is said of a target at the end.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Report {
    target: String,
    inputs: u64,
    per_second: f64,
    slowest_ms: u128,
    failures: Vec<Found>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Found {
    why: String,
    file: PathBuf,
}

fn main() -> anyhow::Result<ExitCode> {
    let mut asked = Asked::parse();
    asked.seed.get_or_insert_with(rand_seed);
    if let Some(dir) = &asked.seeds {
        return write_seeds(dir);
    }
    match (&asked.input, &asked.target) {
        (Some(input), Some(name)) => again(name, input),
        _ if asked.worker => work(&asked).map(|()| ExitCode::SUCCESS),
        _ => lead(&asked),
    }
}

fn rand_seed() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since.as_secs() ^ u64::from(since.subsec_nanos())
}

fn write_seeds(dir: &Path) -> anyhow::Result<ExitCode> {
    for (name, _) in TARGETS {
        for input in seeds::of(name) {
            Failure { why: String::new(), input }.save(dir, name)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// One input, with all that is said about it.
fn again(name: &str, input: &Path) -> anyhow::Result<ExitCode> {
    let target = target(name).context("there is no such target")?;
    let bytes = std::fs::read(input).with_context(|| format!("reading {}", input.display()))?;
    println!(
        "{name}: {} bytes: {}",
        bytes.len(),
        String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).escape_debug()
    );
    match run::one(target, &bytes) {
        Ok(took) => println!("holds, in {took:?}"),
        Err(why) => {
            println!("does not hold: {why}");
            return Ok(ExitCode::FAILURE);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// In the worker: drives one target and says how far it is, one line of JSON at a time.
fn work(asked: &Asked) -> anyhow::Result<()> {
    let name = asked.target.as_deref().context("a worker has a target")?;
    let target = target(name).context("there is no such target")?;
    std::panic::set_hook(Box::new(|_| ()));
    let mut dice = Dice::new(asked.seed.unwrap_or_default());
    let (began, mut said) = (Instant::now(), Instant::now());
    let mut out = std::io::stdout();
    let mut say = |tried: &Tried| {
        let failures = tried.failures.iter();
        let failures =
            failures.filter_map(|it| Some(Found { why: it.why.clone(), file: it.save(&asked.keep, name).ok()? }));
        let report = Report {
            target: name.to_owned(),
            inputs: tried.inputs,
            per_second: tried.inputs as f64 / began.elapsed().as_secs_f64().max(0.001),
            slowest_ms: tried.slowest.as_millis(),
            failures: failures.collect(),
        };
        let line = serde_json::to_string(&report).unwrap_or_default();
        // Whoever listens may be gone; then there is nobody to tell.
        let _ = writeln!(out, "{line}").and_then(|()| out.flush());
    };
    let now = under_way(&asked.keep, name);
    let time = Duration::from_secs_f64(asked.minutes * 60.0);
    let tried = run::drive(name, target, time, &mut dice, |tried, input| {
        // The file is what is left of this process when the input ends it.
        let _ = std::fs::write(&now, input);
        if said.elapsed() > SAY_EVERY {
            said = Instant::now();
            say(tried);
        }
    });
    say(&tried);
    std::fs::remove_file(&now).context("the last input")
}

fn under_way(keep: &Path, name: &str) -> PathBuf {
    keep.join(format!("{name}.now"))
}

/// Leads one worker after the other.
fn lead(asked: &Asked) -> anyhow::Result<ExitCode> {
    std::fs::create_dir_all(&asked.keep).with_context(|| format!("making {}", asked.keep.display()))?;
    let names: Vec<&str> = TARGETS
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| asked.target.as_deref().is_none_or(|only| only == *name))
        .collect();
    let each = Duration::from_secs_f64((asked.minutes * 60.0 / names.len() as f64).max(1.0));
    let bar =
        if asked.json || !std::io::stderr().is_terminal() { ProgressBar::hidden() } else { ProgressBar::new(1_000) };
    bar.set_style(ProgressStyle::with_template("{prefix:14} {wide_bar} {percent:>3} %  {msg}")?);
    let seed = asked.seed.unwrap_or_default();
    if !asked.json {
        println!(
            "seed {seed}, {} targets, {each:?} each, inputs that fail are kept in {}",
            names.len(),
            asked.keep.display()
        );
    }
    let mut found = 0;
    for (n, name) in names.iter().enumerate() {
        bar.set_prefix((*name).to_owned());
        let report = one_target(asked, name, each, |report, share| {
            bar.set_position(((n as f64 + share) * 1_000.0 / names.len() as f64) as u64);
            bar.set_message(format!(
                "{:.0}/s, {} inputs, {} failures",
                report.per_second,
                report.inputs,
                report.failures.len()
            ));
        })?;
        found += report.failures.len();
        bar.suspend(|| tell(asked, &report));
    }
    bar.finish_and_clear();
    Ok(if found == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn tell(asked: &Asked, report: &Report) {
    if asked.json {
        println!("{}", serde_json::to_string(report).unwrap_or_default());
        return;
    }
    let Report { target, inputs, per_second, slowest_ms, failures } = report;
    println!(
        "{target:14} {inputs:9} inputs {per_second:8.0}/s  slowest {slowest_ms:4} ms  {} failures",
        failures.len()
    );
    for Found { why, file } in failures {
        println!("  {why}\n    again: cargo fuzzing --target {target} --input {}", file.display());
    }
}

/// Workers on one target until its time is over; a new one takes the place of one that died.
fn one_target(
    asked: &Asked,
    name: &str,
    time: Duration,
    mut watch: impl FnMut(&Report, f64),
) -> anyhow::Result<Report> {
    let began = Instant::now();
    let mut total = Report { target: name.to_owned(), ..Report::default() };
    let mut round = 0;
    while round == 0 || began.elapsed() + Duration::from_secs(1) < time {
        let left = time.saturating_sub(began.elapsed());
        let mut child = worker(asked, name, left, round)?;
        let lines = listen(&mut child)?;
        let mut last = Report::default();
        let stuck = loop {
            match lines.recv_timeout(STUCK) {
                Ok(report) => {
                    last = report;
                    let share = (began.elapsed().as_secs_f64() / time.as_secs_f64()).min(1.0);
                    watch(&Report { inputs: total.inputs + last.inputs, ..last.clone() }, share);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => break true,
                Err(mpsc::RecvTimeoutError::Disconnected) => break false,
            }
        };
        if stuck {
            child.kill().context("ending a worker")?;
        }
        let ended = child.wait().context("waiting for a worker")?;
        total.inputs += last.inputs;
        total.slowest_ms = total.slowest_ms.max(last.slowest_ms);
        let new = last.failures.into_iter().filter(|new| total.failures.iter().all(|known| known.why != new.why));
        total.failures.extend(new.collect::<Vec<_>>());
        if !ended.success() {
            let why = if stuck { format!("no end within {STUCK:?}") } else { format!("the process ended: {ended}") };
            let input = std::fs::read(under_way(&asked.keep, name)).unwrap_or_default();
            let file = Failure { why: why.clone(), input }.save(&asked.keep, name)?;
            total.failures.push(Found { why, file });
        }
        round += 1;
    }
    total.per_second = total.inputs as f64 / began.elapsed().as_secs_f64().max(0.001);
    Ok(total)
}

/// A worker with bounded memory. Standard tools do that, and a system without them goes without.
fn worker(asked: &Asked, name: &str, time: Duration, round: u64) -> anyhow::Result<Child> {
    let this = std::env::current_exe().context("this program")?;
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v \"$1\"; shift; exec \"$@\"", "sh"]).arg((asked.memory << 10).to_string()).arg(this);
    command.args(["--worker", "--target", name]).arg("--keep").arg(&asked.keep);
    command.arg("--minutes").arg((time.as_secs_f64() / 60.0).to_string());
    command.arg("--seed").arg(asked.seed.unwrap_or_default().wrapping_add(round).to_string());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().context("starting a worker")
}

fn listen(child: &mut Child) -> anyhow::Result<mpsc::Receiver<Report>> {
    let out = child.stdout.take().context("a worker's words")?;
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if serde_json::from_str(&line).is_ok_and(|report: Report| tell.send(report).is_err()) {
                return;
            }
        }
    });
    Ok(told)
}
