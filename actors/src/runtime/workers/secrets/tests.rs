use std::sync::{Arc, Mutex};

use protocol::Principal;

use super::*;
use crate::runtime::control::world::{World, acme, web};
use crate::runtime::model::{SecretBindingId, Stage};
use crate::runtime::ports::secrets::{Label, Opens, Secret, State, StoredVersions};
use crate::runtime::records::secrets::{Put, Secrets};

fn worker(world: &World) -> SecretRotation {
    SecretRotation::new(&world.ports)
}

fn db() -> SecretBindingId {
    SecretBindingId::new("db").unwrap()
}

fn secrets(world: &World) -> Secrets {
    Secrets::new(world.store.clone(), world.ports.secrets.clone(), acme(), world.place().environment)
}

async fn put(world: &World, token: &str, value: &str) -> Put {
    let (ann, token) = (Principal::new("ann").unwrap(), RequestKey::new(token).unwrap());
    secrets(world).put(&db(), &token, Secret::new(value), &ann, world.now()).await.unwrap()
}

async fn wanted(world: &World) {
    assert!(secrets(world).request(&db(), &Principal::new("ann").unwrap(), world.now()).await.unwrap());
}

/// A service that runs on version 1.
async fn bound() -> World {
    let world = World::new(Stage::Dev).await;
    assert_eq!(put(&world, "one", "hunter1").await, Put::Current(1));
    secrets(&world).bind(&db(), Some(&web()), None).await.unwrap();
    world.deployed(world.with_secret(world.revision("d1", 1, 2), "db", 1)).await;
    world
}

/// Which versions can be read, and which one counts.
async fn versions(world: &World) -> (Vec<(u64, State)>, Option<u64>) {
    let name = reference(&world.place().environment, &db()).unwrap();
    let known = world.ports.secrets.describe(&name).await.unwrap().unwrap();
    (known.versions.iter().map(|it| (it.number, it.state)).collect(), known.labels.at(Label::Current))
}

fn uses(world: &World) -> u64 {
    world.running().secrets["DB"].version
}

/// F52, F53: created, set, tested, finished; the services take it over, and then the old one goes.
#[tokio::test(start_paused = true)]
async fn a_secret_is_rotated_and_the_old_one_retired_when_all_run_on_the_new_one() {
    let world = bound().await;
    let worker = worker(&world);
    world.is_quiet(&worker).await;
    wanted(&world).await;
    let report = world.run(&worker).await.unwrap();
    assert!(report.did.contains("Finish of version 2") && report.did.contains("Retire of version 2"), "{report:?}");
    assert_eq!((uses(&world), world.state().await.current.unwrap().secrets[&db()]), (2, 2));
    assert_eq!(versions(&world).await, (vec![(1, State::Retired), (2, State::Active)], Some(2)));
    assert_eq!(world.heard(), ["SecretRotated"]);
    let known = secrets(&world).list().await.unwrap().remove(0);
    assert_eq!((known.version, known.requested), (2, None));
    world.is_quiet(&worker).await;
    world.wait(86_400);
    world.is_quiet(&worker).await;
    let said = format!("{:?}", world.events());
    assert!(!said.contains("hunter"), "no value is told");
}

/// F53: while one of them cannot take it, the old version stays valid.
#[tokio::test(start_paused = true)]
async fn nothing_is_retired_while_somebody_runs_on_it() {
    let world = bound().await;
    world.broken("secret shop/db@2");
    wanted(&world).await;
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    assert_eq!(uses(&world), 1, "its replicas did not come up with the new one");
    assert_eq!(versions(&world).await, (vec![(1, State::Active), (2, State::Active)], Some(2)));
    // H18: after a while people are told, once.
    world.wait(1_801);
    world.run(&worker).await.unwrap();
    assert_eq!(world.heard().iter().filter(|event| *event == ALARM).count(), 1);
    world.mended();
    world.wait(1_000);
    world.run(&worker).await.unwrap();
    assert_eq!(uses(&world), 2);
    assert_eq!(versions(&world).await.0[0], (1, State::Retired));
    world.is_quiet(&worker).await;
}

