//! Workers and their runs as text.

use std::fmt::Write as _;

use protocol::query::{Answer, Body};
use protocol::worker::{RunOutcome, RunView, WorkerStatus, WorkerView};

use super::Paint;
use super::views::{clock, moment, table};

/// Workers of all answers, by name. One that two nodes believe to run stands there twice.
pub(crate) fn merge_workers(answers: Vec<Answer>) -> Vec<WorkerView> {
    let mut rows: Vec<WorkerView> = answers
        .into_iter()
        .flat_map(|answer| match answer.body {
            Body::Workers(rows) => rows,
            Body::Actor(_) | Body::Owners(_) | Body::Sagas(_) | Body::Health(_) | Body::Nothing => Vec::new(),
        })
        .collect();
    rows.sort_by_cached_key(|row| (row.kind.clone(), row.environment.clone(), row.node.clone()));
    rows
}

/// A list of workers; one alone with all there is to say.
pub fn render_workers(workers: &[WorkerView], paint: Paint) -> String {
    if let [only] = workers
        && !only.history.is_empty()
    {
        return render_worker(only, paint);
    }
    let rows = workers.iter().map(|worker| {
        let last = worker.last.as_ref();
        let failures = if worker.failures > 0 { paint.bad(&worker.failures.to_string()) } else { "0".into() };
        vec![
            worker.kind.to_string(),
            worker.environment.to_string(),
            status(worker, paint),
            worker.node.clone(),
            last.map_or_else(|| "never".into(), |run| moment(run.began)),
            last.map_or_else(String::new, |run| took(run.took_ms)),
            worker.next.map_or_else(|| "-".into(), clock),
            failures,
            last.map_or_else(String::new, |run| run.saw.clone()),
            last.map_or_else(String::new, |run| what(run, paint)),
        ]
    });
    let titles =
        ["KIND", "ENVIRONMENT", "STATUS", "NODE", "LAST RUN", "TOOK", "NEXT RUN", "FAILED IN A ROW", "SAW", "DID"];
    table(&titles, rows.collect(), paint)
}

fn render_worker(worker: &WorkerView, paint: Paint) -> String {
    let mut text = format!("{}  {}\n", paint.strong(&worker.id().to_string()), status(worker, paint));
    let next = worker.next.map_or_else(|| "by an event, or by hand".into(), moment);
    for (name, value) in [
        ("does", worker.doing.clone().unwrap_or_else(|| "waits".into())),
        ("next run", next),
        ("lives on", format!("node {}, shard {}", worker.node, worker.shard)),
        ("runs", format!("{}, the last {} failed", worker.runs, worker.failures)),
    ] {
        let _ = writeln!(text, "  {}  {value}", paint.dim(&format!("{name:<10}")));
    }
    let _ = writeln!(text, "\n{}", paint.strong("Last runs here, newest first"));
    for run in &worker.history {
        text.push_str(&render_run(run, paint));
    }
    text
}

/// One run.
pub fn render_run(run: &RunView, paint: Paint) -> String {
    let RunView { number, trigger, attempts, .. } = run;
    let attempts = if *attempts > 1 { format!(", {attempts} attempts") } else { String::new() };
    let head = format!("{}  {trigger}, took {}{attempts}", moment(run.began), took(run.took_ms));
    let mut text = format!("{number:>6}  {}  {head}\n", outcome(run.outcome, paint));
    let counts = run.counts.iter().map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ");
    let error = run.error.clone().unwrap_or_default();
    for (name, value) in
        [("saw", &run.saw), ("did", &run.did), ("why", &run.why), ("figures", &counts), ("error", &error)]
    {
        if !value.is_empty() {
            let _ = writeln!(text, "          {}  {value}", paint.dim(&format!("{name:<8}")));
        }
    }
    text
}

/// What a run did and why, in one line.
fn what(run: &RunView, paint: Paint) -> String {
    match &run.error {
        Some(error) => paint.bad(error),
        None if run.why.is_empty() => run.did.clone(),
        None => format!("{}: {}", run.did, run.why),
    }
}

fn status(worker: &WorkerView, paint: Paint) -> String {
    let word = worker.status.word();
    match worker.status {
        WorkerStatus::Idle => paint.good(word),
        WorkerStatus::Running => word.to_owned(),
        WorkerStatus::Loading | WorkerStatus::Retrying | WorkerStatus::Paused => paint.warn(word),
    }
}

fn outcome(outcome: RunOutcome, paint: Paint) -> String {
    match outcome {
        RunOutcome::Changed => paint.good(outcome.word()),
        RunOutcome::Unchanged => paint.dim(outcome.word()),
        RunOutcome::Failed => paint.bad(outcome.word()),
    }
}

fn took(ms: u64) -> String {
    if ms < 10_000 { format!("{ms} ms") } else { format!("{} s", ms / 1_000) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::{Environment, Tenant, Time, TraceId, WorkerKind};

    use super::*;

    fn worker(failures: u32) -> WorkerView {
        let began = Time::from_micros(1_767_268_800_000_000);
        let run = RunView {
            number: 12,
            trigger: "timer".into(),
            began,
            took_ms: 35,
            attempts: 2,
            outcome: if failures > 0 { RunOutcome::Failed } else { RunOutcome::Changed },
            saw: "12 services".into(),
            did: "restarted checkout".into(),
            why: "it was down".into(),
            counts: BTreeMap::from([("services".to_owned(), 12)]),
            error: (failures > 0).then(|| "Transient: too slow".into()),
            trace_id: TraceId::new("t").unwrap(),
        };
        WorkerView {
            kind: WorkerKind::new("health").unwrap(),
            tenant: Tenant::new("acme").unwrap(),
            environment: Environment::new("prod").unwrap(),
            node: "n1".into(),
            shard: 3,
            status: WorkerStatus::Idle,
            doing: None,
            next: Some(began.after(std::time::Duration::from_secs(30))),
            runs: 12,
            failures,
            paused: None,
            last: Some(run.clone()),
            history: vec![run],
        }
    }

    #[test]
    fn a_list_says_what_each_did_and_one_alone_says_all() {
        let list = render_workers(&[worker(0), worker(3)], Paint::Plain);
        let words = ["health", "prod", "n1", "2026-01-01 12:00:00", "35 ms", "12:00:30.000", "12 services"];
        for word in words.iter().chain(&["restarted checkout: it was down", "Transient: too slow"]) {
            assert!(list.contains(word), "{word}:\n{list}");
        }
        let alone = render_workers(&[worker(0)], Paint::Plain);
        for word in ["health/acme/prod  idle", "node n1, shard 3", "timer, took 35 ms, 2 attempts", "services 12"] {
            assert!(alone.contains(word), "{word}:\n{alone}");
        }
    }
}
