//! Draws a definition as a Mermaid `stateDiagram-v2`: the outermost scope, as its domain draws it.
//!
//! States that the header hides are left out, and the edges through them are joined. The word on
//! an edge is the header's label for it; else the last `Comment` of a Choice rule or Catcher on
//! the way. An edge that would stand there twice with the same word stands there once.

use std::collections::BTreeSet;

use super::definition::{Definition, State};

/// One edge of the picture; `[*]` is the start or the end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Edge {
    /// From this state.
    pub from: String,
    /// To this one.
    pub to: String,
    /// With this word on it.
    pub label: Option<String>,
}

const TERMINAL: &str = "[*]";

/// The edges of the picture, in the order of the text.
pub fn edges(definition: &Definition) -> Vec<Edge> {
    let mut drawing = Drawing { definition, edges: Vec::new(), from: TERMINAL };
    let start = definition.nest(0).start.to_string();
    drawing.lead(&start, None, &mut BTreeSet::new());
    for index in &definition.nest(0).states {
        let state = &definition.states()[*index];
        if !definition.header().hidden.contains(&*state.name) {
            drawing.from = &state.name;
            drawing.leave(state, None, &mut BTreeSet::new());
        }
    }
    drawing.edges
}

struct Drawing<'a> {
    definition: &'a Definition,
    edges: Vec<Edge>,
    from: &'a str,
}

impl<'a> Drawing<'a> {
    /// Everything that `state` leads to.
    fn leave(&mut self, state: &'a State, label: Option<&str>, passed: &mut BTreeSet<String>) {
        for (to, own) in state.edges() {
            self.lead(to, own.or(label), passed);
        }
        if state.ends() {
            self.draw(TERMINAL, label);
        }
    }

    /// Draws the edge to `to`, or goes on through it when it is hidden.
    fn lead(&mut self, to: &str, label: Option<&str>, passed: &mut BTreeSet<String>) {
        if !self.definition.header().hidden.contains(to) {
            return self.draw(to, label);
        }
        if passed.insert(to.to_owned()) {
            if let Some(state) = self.definition.state(to) {
                self.leave(state, label, passed);
            }
            passed.remove(to);
        }
    }

    fn draw(&mut self, to: &str, label: Option<&str>) {
        let labels = &self.definition.header().labels;
        let given = labels.get(&(self.from.to_owned(), to.to_owned())).map(String::as_str);
        let edge = Edge { from: self.from.to_owned(), to: to.to_owned(), label: given.or(label).map(str::to_owned) };
        if !self.edges.contains(&edge) {
            self.edges.push(edge);
        }
    }
}

/// The picture.
pub fn render(definition: &Definition) -> String {
    let mut text = String::from("stateDiagram-v2\n");
    let states = definition.nest(0).states.iter().map(|index| &definition.states()[*index].name);
    for name in states.filter(|name| !definition.header().hidden.contains(&***name)) {
        if id(name) != **name {
            text.push_str(&format!("    state \"{}\" as {}\n", name.replace('"', "'"), id(name)));
        }
    }
    for Edge { from, to, label } in edges(definition) {
        let end = |name: &str| if name == TERMINAL { name.to_owned() } else { id(name) };
        text.push_str(&format!("    {} --> {}", end(&from), end(&to)));
        if let Some(label) = label {
            text.push_str(&format!(" : {}", label.replace(['\n', '\r'], " ")));
        }
        text.push('\n');
    }
    text
}

/// What Mermaid takes as a name.
fn id(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = r#"
name: picture
hidden: [Decide, Announce]
labels: { "Requested -> Evaluating": compatibility check }
definition:
  StartAt: Requested
  States:
    Requested: { Type: Pass, Next: Evaluating }
    Evaluating: { Type: Task, Resource: "activity:evaluate", Compensate: none, Next: Decide }
    Decide:
      Type: Choice
      Choices: [{ Condition: "{% $states.input.ok %}", Next: Applying, Comment: compatible }]
      Default: Announce
    Announce: { Type: Task, Resource: "event:Refused", Next: Failed }
    Applying:
      Type: Task
      Resource: activity:apply
      Compensate: none
      Catch: [{ ErrorEquals: [States.ALL], Next: Announce, Comment: apply error }]
      End: true
    Failed: { Type: Fail }
"#;

    #[test]
    fn hidden_states_are_left_out_and_their_edges_joined() {
        let (definition, _) = Definition::parse(SOURCE, "picture.yaml").unwrap();
        let expected = "stateDiagram-v2
    [*] --> Requested
    Requested --> Evaluating : compatibility check
    Evaluating --> Applying : compatible
    Evaluating --> Failed
    Applying --> Failed : apply error
    Applying --> [*]
    Failed --> [*]
";
        assert_eq!(render(&definition), expected);
    }
}
