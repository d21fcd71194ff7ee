//! Who is alive, and what this node should do about the shards. No clock of another machine is
//! read: a node is alive while its beat changes, as seen from here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use protocol::{Epoch, NodeId, ShardId};

use super::placement;
use crate::ports::{Beat, Lease};

/// What this node has seen of the others.
#[derive(Debug)]
pub struct Membership {
    dead_after: Duration,
    looked: Duration,
    seen: BTreeMap<NodeId, (u64, Duration)>,
}

impl Membership {
    /// A node whose beat stays the same for `dead_after` is taken for dead.
    pub const fn new(dead_after: Duration) -> Self {
        Self { dead_after, looked: Duration::ZERO, seen: BTreeMap::new() }
    }

    /// Takes in the beats as they are at `now` (since any fixed moment). Answers who is alive.
    pub fn observe(&mut self, beats: &[Beat], now: Duration) -> BTreeSet<NodeId> {
        // Whoever did not look for a while cannot tell who was silent meanwhile: everybody starts
        // anew, or a node that comes back from a pause would take its peers for dead.
        let blind = now.saturating_sub(self.looked) >= self.dead_after / 2;
        self.looked = now;
        self.seen.retain(|node, _| beats.iter().any(|beat| beat.node == *node));
        for beat in beats {
            let seen = self.seen.entry(beat.node.clone()).or_insert((beat.number, now));
            if blind || seen.0 != beat.number {
                *seen = (beat.number, now);
            }
        }
        let alive = self.seen.iter().filter(|(_, (_, changed))| now.saturating_sub(*changed) < self.dead_after);
        alive.map(|(node, _)| node.clone()).collect()
    }
}

/// What to do about a shard.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Move {
    /// Claim its lease over this epoch, and take it over.
    Claim(ShardId, Epoch),
    /// Finish and give it back: another live node should have it.
    HandOver(ShardId),
    /// Another node has it: stop at once.
    Stop(ShardId),
}

/// What `me` should do, given who is alive, the leases, and which shards run here under which
/// epoch.
pub fn plan(
    me: &NodeId,
    shards: u16,
    live: &BTreeSet<NodeId>,
    leases: &[Lease],
    running: &BTreeMap<ShardId, Epoch>,
) -> Vec<Move> {
    // Whoever does not even see itself sees nothing it could judge by.
    if !live.contains(me) {
        return Vec::new();
    }
    let members: Vec<NodeId> = live.iter().cloned().collect();
    let mut moves = Vec::new();
    for shard in (0..shards).map(ShardId) {
        let wanted = placement::owner(shard, &members) == Some(me);
        let lease = leases.iter().find(|lease| lease.shard == shard);
        let epoch = lease.map_or(Epoch(0), |lease| lease.epoch);
        let owner = lease.and_then(|lease| lease.owner.as_ref());
        let held = running.get(&shard);
        match (owner, held) {
            (Some(owner), Some(_)) if owner == me && wanted => {}
            (Some(owner), Some(_)) if owner == me => moves.push(Move::HandOver(shard)),
            // It ran here before a restart of this process: nobody else may serve it, so we do.
            (Some(owner), None) if owner == me => moves.push(Move::Claim(shard, epoch)),
            // A lease read before our own claim is no reason to stop.
            (Some(_) | None, Some(ours)) if *ours >= epoch => {}
            (Some(_) | None, Some(_)) => moves.push(Move::Stop(shard)),
            (Some(owner), None) if live.contains(owner) => {}
            (Some(_) | None, None) if wanted => moves.push(Move::Claim(shard, epoch)),
            (Some(_) | None, None) => {}
        }
    }
    moves
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn beat(name: &str, number: u64) -> Beat {
        Beat { node: node(name), number, info: bytes::Bytes::new() }
    }

    fn names(live: &BTreeSet<NodeId>) -> Vec<&str> {
        live.iter().map(NodeId::as_str).collect()
    }

    #[test]
    fn a_node_is_alive_while_its_beat_changes() {
        let mut seen = Membership::new(Duration::from_secs(1));
        let at = Duration::from_millis;
        assert_eq!(names(&seen.observe(&[beat("a", 1), beat("b", 1)], at(0))), ["a", "b"]);
        assert_eq!(names(&seen.observe(&[beat("a", 2), beat("b", 1)], at(400))), ["a", "b"]);
        assert_eq!(names(&seen.observe(&[beat("a", 3), beat("b", 1)], at(800))), ["a", "b"]);
        assert_eq!(names(&seen.observe(&[beat("a", 4), beat("b", 1)], at(1_000))), ["a"]);
        assert_eq!(names(&seen.observe(&[beat("a", 4), beat("b", 2)], at(1_100))), ["a", "b"], "it came back");
        assert_eq!(names(&seen.observe(&[beat("b", 3)], at(1_200))), ["b"], "a left in order");
    }

    #[test]
    fn whoever_was_paused_does_not_take_the_others_for_dead() {
        let mut seen = Membership::new(Duration::from_secs(1));
        seen.observe(&[beat("a", 1), beat("b", 1)], Duration::ZERO);
        let live = seen.observe(&[beat("a", 1), beat("b", 1)], Duration::from_secs(30));
        assert_eq!(names(&live), ["a", "b"]);
    }

    #[test]
    fn what_to_do_about_a_shard() {
        let (me, shard) = (node("a"), ShardId(0));
        let live = |names: &[&str]| names.iter().map(|name| node(name)).collect::<BTreeSet<_>>();
        let other_wanted = (0..100u16)
            .map(|n| format!("b{n}"))
            .find(|name| placement::owner(shard, &[node("a"), node(name)]) == Some(&node(name)))
            .unwrap();
        let lease = |owner: Option<&str>| vec![Lease { shard, owner: owner.map(node), epoch: Epoch(7) }];
        let running = BTreeMap::from([(shard, Epoch(7))]);
        let older = BTreeMap::from([(shard, Epoch(5))]);
        let none = BTreeMap::new();
        let both = live(&["a", &other_wanted]);
        let table = [
            ("blind", live(&["z"]), vec![], &none, vec![]),
            ("never owned", live(&["a"]), vec![], &none, vec![Move::Claim(shard, Epoch(0))]),
            ("given back", live(&["a"]), lease(None), &none, vec![Move::Claim(shard, Epoch(7))]),
            ("ours and running", live(&["a"]), lease(Some("a")), &running, vec![]),
            ("ours from before", live(&["a"]), lease(Some("a")), &none, vec![Move::Claim(shard, Epoch(7))]),
            ("owner dead", live(&["a"]), lease(Some("z")), &none, vec![Move::Claim(shard, Epoch(7))]),
            ("another should have it", both.clone(), lease(Some("a")), &running, vec![Move::HandOver(shard)]),
            ("another has it", both.clone(), lease(Some(&other_wanted)), &none, vec![]),
            ("another took it", both.clone(), lease(Some(&other_wanted)), &older, vec![Move::Stop(shard)]),
            ("another may claim it", both, lease(None), &none, vec![]),
        ];
        for (story, live, leases, running, moves) in table {
            assert_eq!(plan(&me, 1, &live, &leases, running), moves, "{story}");
        }
    }
}
