//! How long a fault held sagas up, read from the journal afterwards.
//!
//! For a fault of one node: from the fault to the first frame with a saga's record that another
//! ownership wrote to a shard which that node owned. For a fault of servers: from the fault to the
//! first frame with a record, for every shard. Both by the time at which a server stored the frame;
//! all of a run is one machine, so the fault's time is by the same clock.

use std::collections::BTreeMap;
use std::time::Duration;

use protocol::{ShardId, Time};

use super::kinds::Kind;
use super::read::Seen;

/// A shard whose last frame is older than this was not going on when the fault came: what held it up
/// then was another.
const GOING: Duration = Duration::from_millis(500);
/// An owner that still writes after this was not hurt by the fault.
const UNHURT: Duration = Duration::from_secs(1);
/// Frames later than this after a fault are no answer to it.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Whom a fault hit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Victim {
    /// A node: the shards that it owned.
    Node(String),
    /// Servers, or everything: all shards.
    Everybody,
}

/// One fault, as it was made.
#[derive(Clone, Debug)]
pub struct Fault {
    /// What was done.
    pub kind: Kind,
    /// When it was done.
    pub at: Time,
    /// To whom.
    pub victim: Victim,
}

/// Times to first progress of each kind, one for each shard that a fault of it hit.
pub fn times(frames: &[Seen], faults: &[Fault]) -> BTreeMap<Kind, Vec<Duration>> {
    let mut shards: BTreeMap<ShardId, Vec<&Seen>> = BTreeMap::new();
    for frame in frames {
        shards.entry(frame.shard).or_default().push(frame);
    }
    let mut times: BTreeMap<Kind, Vec<Duration>> = BTreeMap::new();
    for fault in faults {
        let found = shards.values().filter_map(|frames| first(frames, fault));
        times.entry(fault.kind).or_default().extend(found);
    }
    times.values_mut().for_each(|times| times.sort_unstable());
    times
}

fn first(frames: &[&Seen], fault: &Fault) -> Option<Duration> {
    let before = frames.iter().take_while(|frame| frame.at <= fault.at);
    let (place, last) = before.enumerate().last()?;
    if fault.at.since(last.at) > GOING {
        return None;
    }
    let mut later = frames[place + 1..].iter().filter(|frame| frame.records > 0);
    let next = match &fault.victim {
        Victim::Node(node) if last.node.as_str() != node => return None,
        // One that leaves in order goes on until it has handed over.
        Victim::Node(_) if fault.kind != Kind::RollNodes && went_on(&frames[place + 1..], fault, last) => return None,
        Victim::Node(_) => later.find(|frame| frame.ownership != last.ownership),
        Victim::Everybody => later.next(),
    };
    let took = next?.at.since(fault.at);
    (took < ANSWER_WITHIN).then_some(took)
}

fn went_on(frames: &[&Seen], fault: &Fault, last: &Seen) -> bool {
    let own = frames.iter().filter(|frame| frame.ownership == last.ownership);
    own.map(|frame| frame.at.since(fault.at)).any(|after| after > UNHURT && after < ANSWER_WITHIN)
}

/// The value below which `share` of `sorted` are.
pub fn quantile(sorted: &[Duration], share: f64) -> Option<Duration> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let place = ((sorted.len() as f64 * share).ceil() as usize).saturating_sub(1);
    sorted.get(place).copied()
}

#[cfg(test)]
mod tests {
    use protocol::{Epoch, NodeId};

    use super::*;

    fn seen(at_ms: i64, node: &str, epoch: u64, records: usize) -> Seen {
        let at = Time::from_micros(at_ms * 1_000);
        Seen { shard: ShardId(0), at, node: NodeId::new(node).unwrap(), ownership: (Epoch(epoch), 1), records }
    }

    #[test]
    fn progress_is_the_new_owners_first_record_and_not_its_takeover() {
        let frames = [seen(10, "a", 1, 0), seen(20, "a", 1, 3), seen(900, "b", 2, 0), seen(950, "b", 2, 1)];
        let fault = |victim| Fault { kind: Kind::KillNode, at: Time::from_micros(100_000), victim };
        let times = |victim| times(&frames, &[fault(victim)]).remove(&Kind::KillNode).unwrap();
        assert_eq!(times(Victim::Node("a".into())), [Duration::from_millis(850)]);
        assert!(times(Victim::Node("b".into())).is_empty());
        assert_eq!(times(Victim::Everybody), [Duration::from_millis(850)]);
        // The former owner went on instead: nothing changed hands.
        let on = |frames: &[Seen]| super::times(frames, &[fault(Victim::Node("a".into()))])[&Kind::KillNode].clone();
        assert!(on(&[seen(20, "a", 1, 3), seen(120, "a", 1, 1)]).is_empty());
        assert!(on(&[seen(20, "a", 1, 3), seen(9_000, "a", 1, 1), seen(20_000, "b", 2, 1)]).is_empty(), "unhurt");
        let late = super::times(
            &[seen(10, "a", 1, 3), seen(1_900, "b", 2, 1)],
            &[Fault { kind: Kind::KillNode, at: Time::from_micros(1_500_000), victim: Victim::Node("a".into()) }],
        );
        assert!(late[&Kind::KillNode].is_empty(), "it stood still before");
    }

    #[test]
    fn quantiles() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Some(Duration::from_millis(50)));
        assert_eq!(quantile(&times, 0.99), Some(Duration::from_millis(99)));
        assert_eq!(quantile(&[], 0.5), None);
    }
}
