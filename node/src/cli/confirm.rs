//! The question before something that cannot be taken back.

use std::io::{BufRead, IsTerminal, Write};

use super::fault::Fault;

/// Asks on the terminal whether `what` is meant; `yes` has said so already.
pub(super) fn confirm(what: &str, yes: bool) -> Result<(), Fault> {
    if yes {
        return Ok(());
    }
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Fault::usage(format!("{what} cannot be taken back, and nobody can be asked here"))
            .mend("add --yes when it is meant"));
    }
    let mut answer = String::new();
    let mut stderr = std::io::stderr();
    let asked = write!(stderr, "{what}: this cannot be taken back. Go on? [y/N] ").and_then(|()| stderr.flush());
    asked
        .and_then(|()| stdin.lock().read_line(&mut answer))
        .map_err(|error| Fault::new("nobody could be asked").why(error.to_string()))?;
    match answer.trim().to_ascii_lowercase().as_str() {
        "y" | "yes" => Ok(()),
        _ => Err(Fault::new("nothing was done")),
    }
}
