use clap::CommandFactory as _;

use super::*;

/// Every command with its path, below the top.
fn commands() -> Vec<(String, clap::Command)> {
    fn walk(path: &str, command: &clap::Command, into: &mut Vec<(String, clap::Command)>) {
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let path = format!("{path} {}", sub.get_name());
            into.push((path.clone(), sub.clone()));
            walk(&path, sub, into);
        }
    }
    let mut all = Vec::new();
    let mut root = Cli::command();
    root.build();
    walk("skald", &root, &mut all);
    all
}

#[test]
fn the_arguments_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_says_what_it_is_for_shows_an_example_and_what_comes_next() {
    for (path, mut command) in commands() {
        let help = command.render_long_help().to_string();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.split(' ').count() >= 3, "{path} does not say what it is for: {about:?}");
        assert!(help.contains("Next"), "{path} does not say what comes next:\n{help}");
        if command.get_subcommands().next().is_none() || command.get_after_help().is_some() {
            let example = path.split(' ').take(2).collect::<Vec<_>>().join(" ");
            assert!(help.contains(&format!("  {example}")), "{path} shows no example:\n{help}");
        }
    }
}

#[test]
fn the_examples_can_be_typed() {
    for (path, command) in commands() {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in help.lines().filter(|line| line.starts_with("  skald ")) {
            let line = line.split(['|', '&', '>']).next().unwrap_or_default();
            // Quoted words of the examples hold no separators that matter here but blanks.
            let words = split(line.trim());
            if let Err(error) = Cli::command().try_get_matches_from(&words) {
                panic!("the example of {path} is refused: {line}\n{error}");
            }
        }
    }
}

/// Words as a shell would make them of single quotes and blanks.
fn split(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quoted) = (Vec::new(), String::new(), false);
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            ' ' if !quoted => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            other => word.push(other),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

#[test]
fn the_first_help_names_every_command_and_the_exit_codes() {
    let help = Cli::command().render_long_help().to_string();
    for name in [
        "demo",
        "up",
        "node",
        "catalog",
        "install",
        "environment",
        "artifact",
        "deploy",
        "rollback",
        "services",
        "scale",
        "config",
        "secret",
        "drift",
        "incident",
        "start",
        "signal",
        "cancel",
        "list",
        "show",
        "history",
        "wait",
        "release",
        "decide",
        "tree",
        "workers",
        "definition",
        "events",
        "bench",
        "nats",
        "doctor",
        "completions",
    ] {
        assert!(help.contains(&format!("\n  {name} ")), "{name} is missing:\n{help}");
    }
    assert!(help.contains("Exit codes:"), "{help}");
}

#[test]
fn a_fault_says_what_why_and_what_to_do() {
    let fault = Fault::new("node n1 ended").why("the disk is full\nno space left").mend("make room");
    let text = fault.text(str::to_owned, str::to_owned);
    assert_eq!(text, "error: node n1 ended\n  why: the disk is full\n       no space left\n  do:  make room\n");
    assert_eq!(fault.json()["error"]["mend"], "make room");
}

#[test]
fn exit_codes_tell_apart_what_scripts_tell_apart() {
    let problem = protocol::Problem::new(protocol::Code::NotFound, "gone");
    assert_eq!(Fault::from(problem).exit, 1);
    let nobody = crate::client::Error::NoNode { what: "saga.start".into(), server: "nats://x".into() };
    let fault = Fault::from(nobody);
    assert_eq!((fault.exit, fault.code.as_str()), (3, "unreachable"));
    assert!(fault.mend.unwrap().contains("skald up"));
    assert_eq!(Fault::from(crate::config::Fault::Unusable(vec!["x".into()])).exit, 2);
}
