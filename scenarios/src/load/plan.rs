//! Which sagas a load is made of, and how each must end.

use protocol::view::Status;
use serde_json::{Value, json};

use super::{After, Planned, Told};
use crate::dice::Dice;

use Told::{AnyOrder, InOrder, Open};

/// Kinds whose steps follow each other.
const SIMPLE: u64 = 6;
/// All kinds.
const ALL: u64 = 12;

/// A saga of one of six kinds that run one step after the other, with pauses from `dice`.
pub fn plan(dice: &mut Dice, number: usize) -> Planned {
    let kind = dice.roll(SIMPLE);
    plan_kind(dice, number, kind)
}

/// The same, also of those with children, with items and branches side by side, and with events.
pub fn plan_any(dice: &mut Dice, number: usize) -> Planned {
    let kind = dice.roll(ALL);
    plan_kind(dice, number, kind)
}

fn plan_kind(dice: &mut Dice, number: usize, kind: u64) -> Planned {
    let key = format!("load-{number}");
    let mut step = |name: &str| json!({ "step": name, "ms": dice.roll(120), "undo_ms": dice.roll(60) });
    let failing = |step: &mut Value| step["fail"] = json!("permanent");
    let (one, two, mut three) = (step("One"), step("Two"), step("Three"));
    let (good, bad, after) = (Status::Succeeded, Status::Failed, After::Nothing);
    let in_order = |told: &[&'static str]| InOrder(told.to_vec());
    let (definition, input, after, status, told) = match kind {
        0 => {
            let told = in_order(&["run One", "run Two", "run Three"]);
            ("three", json!({ "one": one, "two": two, "three": three }), after, good, told)
        }
        1 => {
            failing(&mut three);
            let told = in_order(&["run One", "run Two", "undo Three", "undo Two", "undo One"]);
            ("three", json!({ "one": one, "two": two, "three": three }), after, bad, told)
        }
        2 => {
            failing(&mut three);
            three["late"] = json!(true);
            let told = in_order(&["run One", "run Two", "run Three", "undo Three", "undo Two", "undo One"]);
            ("three", json!({ "one": one, "two": two, "three": three }), after, bad, told)
        }
        3 => {
            let told = in_order(&["run Before", "undo After", "undo Before"]);
            ("resting", json!({ "seconds": 1.5, "fail": "permanent" }), after, bad, told)
        }
        4 => ("signalled", json!({ "ms": 20 }), After::Signal, good, in_order(&["run Before", "run After"])),
        5 => {
            let told = in_order(&["run Before", "undo Before"]);
            ("signalled", json!({ "ms": 0 }), After::Cancel, Status::Cancelled, told)
        }
        6 => {
            let child = json!({ "one": one, "two": two, "three": three });
            ("parent", json!({ "child": child }), after, good, in_order(&["run Before"]))
        }
        7 => {
            failing(&mut three);
            let child = json!({ "one": one, "two": two, "three": three });
            ("parent", json!({ "child": child }), after, bad, in_order(&["run Before", "undo Before"]))
        }
        8 => {
            let told = AnyOrder(vec!["run One", "run Three", "run Two"]);
            ("each", json!({ "items": [one, two, three] }), after, good, told)
        }
        9 => {
            failing(&mut three);
            ("each", json!({ "items": [one, two, three] }), after, bad, Open)
        }
        10 => {
            failing(&mut three);
            ("both", json!({ "left": one, "right": three }), after, bad, Open)
        }
        _ => ("telling", json!({ "title": key }), after, good, in_order(&["run Before"])),
    };
    Planned { key, definition, input, after, status, told }
}
