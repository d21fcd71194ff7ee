//! The product's command line with the activities of the stories added, so that a story can kill
//! real processes. `STORY_LEDGER` names the directory of the effect ledger.

use std::path::Path;
use std::process::ExitCode;

use crate::activities;
use crate::ledger::Ledger;

/// Runs it.
pub fn main() -> ExitCode {
    node::cli::main_with(|_| {
        let dir = std::env::var_os("STORY_LEDGER").expect("STORY_LEDGER names a directory");
        activities::all(&Ledger::open(Path::new(&dir)).expect("the ledger's directory can be made"))
    })
}
