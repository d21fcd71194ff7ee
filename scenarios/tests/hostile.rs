//! Every door under hostile input: handwritten seeds and seeded mutations of them, each within a
//! second and within memory. `SKALD_FUZZ_SECONDS` tries each target for longer, `SKALD_FUZZ_TARGET`
//! names one; `cargo fuzzing` does this at leisure.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use scenarios::dice::Dice;
use scenarios::hostile::{TARGETS, run};

/// How long each target is tried unless told otherwise, besides its seeds.
const SECONDS: f64 = 0.25;
/// An input that takes this long has no end: the process is given up, and says which it was.
const STUCK: Duration = Duration::from_secs(20);

#[test]
fn every_door_stands_against_hostile_input() {
    let set = |name: &str| std::env::var(name).ok();
    let seconds = set("SKALD_FUZZ_SECONDS").and_then(|text| text.parse().ok()).unwrap_or(SECONDS);
    let only = set("SKALD_FUZZ_TARGET");
    let mut dice = Dice::from_environment();
    let now = Arc::new(Mutex::new((String::new(), Vec::new(), Instant::now())));
    guard(now.clone());
    let mut wrong = Vec::new();
    for (name, target) in TARGETS.iter().filter(|(name, _)| only.as_deref().is_none_or(|only| only == *name)) {
        let tried = run::drive(name, *target, Duration::from_secs_f64(seconds), &mut dice, |_, input| {
            *now.lock().unwrap_or_else(PoisonError::into_inner) = ((*name).to_owned(), input.to_vec(), Instant::now());
        });
        println!("{name:14} {:7} inputs, slowest {:4} ms", tried.inputs, tried.slowest.as_millis());
        for failure in &tried.failures {
            let file = failure.save(&std::env::temp_dir().join("skald-hostile"), name).expect("a failure is kept");
            wrong.push(format!("{name}: {}\n  cargo fuzzing --target {name} --input {}", failure.why, file.display()));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Ends the process when one input has no end.
fn guard(now: Arc<Mutex<(String, Vec<u8>, Instant)>>) {
    std::thread::spawn(move || {
        loop {
            std::thread::sleep(Duration::from_millis(500));
            let (name, input, since) = &*now.lock().unwrap_or_else(PoisonError::into_inner);
            if since.elapsed() > STUCK && !name.is_empty() {
                let failure = run::Failure { why: "it has no end".into(), input: input.clone() };
                let file = failure.save(&std::env::temp_dir().join("skald-hostile"), name);
                eprintln!("{name}: an input has no end, kept in {file:?}");
                std::process::abort();
            }
        }
    });
}
