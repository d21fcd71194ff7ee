//! Which live node should own which shard: as many for each as for any other, give or take one, and
//! of what is owned already as much as possible stays where it is.
//!
//! Every node that sees the same members and the same leases comes to the same answer. Carrying out
//! a part of the answer does not change the rest of it, so nodes may act on it one by one and in any
//! order. Nothing here is random and nothing is remembered: what was decided stands in the leases.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{NodeId, ShardId};

/// The node that should own each shard of `0..shards`, where `owner` is the present one of each. Empty
/// when nobody is alive. An owner that is not among the `members` counts as none.
pub fn assign<'a>(
    shards: u16,
    members: &'a BTreeSet<NodeId>,
    owner: impl Fn(ShardId) -> Option<&'a NodeId>,
) -> BTreeMap<ShardId, &'a NodeId> {
    if members.is_empty() {
        return BTreeMap::new();
    }
    let mut owned: BTreeMap<&NodeId, Vec<ShardId>> = members.iter().map(|node| (node, Vec::new())).collect();
    let mut free = BTreeSet::new();
    for shard in (0..shards).map(ShardId) {
        match owner(shard).and_then(|node| owned.get_mut(node)) {
            Some(owned) => owned.push(shard),
            None => drop(free.insert(shard)),
        }
    }
    let (share, mut rest) = (usize::from(shards) / members.len(), usize::from(shards) % members.len());
    // What does not divide goes first to those who would have to give something away otherwise. Apart
    // from that only the name counts: a node that has taken half of its share must not be preferred,
    // or the answer would change while it is carried out.
    let (above, below): (Vec<&NodeId>, Vec<&NodeId>) = owned.keys().partition(|node| owned[*node].len() > share);
    let mut room: BTreeMap<&NodeId, usize> = BTreeMap::new();
    for node in above.into_iter().chain(below) {
        let one_more = rest.min(1);
        rest -= one_more;
        room.insert(node, share + one_more);
    }
    let mut assigned = BTreeMap::new();
    for (node, shards) in owned {
        for shard in shards {
            match room.get_mut(node) {
                Some(room) if *room > 0 => {
                    *room -= 1;
                    assigned.insert(shard, node);
                }
                Some(_) | None => drop(free.insert(shard)),
            }
        }
    }
    let places = room.into_iter().flat_map(|(node, room)| std::iter::repeat_n(node, room));
    assigned.extend(free.into_iter().zip(places));
    assigned
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    type Owners = BTreeMap<ShardId, NodeId>;

    fn node(n: usize) -> NodeId {
        NodeId::new(format!("n{n}")).unwrap()
    }

    fn nodes(of: impl IntoIterator<Item = usize>) -> BTreeSet<NodeId> {
        of.into_iter().map(node).collect()
    }

    /// `n1 n1 n2 -`: who owns shard 0, 1, 2, and nobody owns shard 3.
    fn owners(text: &str) -> Owners {
        let words = text.split_whitespace().enumerate().filter(|(_, word)| *word != "-");
        words.map(|(shard, word)| (ShardId(shard as u16), NodeId::new(word).unwrap())).collect()
    }

    fn settle(shards: u16, members: &BTreeSet<NodeId>, before: &Owners) -> Owners {
        let assigned = assign(shards, members, |shard| before.get(&shard).filter(|node| members.contains(*node)));
        assigned.into_iter().map(|(shard, node)| (shard, node.clone())).collect()
    }

    fn counts(members: &BTreeSet<NodeId>, owners: &Owners) -> Vec<usize> {
        members.iter().map(|node| owners.values().filter(|owner| *owner == node).count()).collect()
    }

    fn spread(members: &BTreeSet<NodeId>, owners: &Owners) -> usize {
        let counts = counts(members, owners);
        counts.iter().max().unwrap_or(&0) - counts.iter().min().unwrap_or(&0)
    }

    /// Shards that change from one live node to another.
    fn moved(members: &BTreeSet<NodeId>, before: &Owners, after: &Owners) -> usize {
        before.iter().filter(|(shard, node)| members.contains(*node) && after.get(shard) != Some(*node)).count()
    }

    /// The fewest moves that leave nobody two more than another: by trying every way to deal the
    /// shares.
    fn fewest(shards: u16, members: &BTreeSet<NodeId>, before: &Owners) -> usize {
        let (share, rest) = (usize::from(shards) / members.len(), usize::from(shards) % members.len());
        let counts = counts(members, before);
        let ways = (0u32..1 << members.len()).filter(|way| way.count_ones() as usize == rest);
        let cost = |way: u32| {
            let allowed = |n: usize| share + (way >> n & 1) as usize;
            counts.iter().enumerate().map(|(n, count)| count.saturating_sub(allowed(n))).sum()
        };
        ways.map(cost).min().unwrap_or(0)
    }

    #[test]
    fn three_nodes_share_four_eight_and_sixteen_shards() {
        let members = nodes(1..=3);
        for (shards, shares) in [(4, [2, 1, 1]), (8, [3, 3, 2]), (16, [6, 5, 5])] {
            let all = settle(shards, &members, &Owners::new());
            assert_eq!(counts(&members, &all), shares, "{shards} shards that nobody owned");
            let of_one = (0..shards).map(|shard| (ShardId(shard), node(2))).collect();
            let mut after = counts(&members, &settle(shards, &members, &of_one));
            after.sort_unstable();
            after.reverse();
            assert_eq!(after, shares, "{shards} shards that one had alone");
        }
    }

    #[test]
    fn who_gets_what_when_somebody_comes_or_goes() {
        let table = [
            ("all begin", 1..=3, "- - - -", "n1 n1 n2 n3"),
            ("one is dead", 1..=2, "n1 n1 n2 n3", "n1 n1 n2 n2"),
            ("it comes back", 1..=3, "n1 n1 n2 n2", "n1 n1 n2 n3"),
            ("one of two is gone, the other takes it over", 2..=2, "n1 n1 n2 n2", "n2 n2 n2 n2"),
            ("three to nothing", 1..=3, "n2 n2 n2 n1", "n2 n2 n3 n1"),
            ("one too many stays where it is", 1..=3, "n3 n3 n1 n2", "n3 n3 n1 n2"),
            ("a fourth comes", 1..=4, "n1 n1 n2 n3", "n1 n4 n2 n3"),
            ("more nodes than shards", 1..=6, "- n6 - -", "n1 n6 n2 n3"),
            ("eight, one dead", 1..=2, "n1 n1 n1 n2 n2 n2 n3 n3", "n1 n1 n1 n2 n2 n2 n1 n2"),
            ("eight, it comes back", 1..=3, "n1 n1 n1 n2 n2 n2 n1 n2", "n1 n1 n1 n2 n2 n2 n3 n3"),
        ];
        for (story, live, before, after) in table {
            let shards = before.split_whitespace().count() as u16;
            assert_eq!(settle(shards, &nodes(live), &owners(before)), owners(after), "{story}");
        }
        assert!(assign(4, &BTreeSet::new(), |_| None).is_empty(), "nobody is there");
    }

    #[test]
    fn a_rolling_restart_moves_what_the_restarted_node_had_and_gives_it_its_share_back() {
        for shards in [4, 8, 16] {
            let all = nodes(1..=3);
            let mut owners = settle(shards, &all, &Owners::new());
            for gone in 1..=3 {
                let rest = nodes((1..=3).filter(|n| *n != gone));
                let without = settle(shards, &rest, &owners);
                assert_eq!(moved(&rest, &owners, &without), 0, "{shards} shards, n{gone} leaves");
                let again = settle(shards, &all, &without);
                assert_eq!(moved(&all, &without, &again), usize::from(shards) / 3, "{shards} shards, n{gone} is back");
                owners = again;
            }
        }
    }

    proptest! {
        #[test]
        fn nobody_has_two_more_than_another_and_the_fewest_move(
            shards in prop::sample::select(vec![1u16, 4, 8, 16, 31]),
            comings in prop::collection::vec(prop::collection::btree_set(0usize..7, 1..7), 1..8),
        ) {
            let mut before = Owners::new();
            for live in comings {
                let members = nodes(live);
                let after = settle(shards, &members, &before);
                prop_assert_eq!(after.len(), usize::from(shards), "every shard has an owner");
                prop_assert!(spread(&members, &after) <= 1, "{:?}", after);
                prop_assert_eq!(moved(&members, &before, &after), fewest(shards, &members, &before));
                prop_assert_eq!(&settle(shards, &members, &after), &after, "what is settled stays");
                before = after;
            }
        }

        #[test]
        fn a_part_of_the_answer_leaves_the_rest_as_it_is(
            had in prop::collection::vec(0usize..6, 16),
            members in prop::collection::btree_set(0usize..6, 1..6),
            done in prop::collection::vec(0u8..3, 16),
        ) {
            let members = nodes(members);
            let before: Owners =
                had.iter().enumerate().map(|(shard, n)| (ShardId(shard as u16), node(*n))).collect();
            let after = settle(16, &members, &before);
            let mut halfway = before.clone();
            for (shard, done) in done.iter().enumerate().map(|(shard, done)| (ShardId(shard as u16), done)) {
                if before[&shard] != after[&shard] {
                    match done {
                        0 => {}                                                   // nothing yet
                        1 => drop(halfway.remove(&shard)),                        // given back
                        _ => drop(halfway.insert(shard, after[&shard].clone())),  // taken over
                    }
                }
            }
            prop_assert_eq!(settle(16, &members, &halfway), after);
        }
    }
}
