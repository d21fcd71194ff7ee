//! What looking after services costs: `cargo watching`. Real
//! probes over loopback to a server in a process of its own, what is remembered on a real
//! nats-server, and only the machine on which the workloads would run is made up.

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use scenarios::watching::{self, Asked};

/// Measures the control loops
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  cargo watching\n  cargo watching --services 1000 --replicas 1 --no-probes\n  cargo watching --only drift --windows 10 --json"
)]
struct Options {
    /// How many services there are
    #[arg(long, default_value_t = 1_000)]
    services: u32,
    /// How many replicas each has: each has one probe
    #[arg(long, default_value_t = 10)]
    replicas: u32,
    /// For how many windows of 30 s all workers run
    #[arg(long, default_value_t = 4)]
    windows: u32,
    /// No probes: replicas that accept connections are well
    #[arg(long)]
    no_probes: bool,
    /// Only this kind of worker, as in `health`
    #[arg(long, value_name = "KIND")]
    only: Option<String>,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
    /// Answers probes on a free port, which it prints
    #[arg(long, hide = true)]
    answer: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    let options = Options::parse();
    if options.answer {
        return match watching::answer().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        };
    }
    let asked = Asked {
        services: options.services,
        replicas: options.replicas,
        probes: !options.no_probes,
        only: options.only,
        time: Duration::from_secs(30) * options.windows,
    };
    match watching::measure(&asked).await {
        Ok(figures) if options.json => println!("{}", serde_json::to_string(&figures).unwrap_or_default()),
        Ok(figures) => println!("{figures}"),
        Err(error) => return failed(&error),
    }
    ExitCode::SUCCESS
}

fn failed(error: &anyhow::Error) -> ExitCode {
    eprintln!("watching: {error:#}");
    ExitCode::FAILURE
}
