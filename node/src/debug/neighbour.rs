//! Who asks, where everybody on the machine may: programs of services run as users of their own, and what
//! other tenants do is none of their business.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use procfs::ProcError;
use procfs::net::{TcpNetEntry, tcp, tcp6};

/// Whether the process behind `peer` runs as one of `users`. A connection that the system does not list counts
/// as one.
pub(super) fn is_one_of(users: &RangeInclusive<u32>, peer: SocketAddr) -> io::Result<bool> {
    let tables = [tcp(), tcp6()].into_iter().map(|table| match table {
        // Without IPv6 it is not there.
        Err(ProcError::NotFound(_)) => Ok(Vec::new()),
        table => table.map_err(io::Error::other),
    });
    let entries: Vec<Vec<TcpNetEntry>> = tables.collect::<io::Result<_>>()?;
    let mut owners = entries.iter().flatten().filter(|entry| same(entry.local_address, peer)).peekable();
    // A port may have several connections; each of them counts.
    Ok(owners.peek().is_none() || owners.any(|entry| users.contains(&entry.uid)))
}

fn same(entry: SocketAddr, peer: SocketAddr) -> bool {
    (entry.ip().to_canonical(), entry.port()) == (peer.ip().to_canonical(), peer.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_connected_is_known_by_its_user() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let peer = client.local_addr().unwrap();
        let own = rustix::process::geteuid().as_raw();
        assert!(is_one_of(&(own..=own), peer).unwrap());
        assert!(!is_one_of(&(own + 1..=own + 9), peer).unwrap());
        // Nobody is connected from there.
        assert!(is_one_of(&(own + 1..=own + 9), nobody()).unwrap());
    }

    fn nobody() -> SocketAddr {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        free.local_addr().unwrap()
    }
}
