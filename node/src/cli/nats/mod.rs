//! What concerns the nats-server itself.

mod config;
mod files;

use clap::{Args, Subcommand};

use super::Ended;
use super::context::Ctx;

/// Writes what a nats-server needs to keep tenants apart
#[derive(Args, Debug)]
#[command(after_help = "\
Example:
  skald nats config --out nats --user acme:ann --worker acme:pricing

Next: nats-server -c nats/nats-server.conf")]
pub(super) struct Nats {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    Config(config::Config),
}

pub(super) fn run(args: Nats, ctx: &Ctx) -> Ended {
    match args.what {
        What::Config(it) => config::run(&it, ctx),
    }
}
