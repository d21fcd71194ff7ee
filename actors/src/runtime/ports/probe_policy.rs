//! Which addresses may be probed. A probe is a request that somebody else's text makes this machine
//! send, so it must not reach what only this machine can: its own services, the cloud's metadata,
//! the neighbours on the wire.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

use serde::{Deserialize, Serialize};

/// What is allowed beyond the ordinary. The default allows nothing more.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ProbePolicy {
    /// Whether this machine itself may be probed: yes where workloads are processes beside the node.
    #[serde(default)]
    pub loopback: bool,
    /// Networks that may not be probed although they are ordinary, as address and prefix length.
    #[serde(default)]
    pub deny: Vec<(IpAddr, u8)>,
}

/// Why an address may not be probed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Forbidden {
    /// It is this machine.
    Loopback,
    /// It is on the wire only; the metadata of most clouds is there.
    LinkLocal,
    /// A cloud keeps its metadata there.
    Metadata,
    /// It is nobody, or everybody.
    NotOne,
    /// It is set aside and not to be used.
    Reserved,
    /// The policy denies it.
    Denied,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "it is this machine; allow loopback if workloads run here",
            Self::LinkLocal => "it is link-local, where clouds keep their metadata; use a routed address",
            Self::Metadata => "a cloud keeps its metadata there; use the workload's own address",
            Self::NotOne => "it is no single machine; use the workload's own address",
            Self::Reserved => "it is reserved; use the workload's own address",
            Self::Denied => "the probe policy denies it; use another address or change the policy",
        })
    }
}

/// Addresses outside the link-local range at which clouds keep metadata or agents.
const METADATA: [IpAddr; 4] = [
    // Azure's host agent.
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    // Alibaba.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    // Oracle.
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
    // AWS over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x0254)),
];

/// Whether a probe may go to `address`. To be asked about every address that a name resolved to,
/// for the very connection that is then made, and again after a redirect.
pub fn allowed(policy: &ProbePolicy, address: IpAddr) -> Result<(), Forbidden> {
    let address = plain(address);
    if METADATA.contains(&address) {
        return Err(Forbidden::Metadata);
    }
    if policy.deny.iter().any(|(network, prefix)| within(address, plain(*network), *prefix)) {
        return Err(Forbidden::Denied);
    }
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            if v4.is_loopback() {
                return if policy.loopback { Ok(()) } else { Err(Forbidden::Loopback) };
            }
            if v4.is_link_local() {
                return Err(Forbidden::LinkLocal);
            }
            if a == 0 || v4.is_multicast() || v4.is_broadcast() {
                return Err(Forbidden::NotOne);
            }
            // RFC 6890: protocol assignments, documentation, benchmarks, and what was never given out.
            if (a, b, c) == (192, 0, 0) || v4.is_documentation() || (a == 198 && b & 0xfe == 18) || a >= 240 {
                return Err(Forbidden::Reserved);
            }
            Ok(())
        }
        IpAddr::V6(v6) => {
            if v6.is_loopback() {
                return if policy.loopback { Ok(()) } else { Err(Forbidden::Loopback) };
            }
            if v6.is_unicast_link_local() {
                return Err(Forbidden::LinkLocal);
            }
            if v6.is_unspecified() || v6.is_multicast() {
                return Err(Forbidden::NotOne);
            }
            match v6.segments() {
                // Site-local, given up; documentation; discard.
                [first, ..] if first & 0xffc0 == 0xfec0 => Err(Forbidden::Reserved),
                [0x2001, 0x0db8, ..] | [0x0100, 0, 0, 0, ..] => Err(Forbidden::Reserved),
                _ => Ok(()),
            }
        }
    }
}

/// The IPv4 address inside an IPv6 one, where there is one: it is reached just the same. Mapped,
/// compatible, translated (NAT64) and 6to4.
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    };
    match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x0064, 0xff9b, 0, 0, 0, 0, high, low] => v4(high, low),
        // `::` and `::1` are addresses of their own.
        [0, 0, 0, 0, 0, 0, high, low] if (high, low) != (0, 0) && (high, low) != (0, 1) => v4(high, low),
        [0x2002, high, low, ..] => v4(high, low),
        _ => address,
    }
}

fn within(address: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            let mask = u32::MAX.checked_shl(32u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => {
            let mask = u128::MAX.checked_shl(128u32.saturating_sub(u32::from(prefix))).unwrap_or(0);
            address.to_bits() & mask == network.to_bits() & mask
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_probed() {
        let policy = ProbePolicy::default();
        for (address, why) in [
            ("10.1.2.3", None),
            ("192.168.1.9", None),
            ("100.64.0.1", None),
            ("8.8.8.8", None),
            ("fd00::1", None),
            ("2606:4700::1", None),
            ("127.0.0.1", Some(Forbidden::Loopback)),
            ("127.9.9.9", Some(Forbidden::Loopback)),
            ("::1", Some(Forbidden::Loopback)),
            ("::ffff:127.0.0.1", Some(Forbidden::Loopback)),
            ("::127.0.0.1", Some(Forbidden::Loopback)),
            ("64:ff9b::7f00:1", Some(Forbidden::Loopback)),
            ("2002:7f00:1::", Some(Forbidden::Loopback)),
            ("169.254.169.254", Some(Forbidden::LinkLocal)),
            ("::ffff:169.254.169.254", Some(Forbidden::LinkLocal)),
            ("fe80::1", Some(Forbidden::LinkLocal)),
            ("168.63.129.16", Some(Forbidden::Metadata)),
            ("100.100.100.200", Some(Forbidden::Metadata)),
            ("192.0.0.192", Some(Forbidden::Metadata)),
            ("fd00:ec2::254", Some(Forbidden::Metadata)),
            ("0.0.0.0", Some(Forbidden::NotOne)),
            ("0.1.2.3", Some(Forbidden::NotOne)),
            ("224.0.0.1", Some(Forbidden::NotOne)),
            ("255.255.255.255", Some(Forbidden::NotOne)),
            ("::", Some(Forbidden::NotOne)),
            ("ff02::1", Some(Forbidden::NotOne)),
            ("192.0.2.1", Some(Forbidden::Reserved)),
            ("198.18.0.1", Some(Forbidden::Reserved)),
            ("240.0.0.1", Some(Forbidden::Reserved)),
            ("2001:db8::1", Some(Forbidden::Reserved)),
        ] {
            assert_eq!(allowed(&policy, address.parse().unwrap()).err(), why, "{address}");
        }
    }

    #[test]
    fn a_policy_opens_this_machine_and_closes_networks() {
        let net = |text: &str| text.parse::<IpAddr>().unwrap();
        let policy = ProbePolicy { loopback: true, deny: vec![(net("10.0.0.0"), 8), (net("fd00::"), 8)] };
        assert!(allowed(&policy, net("127.0.0.1")).is_ok() && allowed(&policy, net("::1")).is_ok());
        assert_eq!(allowed(&policy, net("10.255.0.1")), Err(Forbidden::Denied));
        assert_eq!(allowed(&policy, net("::ffff:10.0.0.1")), Err(Forbidden::Denied));
        assert_eq!(allowed(&policy, net("fd12::1")), Err(Forbidden::Denied));
        assert!(allowed(&policy, net("11.0.0.1")).is_ok());
        assert_eq!(allowed(&policy, net("169.254.169.254")), Err(Forbidden::LinkLocal), "loopback opens nothing else");
        let all = ProbePolicy { loopback: true, deny: vec![(net("0.0.0.0"), 0)] };
        assert_eq!(allowed(&all, net("127.0.0.1")), Err(Forbidden::Denied));
    }
}
