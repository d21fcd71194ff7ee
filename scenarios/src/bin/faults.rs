//! `cargo faults`: real faults on a real cluster. Its nodes are this program as well.

use std::process::ExitCode;

use scenarios::faults::{guard, nodes};
use scenarios::under_test;

fn main() -> ExitCode {
    match std::env::var(nodes::ROLE) {
        Ok(role) if role != guard::INSIDE => under_test::main(),
        Ok(_) | Err(_) => guard::main(),
    }
}