/// F52: a value that no process can be given fails its test; the old one was current all along.
#[tokio::test(start_paused = true)]
async fn a_failed_test_keeps_the_old_one() {
    let world = bound().await;
    assert_eq!(put(&world, "two", "no\0good").await, Put::Pending(2));
    let worker = worker(&world);
    world.run(&worker).await.unwrap();
    assert_eq!((uses(&world), versions(&world).await.1), (1, Some(1)));
    assert_eq!(versions(&world).await.0[1], (2, State::Destroyed));
    assert_eq!(world.heard(), [ALARM]);
    world.is_quiet(&worker).await;
    // The next one has the next number.
    assert_eq!(put(&world, "three", "hunter3").await, Put::Pending(3));
    world.run(&worker).await.unwrap();
    assert_eq!((uses(&world), versions(&world).await.1), (3, Some(3)));
}

/// Something that a secret opens, and that is away or has changed its lock.
#[derive(Default)]
struct Database {
    away: Mutex<u32>,
    calls: Mutex<Vec<&'static str>>,
}

impl Database {
    fn called(&self, what: &'static str) -> Result<(), Failure> {
        self.calls.lock().unwrap().push(what);
        let mut away = self.away.lock().unwrap();
        if *away > 0 {
            *away -= 1;
            return Err(Failure::transient(what, "the database is away"));
        }
        Ok(())
    }
}

#[async_trait]
impl Opens for Database {
    async fn set(&self, _: &SecretName, _: &Secret) -> Result<(), Failure> {
        self.called("set")
    }
    async fn test(&self, _: &SecretName, _: &Secret) -> Result<(), Failure> {
        self.called("test")
    }
    async fn retire(&self, _: &SecretName, _: &Secret) -> Result<(), Failure> {
        self.called("retire")
    }
}

/// W048: five tries in all, each in a run's attempt of its own; then the old one is kept, and told.
#[tokio::test(start_paused = true)]
async fn a_step_is_tried_five_times_and_goes_on_where_it_stood() {
    let world = bound().await;
    let database = Arc::new(Database::default());
    let opens = StoredVersions::new(world.values.clone()).opens(database.clone());
    let worker = SecretRotation::new(&Ports { secrets: Arc::new(opens), ..world.ports.clone() });
    wanted(&world).await;
    *database.away.lock().unwrap() = 2;
    for _ in 0..2 {
        assert!(!world.run(&worker).await.unwrap_err().permanent);
    }
    world.run(&worker).await.unwrap();
    assert_eq!(*database.calls.lock().unwrap(), ["set", "set", "set", "test", "retire"]);
    assert_eq!(uses(&world), 2);
    wanted(&world).await;
    *database.away.lock().unwrap() = 100;
    for attempt in 1..=5 {
        let run = world.run(&worker).await;
        assert!(run.is_err(), "attempt {attempt}");
    }
    assert_eq!((uses(&world), versions(&world).await.1), (2, Some(2)));
    assert_eq!(world.heard().last().unwrap(), ALARM);
    world.is_quiet(&worker).await;
}

/// W044: by its own schedule.
#[tokio::test(start_paused = true)]
async fn a_secret_that_is_due_rotates_by_itself() {
    let world = bound().await;
    let hour = Some(Some(Duration::from_secs(3_600)));
    secrets(&world).bind(&db(), None, hour).await.unwrap();
    let worker = worker(&world);
    world.is_quiet(&worker).await;
    world.wait(3_600);
    world.run(&worker).await.unwrap();
    assert_eq!(uses(&world), 2);
    world.is_quiet(&worker).await;
}

/// A secret that nobody uses yet needs nobody's word.
#[tokio::test(start_paused = true)]
async fn a_secret_without_users_rotates_at_once() {
    let world = World::new(Stage::Dev).await;
    put(&world, "one", "hunter1").await;
    assert_eq!(put(&world, "two", "hunter2").await, Put::Pending(2));
    world.run(&worker(&world)).await.unwrap();
    assert_eq!(versions(&world).await, (vec![(1, State::Retired), (2, State::Active)], Some(2)));
}
