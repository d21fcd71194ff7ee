//! How many files and sockets the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What the system lets the process have open at once. Listeners take a share of it each
/// ([`Crowd::within`](super::Crowd::within)); the bus, the files and the processes have the rest.
pub fn descriptors() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Takes as many as the system gives without asking anybody. Many systems begin with 1,024, for
/// programs older than most networks. Answers how many there are now.
pub fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    descriptors()
}
