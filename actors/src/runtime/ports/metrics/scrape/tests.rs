//! The contract with real workloads on this machine, and what only scraping can show.

use std::net::Ipv4Addr;
use std::sync::Mutex as Lock;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::super::contract::{self, Stage, orders};
use super::*;

/// A clock that stands still until it is told.
struct Given(AtomicI64);

impl Given {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_micros() as i64, Ordering::SeqCst);
    }
}

impl Clock for Given {
    fn now(&self) -> Time {
        Time::from_micros(self.0.load(Ordering::SeqCst))
    }
}

/// A workload that answers at `/metrics`.
#[derive(Clone)]
struct Workload {
    answer: Arc<Lock<Option<String>>>,
    asked: Arc<AtomicUsize>,
    endpoint: Endpoint,
}

impl Workload {
    async fn start(replica: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Endpoint { replica: replica.into(), incarnation: 1, address };
        let workload = Self { answer: Arc::default(), asked: Arc::default(), endpoint };
        let served = workload.clone();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let read = stream.read(&mut request).await.unwrap_or(0);
                assert!(request[..read].starts_with(b"GET /metrics HTTP/1.1\r\n"));
                served.asked.fetch_add(1, Ordering::SeqCst);
                let answer = served.answer.lock().unwrap().clone();
                if let Some(text) = answer {
                    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", text.len());
                    stream.write_all((head + &text).as_bytes()).await.ok();
                }
            }
        });
        workload
    }

    fn says(&self, text: impl Into<String>) {
        *self.answer.lock().unwrap() = Some(text.into());
    }
}

/// Which replicas `prod/orders` has.
#[derive(Clone, Default)]
struct Table(Arc<Lock<Vec<Endpoint>>>);

#[async_trait]
impl Endpoints for Table {
    async fn endpoints(&self, of: &Subject) -> Result<Vec<Endpoint>, Failure> {
        Ok(if *of == orders() { self.0.lock().unwrap().clone() } else { Vec::new() })
    }
}

struct World {
    clock: Arc<Given>,
    table: Table,
    scraper: Scraper,
}

fn world(settings: Settings) -> World {
    let clock = Arc::new(Given(AtomicI64::new(1_700_000_000_000_000)));
    let table = Table::default();
    let scraper = Scraper::new(settings, Arc::new(table.clone()), clock.clone());
    World { clock, table, scraper }
}

impl World {
    fn replicas(&self, workloads: &[&Workload]) {
        *self.table.0.lock().unwrap() = workloads.iter().map(|workload| workload.endpoint.clone()).collect();
    }

    async fn queue(&self) -> Option<(f64, u32)> {
        let sample = self.scraper.sample(&orders(), &Query::Metric(Metric::Queue)).await.unwrap();
        sample.map(|sample| (sample.value, sample.missing))
    }
}

struct OneReplica(Arc<Given>, Workload);

#[async_trait]
impl Stage for OneReplica {
    async fn answer(&self, text: Option<String>) {
        *self.1.answer.lock().unwrap() = text;
    }
    async fn pass(&self) {
        self.0.pass(Duration::from_secs(10));
    }
    async fn grow_old(&self) {
        self.0.pass(Duration::from_secs(46));
    }
}

#[tokio::test]
async fn the_scraper_keeps_the_contract() {
    let world = world(Settings::default());
    let workload = Workload::start("a").await;
    world.replicas(&[&workload]);
    contract::hold(&world.scraper, &OneReplica(world.clock.clone(), workload)).await;
}

