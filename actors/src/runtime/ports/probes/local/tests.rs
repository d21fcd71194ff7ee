//! The contract, and the bounds of this prober.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinSet;

use super::super::contract::{self, listener, short, spec};
use super::*;

#[tokio::test]
async fn the_local_prober_keeps_the_contract() {
    let prober = LocalProber::new(Settings { commands_allowed: true, ..Settings::default() });
    contract::hold(&prober).await;
}

/// The answers of the contract's own server are written by hand; these are of gRPC's.
#[tokio::test]
async fn a_real_grpc_server_is_understood() {
    let Some(port) = std::env::var("GRPC_HEALTH_PORT").ok().and_then(|port| port.parse().ok()) else {
        eprintln!("skipped: GRPC_HEALTH_PORT names no port of this machine with a health service as in the contract");
        return;
    };
    contract::grpc(&LocalProber::new(Settings::default()), port).await;
}

#[tokio::test]
async fn programs_run_only_where_that_is_allowed() {
    let prober = LocalProber::new(Settings::default());
    let probe = spec(Probe::Command { command: vec!["true".into()] });
    let refused = prober.probe(&Place::at(Ipv4Addr::LOCALHOST), &probe).await.unwrap_err();
    assert_eq!(refused.error, "ForbiddenCommand");
}

#[tokio::test]
async fn a_command_that_is_given_up_leaves_nothing_running() {
    let dir = tempfile::tempdir().unwrap();
    let prober = LocalProber::new(Settings { commands_allowed: true, ..Settings::default() });
    // It tells its own number and that of a child, which would outlive it.
    let script = "sleep 600 & echo $! $$ > pids.new; mv pids.new pids; wait";
    let probe = ProbeSpec {
        timeout: Duration::from_secs(2),
        ..spec(Probe::Command { command: ["sh", "-c", script].map(str::to_owned).to_vec() })
    };
    let place = Place { dir: Some(dir.path().to_owned()), ..Place::at(Ipv4Addr::LOCALHOST) };
    assert!(matches!(prober.probe(&place, &probe).await.unwrap().answer, Answer::Unwell { .. }));
    let pids = std::fs::read_to_string(dir.path().join("pids")).unwrap();
    for pid in pids.split_whitespace() {
        let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
            // A zombie has ended; its parent has yet to look.
            Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')),
            Err(_) => true,
        };
        while !gone() {
            tokio::task::yield_now().await;
        }
    }
}

/// Answers HTTP requests one per connection, and counts how many it has at once.
async fn counting(now: Arc<AtomicUsize>, most: Arc<AtomicUsize>) -> u16 {
    let (listener, address) = listener().await;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let now = now.clone();
            tokio::spawn(async move {
                let read = stream.read(&mut [0; 1024]).await;
                // Before the answer: the other side may have the next turn as soon as it has it.
                now.fetch_sub(1, Ordering::SeqCst);
                if read.is_ok_and(|read| read > 0) {
                    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok();
                }
            });
        }
    });
    address.port()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_workloads_are_asked_at_once_within_the_bound() {
    const BOUND: usize = 64;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut probes = Vec::new();
    let mut open = Vec::new();
    for n in 0..1_000 {
        if n % 2 == 0 {
            let port = counting(now.clone(), most.clone()).await;
            probes.push(Probe::Http { port, path: "/".into() });
        } else {
            let (listener, address) = listener().await;
            open.push(listener);
            probes.push(Probe::Tcp { port: address.port() });
        }
    }
    let prober = Arc::new(LocalProber::new(Settings { connections: BOUND, ..Settings::default() }));
    let mut asked = JoinSet::new();
    for probe in probes {
        let prober = prober.clone();
        asked.spawn(async move { prober.probe(&Place::at(Ipv4Addr::LOCALHOST), &spec(probe)).await });
    }
    let outcomes = asked.join_all().await;
    let well = outcomes.iter().filter(|outcome| outcome.as_ref().is_ok_and(|o| o.answer == Answer::Well)).count();
    assert_eq!(
        well,
        1_000,
        "{:?}",
        outcomes.iter().find(|outcome| !matches!(outcome, Ok(o) if o.answer == Answer::Well))
    );
    let most = most.load(Ordering::SeqCst);
    assert!((1..=BOUND).contains(&most), "{most} at once");
}

#[tokio::test]
async fn waiting_for_a_turn_is_not_held_against_the_workload() {
    let prober = Arc::new(LocalProber::new(Settings { connections: 1, ..Settings::default() }));
    let (silent, _) = contract::says("").await;
    let (well, _) = contract::says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let place = Place::at(Ipv4Addr::LOCALHOST);
    let http = |port| Probe::Http { port, path: "/".into() };
    let (silent, well) = (short(http(silent)), spec(http(well)));
    // Three that take all of their time, and one behind them that would have none left.
    let (a, b, c, last) = tokio::join!(
        prober.probe(&place, &silent),
        prober.probe(&place, &silent),
        prober.probe(&place, &silent),
        prober.probe(&place, &well),
    );
    for silent in [a, b, c] {
        assert!(matches!(silent.unwrap().answer, Answer::Unwell { .. }));
    }
    assert_eq!(last.unwrap().answer, Answer::Well);
}
