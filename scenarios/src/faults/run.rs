//! One run, from inside the client's namespace: load, faults from the dice, healing, judgement.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::time::Instant;

use super::cluster::Cluster;
use super::guard::SERVER_VARIABLE;
use super::inject::Done;
use super::judge::{Judgement, judge};
use super::kinds::Kind;
use super::net::Net;
use super::options::Options;
use super::progress::{Fault, times};
use super::read::Seen;
use super::report::{Report, Row};
use super::strict::Figures;
use super::tools::Tools;
use crate::check::invariant;
use crate::dice::Dice;
use crate::load::{Clocks, Keeping, Load, Span, plan_any};

/// The longest that a node stands still or is cut off, and a moment to notice that it was.
const STILL_MAX: Duration = Duration::from_secs(10);
/// Between two faults, in milliseconds: from one that hits a cluster which still heals to one that
/// hits a cluster at rest.
const BETWEEN_MS: (u64, u64) = (100, 1_500);

/// What happened, before it is judged.
#[derive(Default)]
struct Story {
    faults: Vec<Fault>,
    made: BTreeMap<Kind, usize>,
    nodes_rolled: Figures,
    servers_rolled: Figures,
    wrong: Vec<String>,
}

/// Runs it in the network that the guard made.
pub async fn run(options: &Options, dir: &Path, net: Net) -> anyhow::Result<Report> {
    let mut tools = Tools::look();
    net.look(&mut tools);
    let lacks: BTreeMap<Kind, String> =
        Kind::ALL.iter().filter_map(|kind| Some((*kind, kind.lacks(&tools, options.servers)?))).collect();
    let asked = Kind::ALL.into_iter().filter(|kind| options.only.is_empty() || options.only.contains(kind));
    let kinds: Vec<Kind> = asked.clone().filter(|kind| !lacks.contains_key(kind)).collect();
    anyhow::ensure!(!kinds.is_empty(), "none of these faults can be made here: {lacks:?}");

    let bar = progress_bar();
    bar.set_message("starting servers and nodes");
    let program = std::env::var_os(SERVER_VARIABLE).unwrap_or_else(|| "nats-server".into());
    let began = Instant::now();
    let mut cluster = Cluster::start(net, Path::new(&program), dir, options.servers, &tools).await?;
    let mut dice = Dice::new(options.seed);
    let load = Dice::new(dice.roll(u64::MAX));
    let load = Keeping::start(cluster.clients.clone(), load, plan_any, options.at_once);
    let mut story = Story::default();
    let ended = tell(options, &kinds, &mut cluster, &load, &mut dice, &bar, &mut story).await;
    if let Err(error) = ended {
        story.wrong.push(format!("the run could not go on: {error:#}"));
    }

    bar.set_message("healing; the last sagas end");
    cluster.net.heal()?;
    if let Err(error) = cluster.settled().await {
        story.wrong.push(format!("after everything was mended: {error:#}"));
    }
    let Load { planned, mut acknowledged, slowest, wrong } = load.finish().await?;
    story.wrong.extend(wrong);
    for figures in [&mut story.nodes_rolled, &mut story.servers_rolled] {
        acknowledged.append(&mut figures.acknowledged);
    }
    bar.set_message(format!("judging {} sagas", planned.len()));
    let clocks = if story.made.contains_key(&Kind::Clock) { Clocks::Stepped } else { Clocks::True };
    let Judgement { verdict, wrong, left } =
        judge(&cluster, &planned, acknowledged, clocks, &still(&story.faults)).await?;
    bar.finish_and_clear();

    std::fs::write(dir.join("frames"), frames(&left.frames))?;
    let times = times(&left.frames, &story.faults);
    let row = |kind: Kind| Row {
        kind,
        made: story.made.get(&kind).copied().unwrap_or(0),
        times: times.get(&kind).cloned().unwrap_or_default(),
        lacks: lacks.get(&kind).cloned(),
    };
    story.wrong.extend(wrong);
    let count = |name: &str| verdict.violations.iter().filter(|violation| violation.invariant == name).count();
    Ok(Report {
        seed: options.seed,
        servers: options.servers,
        seconds: began.elapsed().as_secs(),
        sagas: verdict.looked.get(invariant::ENDS).copied().unwrap_or(0),
        planned: planned.len(),
        acknowledged: left.history.acknowledged.len(),
        records: left.frames.iter().map(|frame| frame.records).sum(),
        frames: left.frames.len(),
        events: left.history.events.len(),
        effects: left.history.ledger.len(),
        single_faults: story.faults.len(),
        rows: asked.map(row).collect(),
        lost: count(invariant::KEPT),
        doubled: count(invariant::ONE_EFFECT) + count(invariant::ONE_KEY),
        events_doubled: count(invariant::ONCE),
        stuck: verdict.stuck.iter().map(|(saga, why)| format!("{saga}: {why}")).collect(),
        fenced: cluster.nodes.fenced(),
        slowest,
        nodes_rolled: story.nodes_rolled,
        servers_rolled: story.servers_rolled,
        gave_up: cluster.gave_up.clone(),
        looked: verdict.looked.clone(),
        wrong: verdict.violations.iter().map(ToString::to_string).chain(story.wrong).collect(),
        kept: None,
    })
}

