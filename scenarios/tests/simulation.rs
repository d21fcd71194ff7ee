//! The simulator, as much of it as fits beside the other tests; `cargo sim --seeds 10000` is what a
//! release is held to.

use scenarios::sim::shrink::shrink;
use scenarios::sim::{Plan, run};

/// Seeds that each of the two tests plays: two, so that both cores have their part.
const SEEDS: u64 = 30;

fn quiet() {
    // Activities panic because their story asks for it; the trees above them answer.
    std::panic::set_hook(Box::new(|about| {
        let asked = about.payload().downcast_ref::<&str>().is_some_and(|text| *text == "asked for");
        if !asked {
            eprintln!("{about}");
        }
    }));
}

#[test]
fn nothing_is_lost_doubled_or_left_behind() {
    play(1);
}

#[test]
fn nothing_is_lost_doubled_or_left_behind_by_others() {
    play(1 + SEEDS);
}

fn play(first: u64) {
    quiet();
    for seed in first..first + SEEDS {
        let outcome = run(&Plan::new(seed));
        if outcome.verdict.violations.is_empty() {
            continue;
        }
        let small = shrink(outcome);
        let told = small.story.iter().chain(&small.account).map(String::as_str).collect::<Vec<_>>().join("\n");
        panic!("seed {seed}: {:#?}\n{told}\nsee it whole: cargo sim --seed {seed}", small.verdict.violations);
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    quiet();
    for seed in 1_000..1_010 {
        let plan = Plan::new(seed);
        assert_eq!(run(&plan).digest, run(&plan).digest, "seed {seed}");
    }
}

#[cfg(feature = "simulation")]
#[test]
fn every_planted_bug_is_found() {
    quiet();
    for bug in supervisor::simulation::BUGS {
        let found = scenarios::sim::run::find_planted(bug, 1, 300);
        let (seeds, violation) = found.unwrap_or_else(|| panic!("{bug:?} was not found within 300 seeds"));
        println!("{bug:?}: found after {seeds} seeds: {violation}");
    }
}
