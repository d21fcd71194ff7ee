//! From a text to a checked definition.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use protocol::DefinitionRef;

use super::fault::{Fault, Faults, Warning};
use super::fields::{Builder, Fields, Mention};
use super::header::{self, Header};
use super::source::{self, Data, Node};
use super::{Definition, NESTING_MAX, Nest, Resource, check, digest, states};
use crate::machine::amount::Measure;
use crate::machine::expression::Limits;

/// Reads and checks a definition. With `name`, a bare States Language document is accepted.
pub(super) fn parse(text: &str, mut faults: Faults, name: Option<&str>) -> Result<(Definition, Vec<Warning>), Faults> {
    let Some(root) = source::read(text, &mut faults) else { return Err(faults) };
    let mut builder = Builder {
        faults: &mut faults,
        warnings: Vec::new(),
        nests: Vec::new(),
        states: Vec::new(),
        names: HashMap::new(),
        mentions: Vec::new(),
        queries: false,
    };
    let (header, machine) = open(&mut builder, &root, name);
    let timeout = machine.and_then(|node| top(&mut builder, node, if header.is_some() { "definition" } else { "" }));
    let header = header.unwrap_or_else(|| Header { name: name.unwrap_or_default().to_owned(), ..Header::default() });
    check::run(&mut builder);
    header::check_states(&mut builder, &root, &header);
    let Builder { warnings, nests, states, names, queries, .. } = builder;
    if !faults.is_empty() {
        faults.sort();
        return Err(faults);
    }
    let signals: BTreeSet<String> = states
        .iter()
        .filter_map(|state| match state.kind.resource()? {
            Resource::Signal(name) => Some(name.to_string()),
            Resource::Activity(_) | Resource::Human | Resource::Saga { .. } | Resource::Event(_) => None,
        })
        .collect();
    let reference =
        DefinitionRef { tenant: None, name: header.name.as_str().into(), version: 1, digest: digest(text).into() };
    let limits = Limits::default();
    let definition = Definition {
        reference,
        source: text.into(),
        header,
        nests,
        states,
        names,
        timeout: timeout.flatten(),
        signals,
        queries,
        limits,
        pins: BTreeMap::new(),
    };
    Ok((definition, warnings))
}

/// The header, if there is one, and the States Language document.
fn open<'n>(builder: &mut Builder<'_>, root: &'n Node, name: Option<&str>) -> (Option<Header>, Option<&'n Node>) {
    let bare = root.get("StartAt").is_some() || root.get("States").is_some();
    if bare && root.get("definition").is_none() {
        match name {
            None => builder.fault(
                root.at,
                "",
                "there is no header around the states",
                "put name: NAME first and the rest under definition:",
            ),
            Some(name) if !header::usable(name) => {
                builder.fault(
                    root.at,
                    "",
                    format!("{name:?} is not usable as a name"),
                    "use a-z, 0-9, \"-\" and \"_\"",
                );
            }
            Some(_) => {}
        }
        return (None, Some(root));
    }
    let header = header::read(builder, root);
    let machine = root.get("definition");
    if machine.is_none() && matches!(root.data, Data::Map(_)) {
        builder.fault(root.at, "", "there is no definition", "write definition: { StartAt: …, States: { … } }");
    }
    (Some(header), machine)
}

const TOP: &[&str] = &["Comment", "Version", "QueryLanguage", "StartAt", "States", "TimeoutSeconds"];

fn top(builder: &mut Builder<'_>, node: &Node, path: &str) -> Option<Option<Duration>> {
    let fields = builder.fields(node, path)?;
    builder.known(&fields, TOP, "a state machine");
    if let Some(version) = builder.text(&fields, "Version").filter(|version| version != "1.0") {
        builder.fault_at(&fields, "Version", format!("{version:?} is not known"), "write \"1.0\" or leave it out");
    }
    query_language(builder, &fields);
    let timeout = builder.seconds(&fields, "TimeoutSeconds", Measure::Timeout);
    nest(builder, &fields, None, 0);
    Some(timeout)
}

/// JSONata, or nothing.
pub(super) fn query_language(builder: &mut Builder<'_>, fields: &Fields<'_>) {
    if let Some(language) = builder.text(fields, "QueryLanguage").filter(|language| language != "JSONata") {
        let mend = "write JSONata or leave it out; paths become expressions: \"$.a.b\" is \"{% $states.input.a.b %}\"";
        builder.fault_at(fields, "QueryLanguage", format!("{language:?} is not supported"), mend);
    }
}

/// Reads `StartAt` and `States`; answers the number of the scope.
pub(super) fn nest(builder: &mut Builder<'_>, fields: &Fields<'_>, holder: Option<usize>, depth: usize) -> usize {
    let number = builder.nests.len();
    builder.nests.push(Nest { holder, start: "".into(), states: Vec::new() });
    if depth >= NESTING_MAX {
        let mend = "run the inner part as a saga of its own (saga:NAME)";
        builder.fault(fields.at(), &fields.path, format!("scopes nest deeper than {NESTING_MAX}"), mend);
        return number;
    }
    match builder.text(fields, "StartAt") {
        Some(start) => {
            let start: Arc<str> = start.into();
            builder.nests[number].start = Arc::clone(&start);
            let at = fields.get("StartAt").map_or(fields.at(), |node| node.at);
            builder.mentions.push(Mention { nest: number, to: start, at, path: fields.path_of("StartAt") });
        }
        None if !fields.has("StartAt") => {
            builder.fault(fields.at(), &fields.path, "StartAt is missing", "name the state to begin with");
        }
        None => {}
    }
    let Some(list) = builder.inner(fields, "States") else {
        if !fields.has("States") {
            builder.fault(fields.at(), &fields.path, "States is missing", "write States: { Name: { Type: … } }");
        }
        return number;
    };
    if list.entries().is_empty() {
        builder.fault(list.at(), &list.path, "there are no states", "add one");
    }
    for (key, node) in list.entries() {
        states::read(builder, key, node, &list.path_of(&key.text), number, depth);
    }
    number
}

/// One more state name; a fault when it is taken.
pub(super) fn claim(builder: &mut Builder<'_>, key: &source::Key, index: usize, path: &str) -> Arc<str> {
    let name: Arc<str> = key.text.as_str().into();
    if key.text.is_empty() || key.text.chars().count() > 80 || key.text.chars().any(char::is_control) {
        builder.fault(key.at, path, "this cannot be a state's name", "use 1 to 80 printable characters");
    }
    match builder.names.get(&name) {
        Some(first) => {
            let line = builder.states.get(*first).map_or(0, |state| state.at.line);
            let what = format!("a state called {name:?} exists already, in line {line}");
            builder.faults.push(Fault::new(key.at, path, what, "names are unique in the whole definition: rename one"));
        }
        None => {
            builder.names.insert(Arc::clone(&name), index);
        }
    }
    name
}
