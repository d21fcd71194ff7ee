//! Nodes and the server are killed, again and again, while sagas run; nothing that was acknowledged
//! may be lost, and nothing may happen twice.
//!
//! `cargo test` kills six times. The long run, with figures:
//!
//! ```text
//! SKALD_KILLS=50 cargo test -p skald-scenarios --test accidents kills:: -- --nocapture
//! ```

use std::time::{Duration, Instant};

use node::client::{Client, Settings};
use protocol::query::{Body, Query};
use protocol::{Principal, Tenant};
use scenarios::check::check;
use scenarios::cluster::until;
use scenarios::dice::Dice;
use scenarios::faults::read;
use scenarios::fleet::Fleet;
use scenarios::load::{Clocks, Keeping, plan_any, violations};

/// Sagas that run at once: enough that every kill hits some, few enough for a small machine.
const AT_ONCE: usize = 24;
/// How long the cluster may take until somebody says that all shards are owned.
const HEALTHY_WITHIN: Duration = Duration::from_secs(30);

async fn client(fleet: &Fleet) -> Client {
    let settings = Settings::new(fleet.server.url(), Tenant::new("acme").unwrap(), Principal::new("ann").unwrap());
    // An answer that was killed with its node is not waited for as long as a person would.
    Client::connect(Settings { timeout: Duration::from_secs(3), ..settings }).await.unwrap()
}

async fn healthy(client: &Client) -> bool {
    let answers = client.query(&Query::Health).await.unwrap_or_default();
    answers.iter().any(|answer| matches!(&answer.body, Body::Health(health) if health.ready))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_killed_every_acknowledged_saga_ends_and_acts_once() {
    let kills: usize = std::env::var("SKALD_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    let mut dice = Dice::from_environment();
    let mut fleet = Fleet::start(env!("CARGO_BIN_EXE_skald_under_test"), 3).await.unwrap();
    let client = client(&fleet).await;
    until(HEALTHY_WITHIN, "all shards are owned", || healthy(&client)).await;
    for source in scenarios::definitions::ALL {
        let deploy = protocol::command::Deploy { source: (*source).into(), file: None };
        client.deploy(&deploy).await.unwrap();
    }
    let began = Instant::now();
    let load = Keeping::start(vec![client.clone()], Dice::new(dice.roll(u64::MAX)), plan_any, AT_ONCE);
    let (mut nodes, mut servers, mut lost, mut healed) = (0, 0, Vec::new(), Duration::ZERO);
    for _ in 0..kills {
        tokio::time::sleep(Duration::from_millis(200 + dice.roll(800))).await;
        let pause = Duration::from_millis(dice.roll(1_500));
        let killed = Instant::now();
        if dice.roll(5) == 0 {
            servers += 1;
            fleet.server.kill().await;
            tokio::time::sleep(pause).await;
            fleet.server.restart().await.unwrap();
        } else {
            nodes += 1;
            let victim = usize::try_from(dice.roll(fleet.len() as u64)).unwrap();
            fleet.kill(victim).await.unwrap();
            tokio::time::sleep(pause).await;
            fleet.restart(victim).unwrap();
        }
        // Every second kill comes while the cluster still heals from the one before.
        if dice.roll(2) == 0 {
            until(HEALTHY_WITHIN, "all shards are owned", || healthy(&client)).await;
            healed = healed.max(killed.elapsed());
        }
        lost.extend(fleet.ended_by_themselves());
        assert!(lost.is_empty(), "{}", lost.join("\n\n"));
    }
    let load = load.finish().await.unwrap();
    until(HEALTHY_WITHIN, "all shards are owned", || healthy(&client)).await;
    let (sagas, slowest, mut wrong) = (load.planned, load.slowest, load.wrong);
    wrong.extend(violations(&client, &fleet.ledger, &sagas, Clocks::True, &[]).await.unwrap());
    let left = read::everything(&client, &fleet.ledger, load.acknowledged).await.unwrap();
    let verdict = check(&left.history);
    wrong.extend(verdict.violations.iter().map(ToString::to_string));
    wrong.extend(left.dead.iter().map(|letter| format!("a dead letter: {letter:?}")));
    let attempts = fleet.ledger.attempts().unwrap().len();
    let effects = fleet.ledger.done().unwrap().len();
    println!(
        "{nodes} nodes and {servers} servers killed in {:.1?}: {} sagas, {effects} effects in {attempts} attempts, \
         slowest start {slowest:.1?}, slowest healing {healed:.1?}, {} violations",
        began.elapsed(),
        sagas.len(),
        wrong.len(),
    );
    if !wrong.is_empty() {
        println!("{}", wrong.join("\n"));
        panic!("{} violations; everything is kept in {}", wrong.len(), fleet.keep().display());
    }
}
