//! What can be done to a cluster.

use std::fmt;
use std::str::FromStr;

use super::tools::Tools;

/// One kind of fault.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `kill -9` of a node.
    KillNode,
    /// `kill -9` of a server.
    KillServer,
    /// `kill -9` of the server that leads the journal's stream, or the cluster's metadata.
    KillLeader,
    /// `kill -9` of all servers at once.
    KillServers,
    /// `kill -9` of every server and every node at once.
    KillEverything,
    /// A node stands still for longer than it may, and then goes on where it was.
    FreezeNode,
    /// A node is cut off from all servers.
    CutNode,
    /// A server is cut off from the other servers; its clients stay.
    CutServer,
    /// What a node sends arrives, what it is sent does not; or the other way round.
    OneWay,
    /// One packet in ten is lost.
    Lossy,
    /// Every packet takes 100 ms more, and one in ten is lost.
    Slow,
    /// A server's disk fills up, is freed, and the server is started again.
    FullDisk,
    /// A bit flips in what one server keeps while it is down; later its disk is replaced.
    FlipBit,
    /// A bucket that nodes can make again is deleted.
    DeleteStream,
    /// A node's clock jumps, ahead and back.
    Clock,
    /// Every node in turn leaves in order and comes back.
    RollNodes,
    /// Every server in turn stops in order and comes back.
    RollServers,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::KillNode,
        Self::KillServer,
        Self::KillLeader,
        Self::KillServers,
        Self::KillEverything,
        Self::FreezeNode,
        Self::CutNode,
        Self::CutServer,
        Self::OneWay,
        Self::Lossy,
        Self::Slow,
        Self::FullDisk,
        Self::FlipBit,
        Self::DeleteStream,
        Self::Clock,
        Self::RollNodes,
        Self::RollServers,
    ];

    /// Its name.
    pub const fn word(self) -> &'static str {
        match self {
            Self::KillNode => "kill-node",
            Self::KillServer => "kill-server",
            Self::KillLeader => "kill-leader",
            Self::KillServers => "kill-all-servers",
            Self::KillEverything => "kill-everything",
            Self::FreezeNode => "freeze-node",
            Self::CutNode => "cut-node",
            Self::CutServer => "cut-server",
            Self::OneWay => "one-way",
            Self::Lossy => "lossy",
            Self::Slow => "slow",
            Self::FullDisk => "full-disk",
            Self::FlipBit => "flip-bit",
            Self::DeleteStream => "delete-stream",
            Self::Clock => "clock",
            Self::RollNodes => "roll-nodes",
            Self::RollServers => "roll-servers",
        }
    }

    /// Why it cannot be tried here; `None` when it can.
    pub fn lacks(self, tools: &Tools, servers: usize) -> Option<String> {
        let several = || (servers == 1).then(|| "there is only one server".to_owned());
        let nft = || (!tools.nft).then(|| "nft is missing: apt-get install nftables".to_owned());
        match self {
            Self::KillNode | Self::KillServers | Self::KillEverything | Self::FreezeNode => None,
            Self::RollNodes | Self::DeleteStream => None,
            Self::KillServer | Self::KillLeader | Self::RollServers | Self::FlipBit => several(),
            Self::CutServer => several().or_else(nft),
            Self::CutNode | Self::OneWay | Self::Lossy => nft(),
            Self::Slow => {
                (!tools.netem).then(|| "the kernel has no sch_netem, or tc of iproute2 is missing".to_owned())
            }
            Self::FullDisk => {
                several().or_else(|| (!tools.mount).then(|| "a small file system cannot be mounted here".to_owned()))
            }
            Self::Clock => {
                tools.faketime.is_none().then(|| "libfaketime is missing: apt-get install faketime".to_owned())
            }
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|kind| kind.word()).collect();
            format!("there is no fault {text:?}; there are {}", all.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in Kind::ALL {
            assert_eq!(kind.word().parse(), Ok(kind));
        }
        assert!("kill".parse::<Kind>().unwrap_err().contains("kill-node"));
    }
}
