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
    let leases: BTreeMap<ShardId, &Lease> = leases.iter().map(|lease| (lease.shard, lease)).collect();
    let wanted = placement::assign(shards, live, |shard| leases.get(&shard)?.owner.as_ref());
    let mut moves = Vec::new();
    for shard in (0..shards).map(ShardId) {
        let wanted = wanted.get(&shard) == Some(&me);
        let lease = leases.get(&shard);
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
    use proptest::prelude::*;

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
        let lease = |owner: Option<&str>| vec![Lease { shard, owner: owner.map(node), epoch: Epoch(7) }];
        let running = BTreeMap::from([(shard, Epoch(7))]);
        let (older, newer) = (BTreeMap::from([(shard, Epoch(5))]), BTreeMap::from([(shard, Epoch(8))]));
        let none = BTreeMap::new();
        let both = live(&["a", "b"]);
        // `a` comes first where one shard is free for two.
        let first = live(&["0", "a"]);
        let table = [
            ("blind", live(&["z"]), vec![], &none, vec![]),
            ("never owned", live(&["a"]), vec![], &none, vec![Move::Claim(shard, Epoch(0))]),
            ("given back", both.clone(), lease(None), &none, vec![Move::Claim(shard, Epoch(7))]),
            ("ours and running", both.clone(), lease(Some("a")), &running, vec![]),
            ("ours from before", both.clone(), lease(Some("a")), &none, vec![Move::Claim(shard, Epoch(7))]),
            ("owner dead", both.clone(), lease(Some("z")), &none, vec![Move::Claim(shard, Epoch(7))]),
            ("another has it", both.clone(), lease(Some("b")), &none, vec![]),
            ("another took it", both.clone(), lease(Some("b")), &older, vec![Move::Stop(shard)]),
            ("our own claim is not seen yet", both, lease(None), &newer, vec![]),
            ("another may claim it", first, lease(None), &none, vec![]),
        ];
        for (story, live, leases, running, moves) in table {
            assert_eq!(plan(&me, 1, &live, &leases, running), moves, "{story}");
        }
    }

    #[test]
    fn who_has_two_too_many_hands_over() {
        let live: BTreeSet<_> = ["a", "b"].map(node).into();
        let epochs: BTreeMap<_, _> = (0..3).map(|shard| (ShardId(shard), Epoch(7))).collect();
        let leases: Vec<_> =
            (0..3).map(|n| Lease { shard: ShardId(n), owner: Some(node("a")), epoch: Epoch(7) }).collect();
        assert_eq!(plan(&node("a"), 3, &live, &leases, &epochs), [Move::HandOver(ShardId(2))]);
        assert_eq!(plan(&node("b"), 3, &live, &leases, &BTreeMap::new()), [], "not before it is given back");
    }

    /// Leases as they are, and as they were: a node may see any of the last few.
    struct Store {
        seen: Vec<(BTreeSet<NodeId>, Vec<Lease>)>,
        running: BTreeMap<NodeId, BTreeMap<ShardId, Epoch>>,
        handed_over: usize,
    }

    impl Store {
        /// `me` looks at what was so `ago` changes ago, and acts on it as it is now.
        fn look(&mut self, me: &NodeId, shards: u16, ago: usize) -> bool {
            let (live, leases) = self.seen[self.seen.len().saturating_sub(1 + ago)].clone();
            let running = self.running.entry(me.clone()).or_default();
            let moves = plan(me, shards, &live, &leases, running);
            let busy = !moves.is_empty();
            for step in moves {
                let (live, mut leases) = self.seen.last().unwrap().clone();
                let running = self.running.get_mut(me).unwrap();
                let mut change = |shard: ShardId, over: Epoch, owner: Option<NodeId>| {
                    let at = leases.iter().position(|lease| lease.shard == shard);
                    let free = at.map_or(Epoch(0), |at| leases[at].epoch) == over;
                    if free {
                        leases.retain(|lease| lease.shard != shard);
                        leases.push(Lease { shard, owner, epoch: Epoch(over.0 + 1) });
                    }
                    free
                };
                match step {
                    Move::Claim(shard, over) => {
                        if change(shard, over, Some(me.clone())) {
                            running.insert(shard, Epoch(over.0 + 1));
                        }
                    }
                    Move::HandOver(shard) => {
                        if let Some(held) = running.remove(&shard) {
                            self.handed_over += usize::from(change(shard, held, None));
                        }
                    }
                    Move::Stop(shard) => drop(running.remove(&shard)),
                }
                self.seen.push((live, leases));
            }
            busy
        }

        fn members(&mut self, live: BTreeSet<NodeId>) {
            self.running.retain(|node, _| live.contains(node));
            let leases = self.seen.last().unwrap().1.clone();
            self.seen.push((live, leases));
        }
    }

    proptest! {
        /// Nodes come and go, and each sees things as they were a while ago. Once they see things as
        /// they are, all is shared out after few looks, and nothing was moved in circles.
        #[test]
        fn nodes_that_see_old_things_do_not_pass_shards_round_and_round(
            shards in prop::sample::select(vec![4u16, 8, 16]),
            comings in prop::collection::vec(prop::collection::btree_set(0u8..4, 1..5), 1..5),
            looks in prop::collection::vec((0u8..4, 0usize..12), 0..60),
        ) {
            let name = |n: u8| node(&format!("n{n}"));
            let mut store =
                Store { seen: vec![(BTreeSet::new(), Vec::new())], running: BTreeMap::new(), handed_over: 0 };
            let changes = comings.len();
            let mut looks = looks.chunks(60 / changes + 1);
            for live in comings {
                store.members(live.iter().map(|n| name(*n)).collect());
                for (n, ago) in looks.next().unwrap_or_default().iter().filter(|(n, _)| live.contains(n)) {
                    store.look(&name(*n), shards, *ago);
                }
            }
            let live = store.seen.last().unwrap().0.clone();
            let before = store.handed_over;
            let mut rounds = 0;
            while live.iter().map(|node| store.look(node, shards, 0)).fold(false, |a, b| a | b) {
                rounds += 1;
                prop_assert!(rounds <= 3, "still moving");
            }
            prop_assert!(store.handed_over - before <= usize::from(shards), "each moves once at most");
            let leases = &store.seen.last().unwrap().1;
            let owned = |node: &NodeId| leases.iter().filter(|it| it.owner.as_ref() == Some(node)).count();
            let counts: Vec<usize> = live.iter().map(owned).collect();
            prop_assert_eq!(counts.iter().sum::<usize>(), usize::from(shards));
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{:?}", counts);
            for lease in leases {
                let runs = live.iter().filter(|node| store.running[*node].contains_key(&lease.shard)).count();
                prop_assert_eq!(runs, 1, "shard {} runs once", lease.shard);
            }
        }
    }
}
