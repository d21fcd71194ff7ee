use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use actors::runtime::compute::process::proc::marked;
use clap::Args;
use protocol::Time;

use super::context::Ctx;
use super::fault::Fault;
use super::local::{Gone, Local, Plan};
use super::node::told_to_stop;
use super::parts::runtime_dir;
use super::state::{self, State};
use super::{Ended, Ending};

/// How often the servers are asked whether they can write.
const LOOK_AT_SERVERS: Duration = Duration::from_secs(3);

/// Starts a cluster on this machine: a nats-server and some nodes
#[derive(Args, Debug)]
#[command(after_help = "\
Other commands find it by themselves while it runs. Ctrl-C stops the nodes, then the server; the
data stays, and the next `skald up` goes on where this one stopped. Services that were deployed go
on running meanwhile.

Example:
  skald up --nodes 3

Next, in another terminal: skald tree, skald doctor, skald definition deploy FILE")]
pub(super) struct Up {
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=9))]
    nodes: u8,
    /// How many NATS servers: 1, or 3 with three copies of everything
    #[arg(long, value_name = "N", default_value = "1", value_parser = ["1", "3"])]
    servers: String,
    /// Directory for all data
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// A TOML file with settings for the nodes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

pub(super) async fn run(args: Up, ctx: &Ctx) -> Ended {
    if let Some(other) = state::running() {
        return Err(Fault::new(format!("a cluster runs already, started by process {}", other.pid))
            .mend("use it, or stop it with Ctrl-C where it was started; SKALD_STATE=FILE keeps two apart"));
    }
    let data = match args.data {
        Some(data) => std::path::absolute(data)?,
        None => ctx.config()?.data_dir.join("up"),
    };
    let log = ctx.globals.log_filter().map(str::to_owned);
    let servers = if args.servers == "3" { 3 } else { 1 };
    let plan = Plan { data: data.clone(), nodes: args.nodes.into(), servers, config: args.config, log, bench: false };
    let progress = ctx.out.progress();
    let say = |line: &str| progress.set_message(line.to_owned());
    let started = tokio::select! {
        started = Local::start(&plan, &say) => started,
        () = told_to_stop() => Err(Fault::interrupted()),
    };
    progress.finish_and_clear();
    let mut local = started?;

    let left = leave_state(&local, data.clone());
    if let Err(error) = &left {
        ctx.out.say(format_args!("other commands will not find this cluster by themselves: {error}"));
    }
    announce(&local, ctx);
    for lost in &local.lost {
        ctx.out.say_painted(format_args!("{} {lost}", ctx.out.paint.bad("lost:")));
    }
    let ended = watch(&mut local, ctx).await;
    state::forget(std::process::id());
    ctx.out.say("stopping; once more Ctrl-C ends everything at once");
    let say = |line: &str| ctx.out.say(line);
    tokio::select! {
        () = local.stop(&say) => {}
        () = told_to_stop() => return Err(Fault::interrupted()),
    }
    match of_services(&data) {
        0 => {}
        left => ctx.out.say(format_args!(
            "replicas of services that go on: {left}. Nobody can reach them until the next `skald up` looks after them \
             again; while it runs, `skald services drain` and `skald services remove` end them"
        )),
    }
    ended
}

/// How many processes of services run: nobody who serves requests ends with whoever looks after it.
fn of_services(data: &Path) -> usize {
    let instance = std::fs::read_to_string(runtime_dir(data).join("instance")).unwrap_or_default();
    let found = marked(instance.trim()).unwrap_or_default();
    found.iter().filter(|one| !one.keeper).map(|one| &one.marker.replica).collect::<BTreeSet<_>>().len()
}

/// Until it is told to stop, or nothing is left to keep running.
async fn watch(local: &mut Local, ctx: &Ctx) -> Ended {
    loop {
        let gone = tokio::select! {
            () = told_to_stop() => return Ok(Ending::Done),
            gone = local.something_ended() => gone,
            () = tokio::time::sleep(LOOK_AT_SERVERS) => {
                if local.heal().await > 0 {
                    ctx.out.say("there is room on the disk again; nats-server was started anew");
                }
                continue;
            }
        };
        match gone {
            Gone::Server(how) => {
                return Err(Fault::new("the nats-server ended, and nothing works without it")
                    .why(how)
                    .mend("its data is kept: start again with `skald up`"));
            }
            Gone::Node(member, how) => {
                let (node, log) = (&member.state.node, member.log.display());
                ctx.out.say(format_args!("node {node} ended ({how}); log: {log}"));
                if local.members.is_empty() {
                    return Err(Fault::new("no node is left").why(super::local::last_lines(&member.log)));
                }
                let names: Vec<_> = local.members.iter().map(|member| member.state.node.as_str()).collect();
                ctx.out.say(format_args!("its shards go to {}. next: skald tree --owners", names.join(", ")));
                let data = member.log.parent().and_then(|nodes| nodes.parent()?.parent()).map(PathBuf::from);
                if let Some(data) = data {
                    let _ = leave_state(local, data);
                }
            }
        }
    }
}

fn leave_state(local: &Local, data: PathBuf) -> std::io::Result<()> {
    state::leave(&State {
        pid: std::process::id(),
        servers: local.urls(),
        data,
        catalog: local.catalog.clone(),
        nodes: local.members.iter().map(|member| member.state.clone()).collect(),
        started_at: Time::from_micros(jiff::Timestamp::now().as_microsecond()),
    })
}

fn announce(local: &Local, ctx: &Ctx) {
    let paint = ctx.out.paint;
    let nodes: Vec<_> = local.members.iter().map(|member| member.state.clone()).collect();
    let document = serde_json::json!({"servers": local.urls(), "serverPids": local.server_pids(), "nodes": nodes});
    ctx.out.answer(&document, |_, _| {
        let mut text = String::new();
        for (url, pid) in local.urls().iter().zip(local.server_pids()) {
            text.push_str(&format!("nats-server  {url}  {}\n", paint.dim(&format!("pid {pid}"))));
        }
        for member in &local.members {
            let debug = member.state.debug.as_deref().unwrap_or("no debug endpoint");
            let pid = paint.dim(&format!("pid {}", member.state.pid));
            text.push_str(&format!("node {:<7} {debug}  {pid}\n", member.state.node.as_str()));
        }
        text
    });
    let victim = local.members.last().map_or(0, |member| member.state.pid);
    ctx.out.next(&format!(
        "\nin another terminal:\n  skald tree --watch          what runs\n  skald doctor                whether all is well\n  \
         skald definition list       what can be started\n  kill -9 {victim:<20}a node dies, the others go on\nCtrl-C stops nodes and servers"
    ));
}
