//! How fast a service may grow and shrink (D304).

use protocol::Time;

use crate::runtime::model::scaling::{Behaviour, Limit, ScalingPolicy, Select, Step};
use crate::runtime::workers::scaling::decide::Memory;

/// The most replicas now; `None` when it may not grow at all.
pub(super) fn limit_up(policy: &ScalingPolicy, memory: &Memory, current: u32, now: Time) -> Option<u32> {
    let most = |limit: &Limit| {
        let grown = within(memory, limit, now).map(|(from, to)| to.saturating_sub(from)).sum::<u32>();
        let start = current.saturating_sub(grown);
        match limit.by {
            Step::Count(count) => start.saturating_add(count),
            Step::Percent(percent) => start.saturating_add(part_up(start, percent)),
        }
    };
    // With Max the limit that allows most counts; more is more.
    select(&policy.up, most, u32::MAX, |select, limits| match select {
        Select::Max => limits.max(),
        Select::Min => limits.min(),
        Select::Disabled => None,
    })
}

/// The fewest replicas now; `None` when it may not shrink at all.
pub(super) fn limit_down(policy: &ScalingPolicy, memory: &Memory, current: u32, now: Time) -> Option<u32> {
    let least = |limit: &Limit| {
        let shrunk = within(memory, limit, now).map(|(from, to)| from.saturating_sub(to)).sum::<u32>();
        let start = current.saturating_add(shrunk);
        match limit.by {
            Step::Count(count) => start.saturating_sub(count),
            Step::Percent(percent) => start.saturating_sub(part_up(start, percent)),
        }
    };
    // With Max the limit that allows most counts; here that is the fewest left.
    select(&policy.down, least, 0, |select, limits| match select {
        Select::Max => limits.min(),
        Select::Min => limits.max(),
        Select::Disabled => None,
    })
}

fn select(
    way: &Behaviour,
    bound: impl Fn(&Limit) -> u32,
    free: u32,
    choose: impl Fn(Select, &mut dyn Iterator<Item = u32>) -> Option<u32>,
) -> Option<u32> {
    match (way.select, way.limits.is_empty()) {
        (Select::Disabled, _) => None,
        (Select::Max | Select::Min, true) => Some(free),
        (Select::Max | Select::Min, false) => choose(way.select, &mut way.limits.iter().map(bound)),
    }
}

/// The changes within the limit's period, from and to.
fn within<'a>(memory: &'a Memory, limit: &'a Limit, now: Time) -> impl Iterator<Item = (u32, u32)> + 'a {
    let young = move |at: &Time| now.since(*at) < limit.period;
    memory.changes.iter().filter(move |(at, _, _)| young(at)).map(|(_, from, to)| (*from, *to))
}

fn part_up(count: u32, percent: u32) -> u32 {
    u32::try_from((u64::from(count) * u64::from(percent)).div_ceil(100)).unwrap_or(u32::MAX)
}
