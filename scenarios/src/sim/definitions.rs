//! Random definitions: every kind of state inside every other, with retries, catches and undos.

use serde_json::{Map, Value, json};

use crate::dice::Dice;

/// Most states of one definition: enough for every combination of two, few enough to read.
const STATES_MAX: usize = 12;
/// Most characters of a state's name, and the character that makes one long: four bytes.
const NAME_MAX_CHARS: usize = 80;
const LONG: &str = "\u{20000}";
/// Most scopes inside each other.
const NESTING_MAX: usize = 2;

/// A definition and what has to be sent to its sagas.
pub struct Drawn {
    /// The source.
    pub source: String,
    /// Signals that its states wait for.
    pub signals: Vec<String>,
    /// Whether a person is asked.
    pub asks: bool,
}

/// The child that other definitions start.
pub const CHILD: &str = "child";

/// The definition of the child: two steps, of which the second may fail.
pub fn child(dice: &mut Dice) -> Drawn {
    let name = CHILD.into();
    let mut draw = Draw { dice, states: 0, scopes: 0, signals: Vec::new(), asks: false, name, long: false };
    let first = draw.work("s0", &None, true);
    let mut second = draw.work("s1", &None, true);
    second["End"] = json!(true);
    let mut first = first;
    first["Next"] = json!("S1");
    let scope = json!({ "StartAt": "S0", "States": { "S0": first, "S1": second } });
    draw.finish(scope)
}

/// Definition number `number`; with `long` its states have names as long as they may be.
pub fn draw(dice: &mut Dice, number: usize, long: bool) -> Drawn {
    let name = format!("random-{number}");
    let mut draw = Draw { dice, states: 0, scopes: 0, signals: Vec::new(), asks: false, name, long };
    let scope = draw.scope("", &None, 0);
    draw.finish(scope)
}

struct Draw<'a> {
    dice: &'a mut Dice,
    states: usize,
    scopes: usize,
    signals: Vec<String>,
    asks: bool,
    name: String,
    long: bool,
}

