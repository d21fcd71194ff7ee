//! The command line. One command, one file: its words, its arguments, what it does.
//!
//! What a command answers goes to standard output, as text for a person or as one JSON document;
//! everything else goes to standard error. Nothing here knows a rule about sagas: commands ask
//! nodes, and nodes decide.

mod accept_loss;
mod artifact;
mod bench;
mod cancel;
mod catalog;
mod completions;
mod config;
mod confirm;
mod context;
mod decide;
mod definition;
mod demo;
mod deploy;
mod doctor;
mod drift;
mod duration;
mod environment;
mod events;
mod fault;
mod follow;
mod history;
mod http;
mod incident;
mod input;
mod install;
mod list;
mod local;
mod logs;
mod nats;
mod node;
mod out;
pub mod parts;
mod release;
mod removing;
mod rollback;
mod scale;
mod secret;
mod services;
mod settle;
mod show;
mod signal;
mod start;
mod state;
mod tree;
mod up;
mod wait;
mod workers;

use std::process::ExitCode;

use actors::runtime::compute::confine;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use context::{Ctx, Globals};
use fault::Fault;

/// Runs sagas (operations of many steps that finish or are undone) over NATS.
#[derive(Parser, Debug)]
#[command(
    name = "skald",
    version,
    after_help = "\
Begin here:
  skald demo                   a cluster, an installation, a killed node: watch it finish anyway
  skald up --nodes 3           a cluster on this machine
  skald doctor                 what is wrong, and what to do about it

Exit codes: 0 done · 1 refused, or the saga ended badly · 2 usage or settings · 3 no server or no
node answers · 4 not ended in the time given, and going on · 130 interrupted

Every command has its own --help with an example.",
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    globals: Globals,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    Demo(demo::Demo),
    Up(up::Up),
    Node(node::Node),
    Install(install::Install),
    Catalog(catalog::Catalog),
    Environment(environment::Environment),
    Artifact(artifact::Artifact),
    Deploy(Box<deploy::Deploy>),
    Rollback(rollback::Rollback),
    Services(services::Services),
    Logs(logs::Logs),
    Scale(scale::Scale),
    Config(config::Config),
    Secret(secret::Secret),
    Drift(drift::Drift),
    Incident(incident::Incident),
    Start(start::Start),
    List(list::List),
    Show(show::Show),
    History(history::History),
    Wait(wait::Wait),
    Signal(signal::Signal),
    Decide(decide::Decide),
    Cancel(cancel::Cancel),
    Release(release::Release),
    Definition(definition::Definition),
    Events(events::Events),
    Tree(tree::Tree),
    Workers(workers::Workers),
    Doctor(doctor::Doctor),
    AcceptLoss(accept_loss::AcceptLoss),
    Nats(nats::Nats),
    Http(http::Http),
    Bench(bench::Bench),
    Completions(completions::Completions),
}

/// How a command that did not fail ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// What was asked for is done.
    Done,
    /// It was answered, and the answer is bad: the saga failed, a check failed.
    Bad,
    /// It goes on, and the patience is over.
    Unended,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Done => Self::SUCCESS,
            Ending::Bad => Self::from(1),
            Ending::Unended => Self::from(4),
        }
    }
}

type Ended = Result<Ending, Fault>;

/// Activities that a program built around this one adds to its nodes.
pub type Extra = fn(&crate::config::Config) -> Vec<std::sync::Arc<dyn supervisor::activity::Activity>>;

/// Reads the arguments, does what they say and tells how it ended.
pub fn main() -> ExitCode {
    main_with(|_| Vec::new())
}

/// The same, in a program whose nodes offer the activities of `extra` besides the product's.
pub fn main_with(extra: Extra) -> ExitCode {
    // Before anything else: it holds a tenant's program in, and has nothing to do with the rest.
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(confine::WORD) {
        return confine::main(words);
    }
    confine::launcher::serves();
    let matches = Cli::command().get_matches();
    let cli = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli,
        Err(error) => error.exit(),
    };
    let ctx = Ctx::new(cli.globals);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("skald: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let ended = runtime.block_on(run(cli.command, &ctx, extra));
    // A reader of standard input or a name lookup may still block a thread; nobody waits for it.
    runtime.shutdown_background();
    match ended {
        Ok(ending) => ending.into(),
        Err(fault) => ctx.out.fault(&fault),
    }
}

async fn run(command: Command, ctx: &Ctx, extra: Extra) -> Ended {
    match command {
        Command::Demo(it) => demo::run(it, ctx).await,
        Command::Up(it) => up::run(it, ctx).await,
        Command::Node(it) => node::run(it, ctx, extra).await,
        Command::Install(it) => install::run(it, ctx).await,
        Command::Catalog(it) => catalog::run(it, ctx),
        Command::Environment(it) => environment::run(it, ctx).await,
        Command::Artifact(it) => artifact::run(it, ctx),
        Command::Deploy(it) => deploy::run(*it, ctx).await,
        Command::Rollback(it) => rollback::run(it, ctx).await,
        Command::Services(it) => services::run(it, ctx).await,
        Command::Logs(it) => logs::run(it, ctx).await,
        Command::Scale(it) => scale::run(it, ctx).await,
        Command::Config(it) => config::run(it, ctx).await,
        Command::Secret(it) => secret::run(it, ctx).await,
        Command::Drift(it) => drift::run(it, ctx).await,
        Command::Incident(it) => incident::run(it, ctx).await,
        Command::Start(it) => start::run(it, ctx).await,
        Command::List(it) => list::run(it, ctx).await,
        Command::Show(it) => show::run(it, ctx).await,
        Command::History(it) => history::run(it, ctx).await,
        Command::Wait(it) => wait::run(it, ctx).await,
        Command::Signal(it) => signal::run(it, ctx).await,
        Command::Decide(it) => decide::run(it, ctx).await,
        Command::Cancel(it) => cancel::run(it, ctx).await,
        Command::Release(it) => release::run(it, ctx).await,
        Command::Definition(it) => definition::run(it, ctx).await,
        Command::Events(it) => events::run(it, ctx).await,
        Command::Tree(it) => tree::run(it, ctx).await,
        Command::Workers(it) => workers::run(it, ctx).await,
        Command::AcceptLoss(it) => accept_loss::run(it, ctx).await,
        Command::Doctor(it) => doctor::run(it, ctx).await,
        Command::Nats(it) => nats::run(it, ctx),
        Command::Http(it) => http::run(it, ctx),
        Command::Bench(it) => bench::run(it, ctx).await,
        Command::Completions(it) => completions::run(&it, ctx),
    }
}

#[cfg(test)]
mod tests;
