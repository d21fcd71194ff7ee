//! What of all this a machine lets us do: found out by doing it, once, and said.

use std::io;

use super::launcher::Launcher;
use super::spec::{Ceilings, Space, Spec};

/// How programs are held on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confinement {
    /// Each environment can have a user of its own.
    pub users: bool,
    /// What programs see.
    pub space: Space,
    /// Whether system calls are filtered.
    pub filter: bool,
    /// What could not be had, and what follows from that: a sentence for each.
    pub missing: Vec<String>,
}

/// Tries everything out: with `user` as the user of programs where we are the superuser, and with files
/// and processes of their own where `namespaces` says so.
pub fn survey(launcher: &Launcher, user: u32, namespaces: bool) -> io::Result<Confinement> {
    let root = rustix::process::geteuid().is_root();
    let mut missing = Vec::new();
    let mut spec = Spec {
        trial: true,
        space: Space::Shared,
        user: None,
        filter: false,
        group: None,
        program: "trial".into(),
        args: Vec::new(),
        variables: Default::default(),
        dir: "/usr".into(),
        state: None,
        visible: Vec::new(),
        tmp_bytes: 1 << 20,
        ceilings: Ceilings::default(),
        log: "/dev/null".into(),
        output: super::output::Bounds { log_bytes: u64::MAX, bytes_per_second: 1 << 20 },
    };
    // Without this nothing can be said about the rest.
    launcher.try_out(&spec)?;
    if root {
        spec.user = Some(user);
        if let Err(error) = launcher.try_out(&spec) {
            spec.user = None;
            missing.push(format!("no user of its own for each environment: {error}; see runtime.users"));
        }
    } else {
        missing.push("no user of its own for each environment: the node does not run as root".to_owned());
    }
    spec.space = if root { Space::Own } else { Space::OwnAsUser };
    let own = match namespaces {
        true => launcher.try_out(&spec),
        false => Err(io::Error::other("runtime.namespaces is off")),
    };
    if let Err(error) = own {
        spec.space = Space::Shared;
        missing.push(format!(
            "no files and processes of its own for each service: {error}; services see the machine's files as far as \
             their user may, and each other's names"
        ));
    }
    spec.filter = true;
    if let Err(error) = launcher.try_out(&spec) {
        spec.filter = false;
        missing.push(format!("no filter of system calls: {error}"));
    }
    Ok(Confinement { users: spec.user.is_some(), space: spec.space, filter: spec.filter, missing })
}