impl Draw<'_> {
    fn finish(self, mut scope: Value) -> Drawn {
        if self.dice.roll(6) == 0 {
            scope["TimeoutSeconds"] = json!(3 + self.dice.roll(20));
        }
        let source = json!({ "name": self.name, "definition": scope });
        Drawn { source: source.to_string(), signals: self.signals, asks: self.asks }
    }

    fn one_of(&mut self, chances: &[u64]) -> usize {
        let mut left = self.dice.roll(chances.iter().sum());
        for (which, chance) in chances.iter().enumerate() {
            if left < *chance {
                return which;
            }
            left -= chance;
        }
        0
    }

    /// A scope whose states stand at `path`, which follows the value of the variable `base` where
    /// the scope is an item's.
    fn scope(&mut self, path: &str, base: &Option<String>, depth: usize) -> Value {
        let (number, count) = (self.scopes, 1 + self.dice.roll(4) as usize);
        self.scopes += 1;
        let long = self.long;
        let named = |index: usize, what: &str| {
            let name = format!("{}S{index}{what}", if number == 0 { String::new() } else { format!("N{number}") });
            let missing = if long { NAME_MAX_CHARS - name.len() } else { 0 };
            format!("{}{name}", LONG.repeat(missing))
        };
        let name = |index: usize| named(index, "");
        let mut states = Map::new();
        let mut start = name(0);
        if let Some(base) = base
            && path.is_empty()
        {
            // The first thing that an item does is to remember where it stands.
            let mut assign = Map::new();
            assign.insert(base.clone(), json!("{% $states.input.p %}"));
            start = named(0, "P");
            states.insert(start.clone(), json!({ "Type": "Pass", "Assign": assign, "Next": name(0) }));
        }
        for index in 0..count {
            self.states += 1;
            let here = if path.is_empty() { format!("s{index}") } else { format!("{path}/s{index}") };
            let mut state = self.state(&here, base, depth);
            state["Next"] = json!(name(index + 1));
            let catches = matches!(state["Type"].as_str(), Some("Task" | "Map" | "Parallel"))
                && !state["Resource"].as_str().is_some_and(|resource| resource.starts_with("event:"));
            if catches && self.dice.roll(3) == 0 {
                // Goes on, or leaves the scope through its end.
                let next = if self.dice.roll(2) == 0 { name(index + 1) } else { name(count) };
                let errors = if self.dice.roll(3) == 0 { "States.ALL" } else { "Broken" };
                state["Catch"] = json!([{ "ErrorEquals": [errors], "Next": next }]);
            }
            states.insert(name(index), state);
        }
        let last = match self.dice.roll(8) {
            0 => json!({ "Type": "Fail", "Error": "Wanted", "Cause": "the definition says so" }),
            1 => json!({ "Type": "Compensate", "Next": named(count, "E") }),
            _ => json!({ "Type": "Succeed" }),
        };
        if last["Type"] == "Compensate" {
            states.insert(named(count, "E"), json!({ "Type": "Succeed" }));
        }
        states.insert(name(count), last);
        json!({ "StartAt": start, "States": states })
    }

    fn state(&mut self, path: &str, base: &Option<String>, depth: usize) -> Value {
        let room = self.states < STATES_MAX && depth < NESTING_MAX;
        let nested = if room { 3 } else { 0 };
        match self.one_of(&[14, 2, 2, 2, 1, 2, 1, nested, nested]) {
            0 => self.work(path, base, false),
            1 => json!({ "Type": "Pass", "Output": { "passed": true } }),
            2 => json!({ "Type": "Wait", "Seconds": self.dice.roll(4) }),
            3 => {
                let event = json!({ "said": path, "id": self.dice.roll(1_000) });
                json!({ "Type": "Task", "Resource": "event:StoryTold", "Arguments": event })
            }
            4 => {
                let name = format!("go{}", self.signals.len());
                self.signals.push(name.clone());
                json!({ "Type": "Task", "Resource": format!("signal:{name}"), "TimeoutSeconds": 5 + self.dice.roll(20) })
            }
            5 if self.name != CHILD && base.is_none() => {
                let mut state = json!({
                    "Type": "Task", "Resource": format!("saga:{CHILD}"), "Arguments": { "from": path },
                });
                if self.dice.roll(2) == 0 {
                    state["TimeoutSeconds"] = json!(1 + self.dice.roll(2));
                    state["Retry"] =
                        json!([{ "ErrorEquals": ["States.Timeout"], "MaxAttempts": 2, "IntervalSeconds": 0.1 }]);
                }
                state
            }
            6 if !self.asks && base.is_none() => {
                self.asks = true;
                json!({ "Type": "Task", "Resource": "task:human", "Arguments": { "question": "may it" } })
            }
            7 => {
                let count = 2 + self.dice.roll(2);
                let branches: Vec<Value> =
                    (0..count).map(|branch| self.scope(&format!("{path}/b{branch}"), base, depth + 1)).collect();
                json!({ "Type": "Parallel", "Branches": branches })
            }
            8 => self.map(path, base, depth),
            _ => self.work(path, base, false),
        }
    }

    fn map(&mut self, path: &str, base: &Option<String>, depth: usize) -> Value {
        let variable = format!("p{}", self.scopes);
        let items: Vec<u64> = (0..self.dice.roll(4)).collect();
        let here = at(&format!("{path}/i"), base);
        let selector = json!({ "p": format!("{{% {here} & $string($states.context.Map.Item.Index) %}}") });
        let processor = self.scope("", &Some(variable), depth + 1);
        let mut state = json!({
            "Type": "Map", "Items": items, "ItemSelector": selector, "ItemProcessor": processor,
            "MaxConcurrency": self.dice.roll(3),
        });
        if self.dice.roll(4) == 0 {
            state["ToleratedFailureCount"] = json!(1);
        }
        state
    }

    fn work(&mut self, path: &str, base: &Option<String>, plain: bool) -> Value {
        let how = ["flaky", "broken", "late", "hangs", "panics"][self.one_of(&[4, 2, 4, 2, 1])];
        let fails = match self.one_of(&[5, 2, 1, 1]) {
            0 => 0,
            times => times as u64,
        };
        let undoable = self.dice.roll(5) > 0;
        let path = match base {
            None => json!(path),
            Some(_) => json!(format!("{{% {} %}}", at(path, base))),
        };
        let undo_fails = if self.dice.roll(12) == 0 { 9 } else { self.dice.roll(3) };
        let mut state = json!({
            "Type": "Task", "Resource": "activity:work",
            "Arguments": {
                "path": path, "ms": self.dice.roll(400), "fails": fails, "how": how,
                "undo_ms": self.dice.roll(200), "undo_fails": undo_fails,
            },
            "Compensate": "none",
        });
        if undoable {
            let retry = json!([{ "ErrorEquals": ["States.ALL"], "IntervalSeconds": 0.2, "MaxAttempts": 3 }]);
            state["Compensate"] = json!({ "Resource": "activity:unwork", "Retry": retry });
        }
        if how == "hangs" || self.dice.roll(4) == 0 {
            state["TimeoutSeconds"] = json!(1 + self.dice.roll(3));
        }
        if plain || self.dice.roll(2) == 0 {
            let errors = json!(["Transient", "States.TaskFailed", "States.Timeout"]);
            let mut retry = json!({
                "ErrorEquals": errors, "IntervalSeconds": 0.1 + self.dice.roll(10) as f64 / 10.0, "MaxAttempts": 1 + self.dice.roll(3),
            });
            if self.dice.roll(2) == 0 {
                retry["JitterStrategy"] = json!("FULL");
            }
            state["Retry"] = json!([retry]);
        }
        state
    }
}

/// The expression of a place: text, or a variable and text.
fn at(path: &str, base: &Option<String>) -> String {
    match base {
        None => format!("'{path}'"),
        Some(base) => format!("${base} & '/{path}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use supervisor::machine::Definition;

    #[test]
    fn whatever_is_drawn_can_be_deployed() {
        let mut dice = Dice::new(1);
        for number in 0..300 {
            let drawn = draw(&mut dice, number, number % 4 == 0);
            if let Err(faults) = Definition::parse(&drawn.source, "drawn") {
                panic!("{faults}\n{}", drawn.source);
            }
        }
        assert!(Definition::parse(&child(&mut dice).source, "child").is_ok());
    }
}
