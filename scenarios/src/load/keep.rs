//! Keeps sagas under way until told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use node::client::Client;
use tokio::task::{JoinHandle, JoinSet};

use super::{Planned, Played};
use crate::check::Acknowledged;
use crate::dice::Dice;

/// What a load was.
#[derive(Default, Debug)]
pub struct Load {
    /// Its sagas.
    pub planned: Vec<Planned>,
    /// Commands that were acknowledged.
    pub acknowledged: Vec<Acknowledged>,
    /// The longest time that one start took.
    pub slowest: Duration,
    /// What is wrong with how they went, in sentences.
    pub wrong: Vec<String>,
}

/// A load that is kept up.
#[derive(Debug)]
pub struct Keeping {
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
    task: JoinHandle<Load>,
}

impl Keeping {
    /// Keeps `at_once` sagas of `plan` under way, started in turn by `clients`.
    pub fn start(clients: Vec<Client>, dice: Dice, plan: fn(&mut Dice, usize) -> Planned, at_once: usize) -> Self {
        let (stop, ended) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn(keep(clients, dice, plan, at_once, stop.clone(), ended.clone()));
        Self { stop, ended, task }
    }

    /// How many have ended.
    pub fn ended(&self) -> u64 {
        self.ended.load(Relaxed)
    }

    /// Starts no more and waits until all have ended.
    pub async fn finish(self) -> anyhow::Result<Load> {
        self.stop.store(true, Relaxed);
        Ok(self.task.await?)
    }
}

async fn keep(
    clients: Vec<Client>,
    mut dice: Dice,
    plan: fn(&mut Dice, usize) -> Planned,
    at_once: usize,
    stop: Arc<AtomicBool>,
    ended: Arc<AtomicU64>,
) -> Load {
    let mut load = Load::default();
    let mut under_way = JoinSet::new();
    loop {
        while !stop.load(Relaxed) && under_way.len() < at_once {
            let number = load.planned.len();
            let (saga, client) = (plan(&mut dice, number), clients[number % clients.len()].clone());
            load.planned.push(saga.clone());
            under_way.spawn(async move {
                let mut played = saga.play(&client).await;
                if played.wrong.is_empty() {
                    played.wrong = saga.check_end(&client).await;
                }
                played
            });
        }
        let Some(over) = under_way.join_next().await else { return load };
        ended.fetch_add(1, Relaxed);
        match over {
            Ok(Played { took, acknowledged, wrong }) => {
                load.slowest = load.slowest.max(took);
                load.acknowledged.extend(acknowledged);
                load.wrong.extend(wrong);
            }
            Err(error) => load.wrong.push(format!("a task of the load ended: {error}")),
        }
    }
}
