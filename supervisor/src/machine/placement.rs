//! Which live node should own a shard: rendezvous hashing. Every node that sees the same members
//! comes to the same answer, and a node that comes or goes moves only its own share.

use protocol::{NodeId, ShardId};

/// The node among `members` that should own `shard`.
pub fn owner(shard: ShardId, members: &[NodeId]) -> Option<&NodeId> {
    // The name breaks ties, so that the order of the list never matters.
    members.iter().max_by_key(|node| (weight(shard, node), *node))
}

/// FNV-1a over the name and the shard, mixed so that close names do not score alike.
fn weight(shard: ShardId, node: &NodeId) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in node.as_str().bytes().chain([0]).chain(shard.0.to_be_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    super::functions::mix(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn nodes(count: usize) -> Vec<NodeId> {
        (0..count).map(|n| NodeId::new(format!("node-{n}")).unwrap()).collect()
    }

    #[test]
    fn shards_are_spread_evenly() {
        let members = nodes(5);
        let mut counts = [0usize; 5];
        for shard in 0..5_000 {
            let owner = owner(ShardId(shard), &members).unwrap();
            counts[members.iter().position(|node| node == owner).unwrap()] += 1;
        }
        assert!(counts.iter().all(|count| (850..1_150).contains(count)), "{counts:?}");
        assert_eq!(owner(ShardId(0), &[]), None);
    }

    proptest! {
        #[test]
        fn a_node_that_leaves_moves_only_its_own_shards(count in 2usize..12, gone in 0usize..12, shard in 0u16..1_000) {
            let members = nodes(count);
            let gone = gone % count;
            let mut rest = members.clone();
            rest.remove(gone);
            rest.reverse();
            let before = owner(ShardId(shard), &members).unwrap();
            let after = owner(ShardId(shard), &rest).unwrap();
            if *before != members[gone] {
                prop_assert_eq!(before, after);
            }
        }
    }
}
