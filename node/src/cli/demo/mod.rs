use std::path::Path;
use std::time::Duration;

use clap::Args;
use protocol::SagaKey;
use protocol::query::Query;
use protocol::view::{SagaView, Status};

use crate::client::Client;
use crate::debug;

use super::context::Ctx;
use super::fault::Fault;
use super::local::{Local, Plan};
use super::node::told_to_stop;
use super::{Ended, follow, install};

mod stage;

use stage::{OTHER_ASSET, Stage, TENANT};

/// How long an installation may take until it applies: it looks at the toolchain and resolves.
const AT_STATE_MAX: Duration = Duration::from_secs(60);
/// How often it is looked at meanwhile; applying a package takes some ten milliseconds.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Shows what Skald is for: real packages are installed into a real project, across a killed node,
/// and an installation that fails is undone
#[derive(Args, Debug)]
#[command(after_help = "\
Everything happens in a temporary directory and is gone afterwards: three nodes are started, a
package of cargo's own download cache is installed into a project with everything it needs, the
node that runs the installation is killed, another finishes it, and cargo builds the result. Then
an archive is tampered with, and the installation that meets it leaves nothing behind.

Example:
  skald demo

Next: skald up --nodes 3")]
pub(super) struct Demo {
    /// Stop nothing at the end; wait for Ctrl-C
    #[arg(long)]
    stay: bool,
}

pub(super) async fn run(args: Demo, ctx: &Ctx) -> Ended {
    let dir = tempfile::Builder::new().prefix("skald-demo-").tempdir()?;
    let plan = Plan { data: dir.path().to_owned(), nodes: 3, servers: 1, config: None, log: None, bench: false };
    ctx.out.say("1. a nats-server and three nodes, each its own process");
    let progress = ctx.out.progress();
    let say = |line: &str| progress.set_message(line.to_owned());
    let started = tokio::select! {
        started = Local::start(&plan, &say) => started,
        () = told_to_stop() => Err(Fault::interrupted()),
    };
    progress.finish_and_clear();
    let local = started?;
    for member in &local.members {
        ctx.out.say(format_args!("   node {} is process {}", member.state.node, member.state.pid));
    }
    let told = tokio::select! {
        told = tell(&local, dir.path(), ctx) => told,
        () = told_to_stop() => Err(Fault::interrupted()),
    };
    if args.stay && told.is_ok() {
        ctx.out.say(format_args!("\nit stays up: skald tree --server {}. Ctrl-C ends it", local.urls().join(",")));
        told_to_stop().await;
    }
    local.stop(&|_| {}).await;
    if told.is_ok() {
        ctx.out.next("\nnext: skald up --nodes 3, and in another terminal skald doctor");
    }
    told
}

async fn tell(local: &Local, dir: &Path, ctx: &Ctx) -> Ended {
    let client = local.client(TENANT).await?;
    let stage = Stage::set(&local.catalog, dir, ctx)?;
    ctx.out.say(format_args!(
        "2. a catalogue of {} packages from cargo's own downloads, and a cargo project that wants {}",
        stage.packages, stage.asset
    ));
    let survived = survive(local, &client, &stage, ctx).await?;
    stage.build("5. the proof: ", ctx).await?;
    let undone = undo(&client, &stage, ctx).await?;
    ctx.out.say("8. the tree, as the nodes that are left show it:");
    let tree = client.query(&Query::Tree).await?;
    let document = serde_json::json!({"survived": survived, "undone": undone, "tree": tree});
    ctx.out.answer(&document, |_, paint| debug::render_tree_with(&tree, paint));
    Ok(super::Ending::Done)
}

/// An installation whose node is killed in the middle.
async fn survive(local: &Local, client: &Client, stage: &Stage, ctx: &Ctx) -> Result<SagaView, Fault> {
    let (key, wanted) = stage.wanted("demo-survives", &stage.asset, &stage.project)?;
    install::begin(client, &wanted).await?;
    let begun = client.describe(&key).await?;
    ctx.out.say(format_args!("3. the installation of {} runs on node {}", stage.asset, begun.node));
    let view = at_state(client, &key, "Applying").await?;
    let state = format!("{} in {}", view.status.word(), view.state);
    if !local.kill(&view.node) {
        return Err(Fault::new(format!("node {} is not one of ours", view.node)));
    }
    ctx.out.say(format_args!("   it is {state}, and node {} is killed now (kill -9)", view.node));
    let killed = std::time::Instant::now();
    let done = follow::until_end(client, &key, None, ctx).await?;
    if done.status != Status::Succeeded {
        return Err(Fault::new(format!("the installation {}", done.status.word())).why(format!("{:?}", done.outcome)));
    }
    let seconds = killed.elapsed().as_secs_f32();
    ctx.out.say(format_args!(
        "4. node {} took it over and finished it {seconds:.1} s after the kill: {} in {}",
        done.node,
        done.status.word(),
        done.state
    ));
    Ok(done)
}

/// An installation that fails, because an archive was tampered with, and leaves nothing behind.
async fn undo(client: &Client, stage: &Stage, ctx: &Ctx) -> Result<SagaView, Fault> {
    let spoiled = stage.spoil()?;
    let before = stage.state_of_other()?;
    ctx.out.say(format_args!(
        "6. somebody tampers with the archive of {spoiled}; the installation of {OTHER_ASSET} into a second project starts\n   \
         before: {before}"
    ));
    let (key, wanted) = stage.wanted("demo-undone", OTHER_ASSET, &stage.other)?;
    install::begin(client, &wanted).await?;
    let view = follow::until_end(client, &key, None, ctx).await?;
    let history = client.history(&key).await?;
    let undoing = history.entries.iter().filter(|entry| entry.number >= 5);
    for entry in undoing {
        ctx.out.say(format_args!("   {:>3}  {}", entry.number, entry.fact));
    }
    let after = stage.state_of_other()?;
    ctx.out.say(format_args!("7. it {} in {}: {}", view.status.word(), view.state, cause(&view)));
    ctx.out.say(format_args!("   after:  {after}"));
    if view.state != "RolledBack" || before != after {
        return Err(Fault::new("the second project is not as it was").why(format!("{before}, now {after}")));
    }
    ctx.out.say("   every byte, mode and link is as it was, and the seat was given back");
    Ok(view)
}

fn cause(view: &SagaView) -> String {
    let outcome = view.outcome.as_ref();
    outcome.and_then(|outcome| outcome.cause.clone()).unwrap_or_else(|| "no cause".into())
}

/// Looks closely until the saga is in `state`, or has ended.
async fn at_state(client: &Client, key: &SagaKey, state: &str) -> Result<SagaView, Fault> {
    let until = tokio::time::Instant::now() + AT_STATE_MAX;
    loop {
        let view = client.describe(key).await?;
        if view.state == state || view.status.is_final() || tokio::time::Instant::now() > until {
            return Ok(view);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
