//! Carries out what a plan says goes wrong.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use protocol::ShardId;
use tokio::time::sleep;

use super::link::Weather;
use super::node::Bus;
use super::plan::{Fault, Kind, Plan};
use super::server::{Loss, Trouble};

/// Chance in thousandths that a node dies with a frame while that fault is on.
const DIES: i64 = 250;
/// How long a node may take to notice that something was deleted, in milliseconds.
const NOTICED_WITHIN_MS: u64 = 300;
/// How long a stream that was made anew may be without a leader, in milliseconds.
const UNLED_WITHIN_MS: u64 = 2_000;
/// How far a clock jumps at most, in milliseconds, either way.
const JUMP_MS: u64 = 20_000;

/// Brings trouble until the plan is through, then makes everything well.
pub async fn trouble(bus: &Arc<Bus>, plan: &Plan) {
    set_weather(bus, plan.weather);
    let mut under_way = tokio::task::JoinSet::new();
    let end = tokio::time::Instant::now() + plan.trouble;
    for fault in plan.faults.clone() {
        sleep(fault.after).await;
        let bus = bus.clone();
        under_way.spawn(async move { happen(&bus, fault).await });
    }
    while under_way.join_next().await.is_some() {}
    tokio::time::sleep_until(end).await;
    set_weather(bus, Weather::FAIR);
    bus.world.tell("everything is well from here on");
}

fn set_weather(bus: &Bus, weather: Weather) {
    *bus.weather.lock().unwrap_or_else(PoisonError::into_inner) = weather;
    for node in 0..bus.nodes() {
        if let Some(life) = bus.life(node) {
            life.link.set_weather(weather);
        }
    }
}

async fn happen(bus: &Arc<Bus>, fault: Fault) {
    let Fault { kind, long, node, .. } = fault;
    bus.world.tell(format_args!("{kind:?} of n{node} for {long:?}"));
    match kind {
        Kind::Crash => {
            bus.kill(node);
            sleep(long).await;
        }
        Kind::CrashAll => {
            (0..bus.nodes()).for_each(|node| bus.kill(node));
            sleep(long).await;
        }
        Kind::CrashOnAppend => {
            bus.dies_on_append.store(DIES, Relaxed);
            sleep(long).await;
            bus.dies_on_append.store(0, Relaxed);
        }
        Kind::Pause => {
            if let Some(life) = bus.life(node) {
                life.link.pause();
                sleep(long).await;
                life.link.go_on();
            }
        }
        Kind::Cut => {
            if let Some(life) = bus.life(node) {
                life.link.cut(long);
            }
            sleep(long).await;
        }
        Kind::Drain => {
            if let Some(life) = bus.life(node) {
                let (tell, told) = tokio::sync::oneshot::channel();
                life.root.tell(supervisor::tree::root::Message::Drain(tell));
                // A drain that does not end is cut short, as an operator would.
                let _ = tokio::time::timeout(long, told).await;
                bus.kill(node);
            }
        }
        Kind::Away => at_server(bus, Trouble::Away, long).await,
        Kind::Full => at_server(bus, Trouble::Full, long).await,
        Kind::Leaderless => at_server(bus, Trouble::Leaderless, long).await,
        Kind::Blackout => {
            bus.server.inner().trouble = Trouble::Away;
            sleep(long / 2).await;
            (0..bus.nodes()).for_each(|node| bus.kill(node));
            at_server(bus, Trouble::Away, long / 2).await;
        }
        Kind::Deleted => lose(bus, Loss::Deleted, long).await,
        Kind::OlderCopy => lose(bus, Loss::Cut, long).await,
        Kind::SnapshotsGone => lose_snapshots(bus).await,
        Kind::ClockJump => {
            let ahead = i64::try_from(bus.world.roll(2 * JUMP_MS)).unwrap_or(0) - i64::try_from(JUMP_MS).unwrap_or(0);
            bus.ahead[node].store(ahead * 1_000, Relaxed);
        }
    }
}

/// A shard's journal is lost, and nodes look at what is left of it, some of them anew; then somebody
/// brings back what was there.
async fn lose(bus: &Arc<Bus>, how: Loss, long: Duration) {
    let shard = ShardId(u16::try_from(bus.world.roll(u64::from(bus.shards))).unwrap_or(0));
    bus.server.inner().lose(shard, how);
    if bus.world.roll(2) == 0 {
        (0..bus.nodes()).for_each(|node| bus.kill(node));
    }
    sleep(long).await;
    bus.server.inner().bring_back(shard);
}

/// The snapshots are lost, and nodes notice one after another: their shards begin again at once, while what they
/// were writing may still be on its way.
async fn lose_snapshots(bus: &Arc<Bus>) {
    let unled = Duration::from_millis(bus.world.roll(UNLED_WITHIN_MS));
    bus.server.inner().lose_snapshots(unled);
    for node in 0..bus.nodes() {
        sleep(Duration::from_millis(bus.world.roll(NOTICED_WITHIN_MS))).await;
        for (_, shard) in bus.life(node).iter().flat_map(|life| life.shards.all_local()) {
            shard.tell(supervisor::tree::shard::Message::Lost("the snapshots are gone".into()));
        }
    }
    // Whoever reads the whole journal then may not get to its end.
    if bus.world.roll(2) == 0 {
        sleep(unled + Duration::from_millis(bus.world.roll(NOTICED_WITHIN_MS))).await;
        (0..bus.nodes()).for_each(|node| bus.kill(node));
    }
}

async fn at_server(bus: &Bus, trouble: Trouble, long: Duration) {
    bus.server.inner().trouble = trouble;
    sleep(long).await;
    bus.server.inner().trouble = Trouble::None;
}

/// Begins dead nodes again, as whoever runs them would.
pub async fn keep_alive(bus: Arc<Bus>) {
    loop {
        for node in 0..bus.nodes() {
            if bus.life(node).is_none() {
                sleep(bus.world.pause(Duration::from_secs(2))).await;
                if bus.life(node).is_none() {
                    bus.kill(node);
                    bus.world.tell(format_args!("n{node} begins"));
                    bus.start(node).await;
                }
            }
        }
        sleep(Duration::from_millis(100)).await;
    }
}
