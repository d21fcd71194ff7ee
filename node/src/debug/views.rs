//! Sagas, histories, owners and health as text.

use std::fmt::Write as _;

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use protocol::Time;
use protocol::query::{Answer, Body};
use protocol::view::{History, Outcome, SagaRow, SagaView};

use super::Paint;
use crate::terminal::cell;

/// A table without lines, as wide as its content; `None` for the width means no wrapping.
pub fn table(header: &[&str], rows: Vec<Vec<String>>, paint: Paint) -> String {
    let mut table = Table::new();
    table.load_preset(NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(header.iter().map(|title| paint.dim(title)));
    for row in rows {
        table.add_row(row.iter().map(|text| cell(text)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    let mut text: String = table.lines().map(|line| line.trim_end().to_owned() + "\n").collect();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// A moment to the second, in UTC: `2026-01-01 12:00:03`.
pub fn moment(at: Time) -> String {
    let text = at.to_string();
    text.get(..19).map_or(text.clone(), |short| short.replace('T', " "))
}

/// A moment of the day to the millisecond: `12:00:03.250`.
pub fn clock(at: Time) -> String {
    let text = at.to_string();
    let Some((_, time)) = text.split_once('T') else { return text };
    let time = time.trim_end_matches('Z');
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<3.3}")
}

/// One saga: where it stands, why it waits, what would be undone, how it ended.
pub fn render_saga(view: &SagaView, paint: Paint) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{}  {}", paint.strong(&view.saga), paint.status(view.status));
    let awake = if view.awake { "awake" } else { "asleep" };
    for (name, value) in [
        ("definition", view.definition.clone()),
        ("state", view.state.clone()),
        ("started", format!("{} by {}", moment(view.started_at), view.started_by)),
        ("changed", moment(view.changed_at)),
        ("lives on", format!("node {}, shard {}, {awake}", view.node, view.shard)),
        ("journal", format!("{} records", view.records)),
        ("trace", view.trace_id.to_string()),
    ] {
        let _ = writeln!(text, "  {}  {value}", paint.dim(&format!("{name:<10}")));
    }
    if !view.waiting.is_empty() {
        let _ = writeln!(text, "\n{}", paint.strong("Waits for"));
    }
    for reason in &view.waiting {
        let until = reason.until.map(|until| format!(", until {}", moment(until))).unwrap_or_default();
        let step = reason.step.map(|step| format!(" (step {step})")).unwrap_or_default();
        let since = moment(reason.since);
        let _ = writeln!(text, "  {}: {}{step}", reason.state, reason.what);
        let _ = writeln!(text, "    {}", paint.dim(&format!("{}, since {since}{until}", reason.kind)));
        if let Some(error) = &reason.last_error {
            let _ = writeln!(text, "    {} {error}", paint.warn("last error:"));
        }
    }
    if !view.signals.is_empty() {
        let _ = writeln!(text, "\n{}", paint.strong("Signals that came before anything waits for them"));
    }
    for signal in &view.signals {
        let since = signal.since.map(|since| format!(", since {}", moment(since))).unwrap_or_default();
        let payload = signal.payload.as_ref().map(|payload| format!("  {payload}")).unwrap_or_default();
        let _ = writeln!(text, "  {}{payload}", signal.name);
        let _ = writeln!(text, "    {}", paint.dim(&format!("{} bytes{since}", signal.bytes)));
    }
    if !view.compensations.is_empty() {
        let _ = writeln!(text, "\n{}", paint.strong("Would be undone, first to last"));
        for undo in &view.compensations {
            let _ = writeln!(text, "  {undo}");
        }
    }
    if let Some(outcome) = &view.outcome {
        let _ = writeln!(text, "\n{}", paint.strong("Outcome"));
        text.push_str(&render_outcome(outcome, paint));
    }
    text
}

/// How a saga ended.
pub fn render_outcome(outcome: &Outcome, paint: Paint) -> String {
    let mut text = format!("  {} in {}\n", paint.status(outcome.status), outcome.state);
    if let Some(error) = &outcome.error {
        let _ = writeln!(text, "  {} {error}", paint.bad("error:"));
    }
    if let Some(cause) = &outcome.cause {
        for line in cause.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    if let Some(output) = &outcome.output {
        let pretty = serde_json::to_string_pretty(output).unwrap_or_default();
        for line in pretty.lines() {
            let _ = writeln!(text, "  {line}");
        }
    }
    text
}

/// A history: what came in, and below it what followed.
pub fn render_history(history: &History, paint: Paint) -> String {
    let mut text = format!("{}\n", paint.strong(&history.saga.to_string()));
    if history.cut {
        let _ = writeln!(text, "{}", paint.warn("the oldest records are no longer kept"));
    }
    let mut day = String::new();
    for entry in &history.entries {
        let stamp = moment(entry.at);
        let today = stamp.split(' ').next().unwrap_or_default();
        if today != day {
            let _ = writeln!(text, "\n{}", paint.dim(today));
            today.clone_into(&mut day);
        }
        let position = paint.dim(&format!("@{}", entry.position));
        let _ = writeln!(text, "{:>4}  {}  {}  {position}", entry.number, clock(entry.at), entry.fact);
        for line in &entry.settled {
            let _ = writeln!(text, "{:>20}{} {line}", "", paint.dim("→"));
        }
    }
    text
}

/// A list of sagas.
pub fn render_rows(rows: &[SagaRow], paint: Paint) -> String {
    let cells = rows.iter().map(|row| {
        let changed = moment(row.changed_at);
        let status = paint.status(row.status);
        vec![row.saga.clone(), row.definition.clone(), status, row.state.clone(), changed, row.node.clone()]
    });
    table(&["SAGA", "DEFINITION", "STATUS", "STATE", "CHANGED", "NODE"], cells.collect(), paint)
}

/// Which node owns which shard, and how far each is.
pub fn render_owners(answers: &[Answer], paint: Paint) -> String {
    let mut shards: Vec<_> = answers
        .iter()
        .filter_map(|answer| match &answer.body {
            Body::Owners(shards) => Some(shards.iter().map(move |shard| (shard, &answer.node))),
            Body::Actor(_) | Body::Sagas(_) | Body::Workers(_) | Body::Health(_) | Body::Nothing => None,
        })
        .flatten()
        .collect();
    shards.sort_by_key(|(shard, _)| shard.shard);
    let rows = shards.into_iter().map(|(shard, node)| {
        let state = if shard.state == "owned" { paint.good("owned") } else { paint.warn(&shard.state) };
        let per_frame = if shard.frames == 0 { 0.0 } else { shard.records as f64 / shard.frames as f64 };
        vec![
            shard.shard.to_string(),
            node.to_string(),
            state,
            shard.epoch.to_string(),
            shard.position.to_string(),
            shard.low_water.to_string(),
            shard.position.saturating_sub(shard.relayed).to_string(),
            shard.awake.to_string(),
            shard.asleep.to_string(),
            format!("{per_frame:.1}"),
        ]
    });
    let header =
        ["SHARD", "NODE", "STATE", "EPOCH", "POSITION", "LOW WATER", "UNRELAYED", "AWAKE", "ASLEEP", "RECORDS/FRAME"];
    table(&header, rows.collect(), paint)
}

/// How each node is.
pub fn render_health(answers: &[Answer], paint: Paint) -> String {
    let mut text = String::new();
    for answer in answers {
        let Body::Health(health) = &answer.body else { continue };
        let ready = if health.ready { paint.good("ready") } else { paint.bad("not ready") };
        let _ = writeln!(text, "{}  {ready}", paint.strong(&answer.node.to_string()));
        let shards: Vec<_> = health.shards.iter().map(u16::to_string).collect();
        for (name, value) in [
            ("version", health.version.clone()),
            ("server", format!("{}, sync {}, {} replicas", health.server, health.sync, health.replicas)),
            ("members", health.members.join(", ")),
            ("shards", shards.join(" ")),
            ("since", moment(health.since)),
        ] {
            let _ = writeln!(text, "  {}  {value}", paint.dim(&format!("{name:<8}")));
        }
        for warning in health.happened.iter().chain(&health.warnings) {
            let _ = writeln!(text, "  {}", paint.warn(warning));
        }
        for trouble in &health.troubles {
            let _ = writeln!(text, "  {} {trouble}", paint.warn("trouble:"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> History {
        serde_json::from_value(serde_json::json!({
            "saga": {"tenant": "acme", "key": "install-7"},
            "entries": [
                {"number": 1, "position": 12, "at": "2026-01-01T12:00:00.5Z", "fact": "started by ann",
                 "settled": ["entered Evaluating", "published InstallationRequested"]},
                {"number": 2, "position": 13, "at": "2026-01-02T00:00:00Z", "fact": "step Evaluating succeeded",
                 "settled": []}
            ]
        }))
        .unwrap()
    }

    #[test]
    fn a_table_in_colour_stands_like_the_plain_one() {
        let rows =
            |paint: Paint| vec![vec![paint.strong("acme/one"), "order".into()], vec!["b".into(), paint.good("x")]];
        let plain = table(&["SAGA", "DEFINITION"], rows(Paint::Plain), Paint::Plain);
        let coloured = table(&["SAGA", "DEFINITION"], rows(Paint::Colours), Paint::Colours);
        assert!(coloured.contains('\u{1b}'), "{coloured:?}");
        let mut bare = String::new();
        let mut rest = coloured.as_str();
        while let Some((before, after)) = rest.split_once('\u{1b}') {
            bare.push_str(before);
            rest = after.split_once('m').map_or("", |(_, after)| after);
        }
        bare.push_str(rest);
        let trimmed = |text: &str| text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
        assert_eq!(trimmed(&bare), trimmed(&plain));
    }

    #[test]
    fn a_history_reads_from_top_to_bottom() {
        let expected = "\
acme/install-7

2026-01-01
   1  12:00:00.500  started by ann  @12
                    → entered Evaluating
                    → published InstallationRequested

2026-01-02
   2  00:00:00.000  step Evaluating succeeded  @13
";
        let text = render_history(&history(), Paint::Plain);
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn a_saga_says_why_it_waits_and_what_would_be_undone() {
        let view: SagaView = serde_json::from_value(serde_json::json!({
            "saga": "acme/install-7", "definition": "installation v1", "status": "waiting", "state": "Approve",
            "startedBy": "ann", "startedAt": "2026-01-01T12:00:00Z", "changedAt": "2026-01-01T12:00:01Z",
            "records": 3, "traceId": "t1", "node": "n1", "shard": 4, "awake": true,
            "waiting": [{"state": "Approve", "what": "a person decides", "kind": "task", "step": 5,
                         "since": "2026-01-01T12:00:01Z", "until": "2026-01-02T12:00:01Z", "lastError": "slow"}],
            "compensations": ["LicenseCheck by license.release"],
            "signals": [{"name": "paid", "since": "2026-01-01T12:00:05Z", "bytes": 9, "payload": {"sum": 3}},
                        {"name": "paid", "bytes": 2000}]
        }))
        .unwrap();
        let text = render_saga(&view, Paint::Plain);
        for part in [
            "acme/install-7  waiting",
            "  lives on    node n1, shard 4, awake",
            "  Approve: a person decides (step 5)",
            "    task, since 2026-01-01 12:00:01, until 2026-01-02 12:00:01",
            "    last error: slow",
            "  LicenseCheck by license.release",
            "  paid  {\"sum\":3}",
            "    9 bytes, since 2026-01-01 12:00:05",
            "    2000 bytes",
        ] {
            assert!(text.lines().any(|line| line == part), "{part:?} in\n{text}");
        }
    }

    #[test]
    fn an_empty_table_still_names_its_columns() {
        assert!(render_rows(&[], Paint::Plain).starts_with("SAGA"));
    }
}