/// When nodes stood still or were cut off.
fn still(faults: &[Fault]) -> Vec<Span> {
    let quiet = |kind| matches!(kind, Kind::FreezeNode | Kind::CutNode | Kind::OneWay);
    let spans = faults.iter().filter(|fault| quiet(fault.kind));
    spans.map(|fault| Span { from: fault.at, to: fault.at.after(STILL_MAX) }).collect()
}

/// The journal frame by frame, as text beside the timeline.
fn frames(frames: &[Seen]) -> String {
    let mut frames: Vec<_> = frames.iter().collect();
    frames.sort_by_key(|frame| frame.at);
    let line = |frame: &&Seen| {
        let Seen { shard, at, node, ownership: (epoch, _), records } = frame;
        format!("{at} shard {shard} {node} epoch {} {records} records\n", epoch.0)
    };
    frames.iter().map(line).collect()
}

/// Makes faults until the time is over, every kind once before any comes again.
async fn tell(
    options: &Options,
    kinds: &[Kind],
    cluster: &mut Cluster,
    load: &Keeping,
    dice: &mut Dice,
    bar: &ProgressBar,
    story: &mut Story,
) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut next: Vec<Kind> = Vec::new();
    for number in 1.. {
        if next.is_empty() {
            next = kinds.to_vec();
        }
        if began.elapsed() >= options.time() {
            return Ok(());
        }
        let kind = next.swap_remove(usize::try_from(dice.roll(next.len() as u64)).unwrap_or(0));
        let rest = Duration::from_millis(BETWEEN_MS.0 + dice.roll(BETWEEN_MS.1 - BETWEEN_MS.0));
        tokio::time::sleep(rest).await;
        let (left, ended) = (options.time().saturating_sub(began.elapsed()).as_secs(), load.ended());
        bar.set_message(format!("{number} {kind:<16} {ended} sagas have ended, {left} s to go"));
        let Done { faults, strict, wrong } = cluster.inject(kind, number, dice).await?;
        *story.made.entry(kind).or_default() += 1;
        story.faults.extend(faults);
        story.wrong.extend(wrong);
        if kind == Kind::RollNodes {
            story.nodes_rolled.merge(strict);
        } else {
            story.servers_rolled.merge(strict);
        }
        if let Err(why) = cluster.goes_on(load).await? {
            cluster.timeline.note(&format!("after {kind} nothing goes on: {why}"));
            story.wrong.push(format!("after fault {number}, {kind}, nothing goes on: {why}"));
        }
    }
    Ok(())
}

fn progress_bar() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    bar.set_style(
        ProgressStyle::with_template("{spinner} {elapsed:>5} {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner()),
    );
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
