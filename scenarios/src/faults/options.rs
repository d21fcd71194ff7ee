//! What can be asked of a run.

use std::time::Duration;

use clap::Parser;

use super::kinds::Kind;

/// Breaks a real cluster in every way that this machine can, while thousands of sagas run, and then
/// checks that nothing was lost and nothing happened twice
#[derive(Parser, Clone, Debug)]
#[command(
    name = "cargo faults",
    after_help = "\
Three nats-servers (three replicas, every write synced) and three nodes, each in a network namespace
of its own; nothing of the host's network is touched, and everything is removed at the end. Faults
come from the seed: every kind once, in some order, before any comes again. When the time is over
everything heals, every saga must end, and the effects that really happened are compared with the
journal, record by record.

Needs root and iproute2. More kinds need more of Debian's packages; one that cannot be made here is
named in the table:
  apt-get install iproute2 nftables faketime

Examples:
  cargo faults --minutes 5                    all kinds
  cargo faults --minutes 2 --only cut-node    one kind
  cargo faults --servers 1 --minutes 2        one server, every write synced
  cargo faults --minutes 60 --json > run.json

Exit codes: 0 nothing is wrong · 1 something is, and the logs are kept · 2 it cannot run here"
)]
pub struct Options {
    /// How long faults are made
    #[arg(long, value_name = "M", default_value_t = 5.0)]
    pub minutes: f64,
    /// Where the choices come from; by the clock when not given, and always printed
    #[arg(long, default_value_t = by_the_clock(), hide_default_value = true, overrides_with = "seed")]
    pub seed: u64,
    /// Only this kind of fault
    #[arg(long, value_name = "KIND", help = only_help())]
    pub only: Vec<Kind>,
    /// Keep the directory with logs, journal and ledger also when nothing is wrong
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON document instead of a table
    #[arg(long)]
    pub json: bool,
    /// Servers: 3, or 1 as on a single machine
    #[arg(long, default_value_t = 3, value_parser = one_or_three)]
    pub servers: usize,
    /// Sagas under way at once
    #[arg(long, value_name = "N", default_value_t = 96)]
    pub at_once: usize,
}

impl Options {
    /// How long faults are made.
    pub fn time(&self) -> Duration {
        Duration::try_from_secs_f64(self.minutes * 60.0).unwrap_or_default()
    }
}

fn one_or_three(text: &str) -> Result<usize, String> {
    match text {
        "1" => Ok(1),
        "3" => Ok(3),
        other => Err(format!("{other:?} servers: 1 and 3 are the shapes that keep what they acknowledge")),
    }
}

fn by_the_clock() -> u64 {
    crate::ledger::now_us().unsigned_abs()
}

fn only_help() -> String {
    let all: Vec<_> = Kind::ALL.iter().map(|kind| kind.word()).collect();
    format!("Only this kind of fault; may be repeated: {}", all.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_read() {
        let options =
            Options::parse_from(["faults", "--servers", "1", "--only", "clock", "--seed", "1", "--seed", "7"]);
        assert_eq!((options.servers, options.seed, options.only), (1, 7, vec![Kind::Clock]));
        assert!(Options::try_parse_from(["faults", "--servers", "2"]).is_err());
    }
}
