//! What a run says in the end: a table for a person, one document for a program.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Value, json};

use super::kinds::Kind;
use super::progress::quantile;
use super::strict::Figures;

/// Lines of one list that are printed; all of them are in the directory that is kept.
const SHOWN: usize = 40;

/// One kind of fault.
pub struct Row {
    /// Which.
    pub kind: Kind,
    /// How often it was made.
    pub made: usize,
    /// Times to first progress, sorted.
    pub times: Vec<Duration>,
    /// Why it cannot be made here.
    pub lacks: Option<String>,
}

/// All of it.
pub struct Report {
    /// Where the choices came from.
    pub seed: u64,
    /// Servers.
    pub servers: usize,
    /// How long all of it took.
    pub seconds: u64,
    /// Sagas in the journal, children and those of strict clients included.
    pub sagas: u64,
    /// Sagas of the load.
    pub planned: usize,
    /// Commands that were acknowledged.
    pub acknowledged: usize,
    /// Records in the journal.
    pub records: usize,
    /// Frames in the journal.
    pub frames: usize,
    /// Events in the stream.
    pub events: usize,
    /// Lines in the ledger: attempts and effects.
    pub effects: usize,
    /// Faults, where every restart of a roll and every step of a clock counts.
    pub single_faults: usize,
    /// Kinds of faults.
    pub rows: Vec<Row>,
    /// Acknowledged commands that are not in the journal.
    pub lost: usize,
    /// Effects that happened twice.
    pub doubled: usize,
    /// Events that are in the stream twice.
    pub events_doubled: usize,
    /// Sagas that are stuck, each with its reason.
    pub stuck: Vec<String>,
    /// Writes of former owners that were refused.
    pub fenced: u64,
    /// The longest time that one start took.
    pub slowest: Duration,
    /// What a strict client saw while nodes restarted in turn.
    pub nodes_rolled: Figures,
    /// The same while servers did.
    pub servers_rolled: Figures,
    /// Nodes and servers that ended by themselves.
    pub gave_up: Vec<String>,
    /// How often each invariant was looked at.
    pub looked: BTreeMap<&'static str, u64>,
    /// Everything that is wrong, in sentences.
    pub wrong: Vec<String>,
    /// Where the logs are, when they are kept.
    pub kept: Option<PathBuf>,
}

fn ms(time: Option<Duration>) -> String {
    time.map_or_else(|| "-".into(), |time| format!("{}", time.as_millis()))
}

fn rolled(figures: &Figures) -> Value {
    json!({
        "commands": figures.took.len() + figures.failed.len(),
        "failed": figures.failed.len(),
        "p50Ms": quantile(&figures.took, 0.5).map(|time| time.as_millis()),
        "p99Ms": quantile(&figures.took, 0.99).map(|time| time.as_millis()),
        "firstFailures": figures.failed.iter().take(SHOWN).collect::<Vec<_>>(),
    })
}

