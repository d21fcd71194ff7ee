//! The way back: traffic first, then the new set goes. Without anything good to go back to the
//! traffic stops (H08).

use supervisor::activity::{Attempt, Failure};

use super::claim::{Whose, own};
use super::desk::{Desk, Entered};
use super::drive::{LOOK_EVERY, Until, drive};
use crate::runtime::compute::{Route, SetId};
use crate::runtime::model::deployment::shortened;
use crate::runtime::model::strategy::Rolling;
use crate::runtime::model::{DeploymentState, Strategy};
use crate::runtime::records::deployments::Record;
use crate::runtime::rollout::{Phase, Plan, RolloutState};
use crate::runtime::store::Read;

/// Brings back what was there before, and answers whether that was anything.
pub(super) async fn back(
    desk: &Desk,
    attempt: &Attempt,
    entered: &Entered,
    read: &mut Read<Record>,
    why: &str,
) -> Result<bool, Failure> {
    let restorable = read.value.previous.is_some() && !read.value.nowhere;
    if read.value.idle() || read.value.rollout.is_none() {
        return Ok(restorable);
    }
    match own(desk, entered, &read.value, why).await? {
        Whose::Ours => {}
        Whose::Gone => return Ok(restorable),
    }
    let now = desk.ports.clock.now();
    desk.change(&entered.place, read, |record| {
        record.deployment.state = DeploymentState::RollingBack;
        record.deployment.why.get_or_insert_with(|| shortened(why));
        if let Some(rollout) = &record.rollout {
            record.rollout = Some(turned(rollout, record, why, now));
        }
    })
    .await?;
    // A set without replicas takes no traffic back step by step.
    let stands = read.value.previous.as_ref().is_some_and(|previous| previous.revision.replicas > 0);
    if restorable && stands && !read.value.same_set() {
        drive(desk, attempt, entered, read, Until::Back).await?;
    }
    settle(desk, attempt, entered, &read.value).await?;
    Ok(restorable)
}

/// The rollout, where its own plan knows no way back from: it was promoted already, or stuck on the
/// way back before. Old replicas may be gone, so they come back one by one as the new ones go.
fn turned(rollout: &RolloutState, record: &Record, why: &str, now: protocol::Time) -> RolloutState {
    match rollout.phase {
        Phase::Retiring | Phase::Done | Phase::Stuck { .. } => {
            let replicas = record.previous.as_ref().map_or(0, |previous| previous.revision.replicas);
            let plan = Plan {
                strategy: Strategy::RollingHealthGated(Rolling::default()),
                replicas,
                stable: record.previous.is_some(),
                ..rollout.plan.clone()
            };
            let mut turned = RolloutState::begin(plan, now);
            turned.phase = Phase::Aborting { why: shortened(why) };
            turned
        }
        Phase::Rolling
        | Phase::Step { .. }
        | Phase::Promoting
        | Phase::Preview
        | Phase::Before
        | Phase::AwaitSwitch
        | Phase::Switching
        | Phase::After
        | Phase::Aborting { .. }
        | Phase::Aborted { .. } => rollout.clone(),
    }
}

/// Leaves exactly what was there before.
async fn settle(desk: &Desk, attempt: &Attempt, entered: &Entered, record: &Record) -> Result<(), Failure> {
    let (place, compute) = (&entered.place, &desk.ports.compute);
    let (environment, service) = (place.environment.as_str(), place.service.as_str());
    let previous = record.previous.as_ref().filter(|_| !record.nowhere);
    match previous {
        Some(previous) => {
            let set = previous.set(&*desk.ports.store, place, &record.tenant).await?;
            compute.apply(&set).await?;
            compute.route(environment, service, &[Route::new(&previous.set, 100)]).await?;
        }
        None => compute.route(environment, service, &[]).await?,
    }
    match previous.is_some_and(|previous| previous.set == record.comes.set) {
        true => Ok(()),
        false => remove(desk, attempt, &record.comes.id(place)).await,
    }
}

/// Removes a set, and says on the way that the attempt is alive: requests under way may take a while.
pub(in crate::runtime) async fn remove(desk: &Desk, attempt: &Attempt, id: &SetId) -> Result<(), Failure> {
    let removing = desk.ports.compute.remove(id);
    tokio::pin!(removing);
    loop {
        attempt.heartbeat.beat();
        tokio::select! {
            removed = &mut removing => return removed,
            () = tokio::time::sleep(LOOK_EVERY * 5) => {}
        }
    }
}
