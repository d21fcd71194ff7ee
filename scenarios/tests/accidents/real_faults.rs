//! A short run of `cargo faults`: one fault of three kinds on a real cluster of three servers and
//! three nodes. The long runs are made by hand, and say much more.

use std::process::Command;

use serde_json::Value;

/// Enough for each of the three kinds once.
const MINUTES: &str = "0.4";

#[test]
fn a_killed_a_frozen_and_a_cut_off_node_cost_nothing() {
    let mut faults = Command::new(env!("CARGO_BIN_EXE_faults"));
    faults.args(["--minutes", MINUTES, "--json", "--at-once", "16"]);
    for kind in ["kill-node", "freeze-node", "cut-node"] {
        faults.args(["--only", kind]);
    }
    let output = faults.output().unwrap();
    let (told, said) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if said.contains("skipped: ") {
        assert!(!rustix::process::geteuid().is_root(), "root can always run it: {said}");
        println!("{said}");
        return;
    }
    assert!(output.status.success(), "{said}\n{told}");
    let report: Value = serde_json::from_str(&told).unwrap();
    for count in ["lost", "doubled", "eventsDoubled"] {
        assert_eq!(report[count], Value::from(0), "{count}: {told}");
    }
    assert!(report["sagas"].as_u64().is_some_and(|sagas| sagas > 50), "{told}");
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.len() == 3 && faults.iter().all(|fault| fault["made"] != 0), "{told}");
}