#[tokio::test]
async fn rates_are_of_the_time_that_passed() {
    let world = world(Settings::default());
    let (a, b) = (Workload::start("a").await, Workload::start("b").await);
    world.replicas(&[&a, &b]);
    let sample = async |metric| world.scraper.sample(&orders(), &Query::Metric(metric)).await.unwrap();
    a.says("http_requests_total 100\nprocess_cpu_seconds_total 1\n");
    b.says("http_requests_total 900\nprocess_cpu_seconds_total 2\n");
    assert_eq!(sample(Metric::Rps).await, None);
    world.clock.pass(Duration::from_secs(20));
    a.says("http_requests_total 300\nprocess_cpu_seconds_total 11\n");
    b.says("http_requests_total 1000\nprocess_cpu_seconds_total 7\n");
    let (rps, cpu) = (sample(Metric::Rps).await.unwrap(), sample(Metric::Cpu).await.unwrap());
    assert_eq!((rps.value, rps.missing), (15.0, 0), "10 and 5 in a second, together");
    assert_eq!(cpu.value, 37.5, "a half and a quarter of a core, in the mean");
    assert_eq!(rps.at, world.clock.now());
    // Asking again at once asks nobody.
    assert_eq!((a.asked.load(Ordering::SeqCst), b.asked.load(Ordering::SeqCst)), (2, 2));
}

#[tokio::test]
async fn a_replica_that_does_not_answer_is_said_to_be_missing() {
    let world = world(Settings { time: Duration::from_millis(200), body_bytes: 1_000, ..Settings::default() });
    let (a, b) = (Workload::start("a").await, Workload::start("b").await);
    world.replicas(&[&a, &b]);
    a.says("queue_depth 4\n");
    b.says("queue_depth 5\n");
    assert_eq!(world.queue().await, Some((9.0, 0)));
    for bad in ["<html>", &"# much\n".repeat(200), "queue_depth 5\nqueue depth 6\n"] {
        b.says(bad);
        world.clock.pass(Duration::from_secs(46));
        assert_eq!(world.queue().await, Some((4.0, 1)), "{bad:.20}");
    }
    // A look that fails leaves the last answer in place until it is too old.
    b.says("queue_depth 5\n");
    world.clock.pass(Duration::from_secs(10));
    assert_eq!(world.queue().await, Some((9.0, 0)));
    b.says("<html>");
    world.clock.pass(Duration::from_secs(10));
    assert_eq!(world.queue().await, Some((9.0, 0)));
    // A replica that is gone is not missing.
    world.replicas(&[&a]);
    world.clock.pass(Duration::from_secs(10));
    assert_eq!(world.queue().await, Some((4.0, 0)));
    // Nor is one asked where none may be.
    let mut far = b.clone();
    far.endpoint.address.set_ip(Ipv4Addr::new(169, 254, 169, 254).into());
    world.replicas(&[&a, &far]);
    world.clock.pass(Duration::from_secs(46));
    assert_eq!(world.queue().await, Some((4.0, 1)));
}

#[tokio::test]
async fn many_who_ask_at_once_cause_one_look() {
    let world = Arc::new(world(Settings::default()));
    let workload = Workload::start("a").await;
    workload.says("queue_depth 4\n");
    world.replicas(&[&workload]);
    let asking: Vec<_> = (0..20)
        .map(|_| {
            let world = world.clone();
            tokio::spawn(async move { world.queue().await })
        })
        .collect();
    for one in asking {
        assert_eq!(one.await.unwrap(), Some((4.0, 0)));
    }
    assert_eq!(workload.asked.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn what_was_not_asked_about_for_longest_is_forgotten() {
    let world = world(Settings { subjects: 2, ..Settings::default() });
    let workload = Workload::start("a").await;
    workload.says("queue_depth 4\n");
    world.replicas(&[&workload]);
    for n in 0..5 {
        let service = crate::runtime::model::ServiceId::new(format!("s{n}")).unwrap();
        let other = Subject { service, ..orders() };
        world.scraper.sample(&other, &Query::Metric(Metric::Queue)).await.unwrap();
        world.clock.pass(Duration::from_micros(1));
        assert!(world.scraper.slots.lock().await.len() <= 2);
    }
    assert_eq!(world.queue().await, Some((4.0, 0)));
}