impl Report {
    /// One document.
    pub fn to_json(&self) -> Value {
        let faults = self.rows.iter().map(|row| {
            json!({
                "kind": row.kind.word(), "made": row.made, "notTried": row.lacks,
                "shards": row.times.len(),
                "progressP50Ms": quantile(&row.times, 0.5).map(|time| time.as_millis()),
                "progressP99Ms": quantile(&row.times, 0.99).map(|time| time.as_millis()),
            })
        });
        json!({
            "seed": self.seed, "servers": self.servers, "seconds": self.seconds,
            "sagas": self.sagas, "planned": self.planned, "acknowledged": self.acknowledged,
            "records": self.records, "frames": self.frames, "events": self.events, "effects": self.effects,
            "faults": faults.collect::<Vec<_>>(), "singleFaults": self.single_faults,
            "lost": self.lost, "doubled": self.doubled, "eventsDoubled": self.events_doubled, "stuck": self.stuck, "fencedWrites": self.fenced,
            "slowestStartMs": self.slowest.as_millis(),
            "nodesRestarted": rolled(&self.nodes_rolled), "serversRestarted": rolled(&self.servers_rolled),
            "endedByThemselves": self.gave_up, "invariants": self.looked,
            "violations": self.wrong, "kept": self.kept,
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        table.set_header(["fault", "made", "shards hit", "first progress p50 ms", "p99 ms"]);
        for row in &self.rows {
            let made = if row.lacks.is_some() { "not tried".to_owned() } else { row.made.to_string() };
            let (half, most) = (quantile(&row.times, 0.5), quantile(&row.times, 0.99));
            table.add_row([row.kind.word().to_owned(), made, row.times.len().to_string(), ms(half), ms(most)]);
        }
        for column in 1..5 {
            if let Some(column) = table.column_mut(column) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        writeln!(f, "{table}")?;
        let made: usize = self.rows.iter().map(|row| row.made).sum();
        writeln!(f, "{made} faults; {} with each restart of a roll and each step of a clock\n", self.single_faults)?;
        for (kind, why) in self.rows.iter().filter_map(|row| Some((row.kind, row.lacks.as_ref()?))) {
            writeln!(f, "{kind} was not tried: {why}")?;
        }
        writeln!(
            f,
            "first progress: from the fault to the first frame with a saga's record, by the new owner where a node\n\
             was hit, by anybody where servers were; times at which servers stored the frames.\n"
        )?;
        writeln!(
            f,
            "{} sagas ({} of the load) in {} s on {} server(s): {} records in {} frames, {} events, {} lines in the\n\
             ledger, {} commands acknowledged, slowest start {:.1?}; seed {}",
            self.sagas,
            self.planned,
            self.seconds,
            self.servers,
            self.records,
            self.frames,
            self.events,
            self.effects,
            self.acknowledged,
            self.slowest,
            self.seed
        )?;
        writeln!(
            f,
            "lost {} · doubled {} · events doubled {} · stuck {} · refused writes of former owners {} · ended by themselves {}",
            self.lost,
            self.doubled,
            self.events_doubled,
            self.stuck.len(),
            self.fenced,
            self.gave_up.len()
        )?;
        for (what, figures) in [("nodes", &self.nodes_rolled), ("servers", &self.servers_rolled)] {
            let given = figures.took.len() + figures.failed.len();
            if given > 0 {
                let (half, most) = (quantile(&figures.took, 0.5), quantile(&figures.took, 0.99));
                writeln!(
                    f,
                    "while {what} restarted in turn: {given} commands, {} given again because nobody answered, {} failed, p50 {} ms, p99 {} ms",
                    figures.repeated,
                    figures.failed.len(),
                    ms(half),
                    ms(most)
                )?;
            }
        }
        let looked: Vec<_> = self.looked.iter().map(|(name, count)| format!("{name}: {count}")).collect();
        writeln!(f, "looked at: {}", looked.join(" · "))?;
        for (what, lines) in
            [("stuck", &self.stuck), ("ended by themselves", &self.gave_up), ("violations", &self.wrong)]
        {
            if !lines.is_empty() {
                writeln!(f, "\n{what}:")?;
            }
            for line in lines.iter().take(SHOWN) {
                writeln!(f, "  {line}")?;
            }
            if lines.len() > SHOWN {
                writeln!(f, "  … and {} more", lines.len() - SHOWN)?;
            }
        }
        match (&self.kept, self.wrong.is_empty()) {
            (Some(dir), true) => write!(f, "\nnothing is wrong; everything is kept in {}", dir.display()),
            (Some(dir), false) => {
                write!(
                    f,
                    "\n{} violations. Everything is kept in {}: read `timeline` first, then the logs of nodes and\n\
                     servers; the same choices again: --seed {}",
                    self.wrong.len(),
                    dir.display(),
                    self.seed
                )
            }
            (None, _) => write!(f, "\nnothing is wrong"),
        }
    }
}
