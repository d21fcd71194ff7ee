//! What every adapter of [`Metrics`] must do.

use super::*;

/// The other side: one service, `prod/orders`, with one replica.
#[async_trait]
pub trait Stage: Send + Sync {
    /// From now on the replica answers with `text`. `None`: it does not answer at all.
    async fn answer(&self, text: Option<String>);
    /// Time passes until the adapter can have seen what the replica answers now, once more.
    async fn pass(&self);
    /// Time passes until everything that was seen is too old.
    async fn grow_old(&self);
}

/// The service of the stage.
pub fn orders() -> Subject {
    Subject { environment: EnvironmentId::new("prod").unwrap(), service: ServiceId::new("orders").unwrap() }
}

/// How often at most the stage lets time pass for one figure.
const PATIENCE: usize = 60;

async fn until(metrics: &dyn Metrics, stage: &dyn Stage, query: &Query, like: impl Fn(Option<f64>) -> bool) {
    let mut last = None;
    for _ in 0..PATIENCE {
        last = metrics.sample(&orders(), query).await.unwrap();
        if like(last.map(|sample| sample.value)) {
            return;
        }
        stage.pass().await;
    }
    panic!("{query} stays at {last:?}");
}

/// Holds `metrics` to the port's promises. `queue` is a gauge called `queue_depth`, `rps` the rate
/// of `http_requests_total`, and `cpu` that of `process_cpu_seconds_total` in percent.
pub async fn hold(metrics: &dyn Metrics, stage: &dyn Stage) {
    let [cpu, queue, rps] = [Metric::Cpu, Metric::Queue, Metric::Rps].map(Query::Metric);

    // What is not set up, and what is not there.
    let unknown = metrics.sample(&orders(), &Query::Named("nothing".into())).await.unwrap_err();
    assert_eq!((unknown.error.as_str(), unknown.permanent), ("UnknownQuery", true));
    let nobody = Subject { service: ServiceId::new("nobody").unwrap(), ..orders() };
    assert_eq!(metrics.sample(&nobody, &queue).await.unwrap(), None);

    // A gauge is what it is, with its moment.
    let text = |requests: u32, seconds: u32, waiting: &str| {
        Some(format!(
            "# TYPE http_requests_total counter\nhttp_requests_total{{code=\"200\"}} {requests}\n\
             process_cpu_seconds_total {seconds}\nqueue_depth {waiting}\n"
        ))
    };
    stage.answer(text(1_000, 10, "7")).await;
    until(metrics, stage, &queue, |value| value == Some(7.0)).await;
    let sample = metrics.sample(&orders(), &queue).await.unwrap().unwrap();
    stage.pass().await;
    stage.pass().await;
    let later = metrics.sample(&orders(), &queue).await.unwrap().unwrap();
    assert!(later.at > sample.at && later.value == 7.0, "{sample:?} {later:?}");

    // A counter that stands still is a rate of 0, which is not the same as none.
    until(metrics, stage, &rps, |value| value == Some(0.0)).await;
    stage.answer(text(2_000, 20, "9")).await;
    until(metrics, stage, &rps, |value| value.is_some_and(|value| value > 0.0)).await;
    until(metrics, stage, &cpu, |value| value.is_some_and(f64::is_finite)).await;
    until(metrics, stage, &queue, |value| value == Some(9.0)).await;

    // The workload begins anew: the rate stays a rate.
    stage.answer(text(5, 1, "0")).await;
    for _ in 0..3 {
        stage.pass().await;
        let rate = metrics.sample(&orders(), &rps).await.unwrap();
        assert!(rate.is_none_or(|sample| sample.value >= 0.0), "{rate:?}");
    }

    // No number is no figure.
    stage.answer(text(5, 1, "NaN")).await;
    until(metrics, stage, &queue, |value| value.is_none()).await;

    // Nor is what is too old.
    stage.answer(text(5, 1, "3")).await;
    until(metrics, stage, &queue, |value| value == Some(3.0)).await;
    stage.answer(None).await;
    stage.grow_old().await;
    until(metrics, stage, &queue, |value| value.is_none()).await;
    assert_eq!(metrics.sample(&orders(), &rps).await.unwrap(), None);
}
