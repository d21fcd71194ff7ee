//! Drives a target: one input at a time, each under a limit of time and memory.

use std::fs;
use std::io::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Target, mutate, seeds};
use crate::dice::Dice;

/// The longest one input may take.
pub const TIME_MAX: Duration = Duration::from_secs(1);
/// How far one input may raise the highest memory the process ever had. The largest inputs are half
/// a megabyte, and a value in memory is some tens of times its text.
pub const MEMORY_MAX_KIB: u64 = 192 * 1024;

/// An input for which something does not hold.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What does not hold.
    pub why: String,
    /// For which input.
    pub input: Vec<u8>,
}

/// What was tried on one target.
#[derive(Clone, Debug, Default)]
pub struct Tried {
    /// How many inputs.
    pub inputs: u64,
    /// Those for which something does not hold; of equal reasons the first.
    pub failures: Vec<Failure>,
    /// The longest time one took.
    pub slowest: Duration,
}

/// One input.
pub fn one(target: Target, input: &[u8]) -> Result<Duration, String> {
    let (memory, began) = (peak_kib(), Clock::now());
    let caught = panic::catch_unwind(AssertUnwindSafe(|| target(input)));
    let own = began.elapsed();
    caught.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        text.unwrap_or("a panic without words").to_owned()
    })?;
    if own > TIME_MAX {
        return Err(format!("an input took {} ms, the limit is {}", own.as_millis(), TIME_MAX.as_millis()));
    }
    match (memory, peak_kib()) {
        (Some(before), Some(after)) if after > before + MEMORY_MAX_KIB => {
            Err(format!("an input took {} MiB, the limit is {}", (after - before) >> 10, MEMORY_MAX_KIB >> 10))
        }
        _ => Ok(own),
    }
}

/// The seeds of `name`, then mutations of them for `time`. `watch` hears of every input before it is
/// tried, so that one that ends the process is known.
pub fn drive(
    name: &str,
    target: Target,
    time: Duration,
    dice: &mut Dice,
    mut watch: impl FnMut(&Tried, &[u8]),
) -> Tried {
    let seeds = seeds::of(name);
    let mut tried = Tried::default();
    for seed in &seeds {
        watch(&tried, seed);
        tried.take(target, seed.clone());
    }
    let began = Instant::now();
    while began.elapsed() < time {
        let input = mutate::mutate(&seeds, dice);
        watch(&tried, &input);
        tried.take(target, input);
    }
    tried
}

impl Tried {
    fn take(&mut self, target: Target, input: Vec<u8>) {
        self.inputs += 1;
        match one(target, &input) {
            Ok(took) => self.slowest = self.slowest.max(took),
            // Figures differ from one input to the next; the words tell which failures are one.
            Err(why) if self.failures.iter().any(|known| words(&known.why) == words(&why)) => {}
            Err(why) => self.failures.push(Failure { why, input }),
        }
    }
}

fn words(why: &str) -> String {
    why.chars().filter(|c| c.is_alphabetic()).take(40).collect()
}

impl Failure {
    /// Writes the input below `dir`, under its own digest; answers where.
    pub fn save(&self, dir: &Path, target: &str) -> std::io::Result<PathBuf> {
        let dir = dir.join(target);
        fs::create_dir_all(&dir)?;
        let hex: String = self.input.iter().map(|byte| format!("{byte:02x}")).collect();
        let digest = supervisor::machine::definition::digest(&hex);
        let file = dir.join(digest);
        fs::File::create(&file)?.write_all(&self.input)?;
        Ok(file)
    }
}

/// The highest memory of this process so far; `None` where the system does not tell.
fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// On a machine that does something else at the same time, only time of our own counts: a moment on
/// the wall and on the processor.
pub(super) struct Clock(Instant, Option<Duration>);

impl Clock {
    pub fn now() -> Self {
        Self(Instant::now(), busy())
    }

    pub fn elapsed(&self) -> Duration {
        let passed = self.0.elapsed();
        busy().zip(self.1).map_or(passed, |(now, then)| now.saturating_sub(then).min(passed))
    }
}

/// How long this thread was on a processor.
fn busy() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    stat.split_whitespace().next()?.parse().ok().map(Duration::from_nanos)
}
