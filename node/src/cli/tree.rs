use std::time::Duration;

use clap::Args;
use protocol::NodeId;
use protocol::query::{Answer, Query};

use crate::client::{Client, Error};
use crate::debug;

use super::context::Ctx;
use super::fault::Fault;
use super::{Ended, Ending, duration};

/// Shows the tree of actors: what runs, what waits, what was restarted and why
#[derive(Args, Debug)]
#[command(after_help = "\
Without --node every node is asked. Sleeping sagas are counted, not listed.

Example:
  skald tree --watch
  skald tree --node n1 --actor 'shard-3/saga acme/order-7'
  skald tree --owners

Next: skald show KEY for one saga")]
pub(super) struct Tree {
    /// Every node; this is the default, and says so in scripts
    #[arg(long, conflicts_with = "node")]
    cluster: bool,
    /// One node
    #[arg(long, value_name = "NAME")]
    node: Option<NodeId>,
    /// One actor with its children, by its path below the node
    #[arg(long, value_name = "PATH")]
    actor: Option<String>,
    /// Which node owns which shard instead, and how far each is
    #[arg(long, conflicts_with = "actor")]
    owners: bool,
    /// Show it again and again
    #[arg(long)]
    watch: bool,
    /// How often, with --watch
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "1s")]
    every: Duration,
}

pub(super) async fn run(args: Tree, ctx: &Ctx) -> Ended {
    if args.watch && ctx.json() {
        return Err(Fault::usage("--watch shows many answers and --json is one document").mend("leave one of them out"));
    }
    let query = match (&args.actor, args.owners) {
        (Some(path), _) => Query::Actor { path: path.clone() },
        (None, true) => Query::Owners,
        (None, false) => Query::Tree,
    };
    let client = ctx.connect().await?;
    if !args.watch {
        let answers = ask(&client, &args, &query).await?;
        ctx.out.answer(&answers, |answers, paint| render(answers, &args, paint));
        return Ok(Ending::Done);
    }
    loop {
        let text = match ask(&client, &args, &query).await {
            Ok(answers) => render(&answers, &args, ctx.out.paint),
            Err(error) => format!("{error}\n"),
        };
        ctx.out.redraw(&text);
        tokio::select! {
            () = tokio::time::sleep(args.every) => {}
            _ = tokio::signal::ctrl_c() => return Ok(Ending::Done),
        }
    }
}

async fn ask(client: &Client, args: &Tree, query: &Query) -> Result<Vec<Answer>, Error> {
    match &args.node {
        Some(node) => Ok(vec![client.query_node(node, query).await?]),
        None => client.query(query).await,
    }
}

fn render(answers: &[Answer], args: &Tree, paint: debug::Paint) -> String {
    if args.owners { debug::render_owners(answers, paint) } else { debug::render_tree_with(answers, paint) }
}
