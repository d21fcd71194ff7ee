//! Having a set be what is asked of it, and all the requests of its service, or none, lead to it.

use supervisor::activity::Failure;

use super::observed::{Asked, Difference};
use super::{Compute, Route, Set};

/// Asks for what of `asked` is not seen, and says what is not seen then; `None`: all of it is. `set` is what is asked,
/// with as many replicas. Safe to repeat, and meant to be.
pub async fn settle(compute: &dyn Compute, set: &Set, asked: &Asked<'_>) -> Result<Option<Difference>, Failure> {
    let environment = set.id.environment.as_str();
    // Requests end before their replicas do, and begin after.
    if asked.weight == 0 {
        compute.route(environment, asked.service, &[]).await?;
        compute.apply(set).await?;
        return Ok(compute.observe(environment).await?.differs(asked));
    }
    compute.apply(set).await?;
    let observed = compute.observe(environment).await?;
    let of = observed.sets.iter().filter(|set| set.service == asked.service);
    let routed: Vec<_> = of.filter(|set| set.weight > 0).map(|set| (set.revision.as_str(), set.weight)).collect();
    if routed == [(asked.revision, asked.weight)] {
        return Ok(observed.differs(asked));
    }
    compute.route(environment, asked.service, &[Route::new(asked.revision, asked.weight)]).await?;
    Ok(compute.observe(environment).await?.differs(asked))
}
