//! Texts of definitions that are built to cost: each is read, or refused, in time.

use std::time::Duration;

use crate::busy::Busy;
use supervisor::machine::Definition;
use supervisor::machine::definition::fault::FAULTS_MAX;

/// Of a processor, unoptimised. What is quadratic in these takes minutes.
const IN_TIME: Duration = Duration::from_secs(5);

fn refused(text: &str) -> String {
    let began = Busy::now();
    let said = Definition::parse(text, "f.yaml").expect_err("it is refused").to_string();
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
    assert!(said.len() < 256 * 1024, "{} bytes of faults", said.len());
    said
}

#[test]
fn many_keys_are_told_apart_in_time() {
    let wide: String = (0..60_000).map(|n| format!("k{n}: 1\n")).collect();
    assert_eq!(refused(&wide).lines().count(), FAULTS_MAX + 1);
}

#[test]
fn text_that_aliases_repeat_counts_as_if_it_were_written() {
    let text = "x".repeat(60_000);
    let repeated = format!("name: t\na: &a \"{text}\"\nb: [{}]\n", vec!["*a"; 40_000].join(","));
    assert!(refused(&repeated).contains("use fewer aliases"));
}

#[test]
fn anchors_inside_anchors_are_not_kept_again_and_again() {
    let nested: String = (0..100).map(|n| format!("[&n{n} ")).collect();
    let text = format!("name: n\na: {nested}[{}1]{}\n", "1,".repeat(50_000), "]".repeat(100));
    assert!(refused(&text).contains("use fewer aliases"), "each anchor keeps all that is in it");
}

#[test]
fn wrong_targets_are_looked_for_in_time() {
    let rules: String = (0..10_000).map(|n| format!("        - {{ Condition: true, Next: Nowhere{n} }}\n")).collect();
    let states: String = (0..900).map(|n| format!("    Somewhere{n}: {{ Type: Succeed }}\n")).collect();
    let text = format!(
        "name: w\ndefinition:\n  StartAt: C\n  States:\n    C:\n      Type: Choice\n      Choices:\n{rules}{states}"
    );
    assert!(refused(&text).contains("there is no state"));
}

#[test]
fn a_long_chain_of_states_is_checked_in_time() {
    let states: String = (0..999).map(|n| format!("    S{n}: {{ Type: Pass, Next: S{} }}\n", n + 1)).collect();
    let text = format!("name: long\ndefinition:\n  StartAt: S0\n  States:\n{states}    S999: {{ Type: Succeed }}\n");
    let began = Busy::now();
    Definition::parse(&text, "f.yaml").expect("it is right");
    assert!(began.elapsed() < IN_TIME, "{:?}", began.elapsed());
}

#[test]
fn wrong_expressions_are_explained_in_time() {
    let wrong = format!("{}+", "(1+2)*".repeat(300));
    let tasks: String =
        (0..300).map(|n| format!("    S{n}: {{ Type: Pass, Output: '{{% {wrong} %}}', End: true }}\n")).collect();
    let text = format!("name: e\ndefinition:\n  StartAt: S0\n  States:\n{tasks}");
    assert!(refused(&text).contains("does not parse"));
}
