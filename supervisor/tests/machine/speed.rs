//! What a saga costs the machine: `cargo test --release -p skald-supervisor --test machine speed -- --ignored --nocapture`

use std::sync::Arc;
use std::time::Instant;

use crate::common::*;
use serde_json::json;
use supervisor::machine::{Driver, Effect, Fact, FactKind, Offer};

fn five(task: &str) -> String {
    let mut text = String::from("name: five\ndefinition:\n  StartAt: S1\n  States:\n");
    for n in 1..=5 {
        let next = if n == 5 { "End: true".to_owned() } else { format!("Next: S{}", n + 1) };
        text.push_str(&format!("    S{n}: {{ Type: Task, Resource: 'activity:a{n}', {task} {next} }}\n"));
    }
    text
}

#[test]
#[ignore = "a measurement, of use in release only"]
fn a_saga_of_five_tasks() {
    for (name, task) in [
        ("plain", "Compensate: none,"),
        ("with undo", "Compensate: { Resource: 'activity:u' },"),
        (
            "with paths",
            "Compensate: { Resource: 'activity:u' }, Arguments: { id: '{% $states.input.id %}' }, Output: '{% $states.result %}',",
        ),
        (
            "with a query",
            "Compensate: none, Arguments: { id: \"{% $states.input.id & '-x' %}\" }, Output: { id: 'a' },",
        ),
    ] {
        let definition = define(&five(task));
        let rounds = 20_000u32;
        let (mut bytes, mut spent) = (0, std::time::Duration::ZERO);
        for round in 0..rounds {
            let begun = Instant::now();
            let mut driver = Driver::new(saga(), Arc::clone(&definition));
            let mut next = Some(start(&definition, json!({ "id": "asset-1", "target": "project-9", "n": 3 })));
            let (mut at, mut records) = (0, Vec::with_capacity(6));
            while let Some(kind) = next.take() {
                at += 1;
                let Offer::Recorded(record) = driver.offer(Fact { at: protocol::Time::from_micros(at), seed: 7, kind })
                else {
                    panic!("refused")
                };
                records.push(record);
                for effect in driver.confirm(u64::try_from(at).unwrap()) {
                    if let Effect::StartActivity(call) = effect {
                        let output = json!({ "id": "asset-1", "done": true });
                        next = Some(FactKind::StepSucceeded { attempt: call.attempt, output });
                    }
                }
            }
            spent += begun.elapsed();
            assert!(driver.execution().is_final());
            if round == 0 {
                bytes = records.iter().map(|record| protocol::codec::store(record).len()).sum::<usize>();
            }
        }
        println!(
            "{name}: {:.1} us per saga, {bytes} bytes in 6 records",
            spent.as_secs_f64() * 1e6 / f64::from(rounds)
        );
    }
}
