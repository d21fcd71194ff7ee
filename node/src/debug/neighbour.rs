//! Who asks, where everybody on the machine may: programs of services run as users of their own, and what
//! other tenants do is none of their business.
//!
//! The system is asked for the one socket (`sock_diag`), which takes as long for it whether there are ten
//! connections or a hundred thousand: whoever opens them must not make the node read a table of them.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;

/// Of a socket's id: whichever it has.
const ANY_COOKIE: [u8; 8] = [0xff; 8];

/// Whether the process behind the connection from `peer` to us, `at`, runs as one of `users`. A connection
/// that the system does not know counts as one.
pub(super) fn is_one_of(users: &RangeInclusive<u32>, peer: SocketAddr, at: SocketAddr) -> io::Result<bool> {
    Ok(user(peer, at)?.is_none_or(|user| users.contains(&user)))
}

/// The user of the socket that is connected from `from` to `to`, both on this machine.
fn user(from: SocketAddr, to: SocketAddr) -> io::Result<Option<u32>> {
    let (source, destination) = (from.ip().to_canonical(), to.ip().to_canonical());
    let question = InetRequest {
        family: if source.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: from.port(),
            destination_port: to.port(),
            source_address: source,
            destination_address: destination,
            interface_id: 0,
            cookie: ANY_COOKIE,
        },
    };
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(question).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&netlink_sys::SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    // The kernel answers a question about one socket before it returns from `send`.
    let (answer, _) = socket.recv_from_full()?;
    let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => Ok(Some(found.header.uid)),
        NetlinkPayload::Error(error) if error.to_io().kind() == io::ErrorKind::NotFound => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!("not understood: {other:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn who_connected_is_known_by_its_user() {
        let own = rustix::process::geteuid().as_raw();
        for (bind, host) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")] {
            let Ok(listener) = TcpListener::bind(bind) else {
                assert!(bind.starts_with('['), "only IPv6 may be missing");
                continue;
            };
            let port = listener.local_addr().unwrap().port();
            let _client = TcpStream::connect((host, port)).unwrap();
            let (served, peer) = listener.accept().unwrap();
            let at = served.local_addr().unwrap();
            assert!(is_one_of(&(own..=own), peer, at).unwrap(), "{bind}");
            assert!(!is_one_of(&(own + 1..=own + 9), peer, at).unwrap(), "{bind}");
            // Nobody is connected from port 1.
            assert!(is_one_of(&(own + 1..=own + 9), SocketAddr::new(peer.ip(), 1), at).unwrap(), "{bind}");
        }
    }
}
