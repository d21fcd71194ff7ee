//! Holds a tenant's processes in: what a node runs for others never runs as the node.
//!
//! ```text
//! node ── keeper            `skald confine NAME`: outside, as the node's user; writes the log, says
//!         │                 how it ended, and ends only when everything that began below it has ended
//!         └─ threshold      the first process inside: goes through the door below and locks it
//!            └─ program     the tenant's
//! ```
//!
//! The threshold gives up one right after the other ([`threshold`]): it joins the control group, takes
//! mounts of its own ([`mounts`]), becomes the user of its environment ([`users`]), loses every
//! capability and the way to new ones, and sets the filter of system calls ([`filter`]). Only then
//! does it start the program. In a process namespace of its own it stays as the first process there:
//! when it ends, the kernel ends all the others, whatever they did to hide.
//!
//! What a machine does not let us do is found out once, by doing all of it for nothing ([`survey`]),
//! and is said.
//!
//! - The launcher is the program `skald` itself: nothing has to be installed, and it is as new as the
//!   node. It is told what to do through a pipe: variables may be secrets, and a variable such as
//!   `LD_PRELOAD` must never reach anything that still has rights.
//! - The network is deliberately not divided: a service is reached at its port on loopback.

mod filter;
mod keeper;
pub mod launcher;
mod mounts;
pub mod output;
pub mod spec;
pub mod survey;
mod threshold;
pub mod users;

use std::process::ExitCode;

pub use launcher::Launcher;
pub use spec::{Ceilings, Space, Spec};
pub use survey::Confinement;

/// The word after the program's name that makes it a launcher.
pub const WORD: &str = "confine";
/// Instead of a name: it is the process at the threshold.
const THRESHOLD: &str = "--threshold";
/// Instead of a name: it ends by this signal.
const DIE: &str = "--die";

/// The launcher. `words` are those behind [`WORD`].
pub fn main(words: impl Iterator<Item = String>) -> ExitCode {
    let words: Vec<String> = words.collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [THRESHOLD] => threshold::main(),
        [DIE, signal] => keeper::die(signal),
        [name] if !name.starts_with('-') => keeper::main(),
        _ => {
            eprintln!("skald confine is started by nodes, for the processes of services; it is of no use by hand");
            ExitCode::from(2)
        }
    }
}
