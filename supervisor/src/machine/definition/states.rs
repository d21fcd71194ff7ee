//! Reading one state, by its type.

use std::sync::Arc;

use super::fields::{Builder, Fields, Mention};
use super::header::texts;
use super::parse::{claim, nest, query_language};
use super::source::{Data, Key, Node};
use super::{Catcher, Compensate, Each, Kind, Resource, Retrier, Rule, STATES_MAX, State, Until};
use crate::machine::amount::{self, Measure};
use crate::machine::expression::Template;

const TYPES: [&str; 9] = ["Task", "Pass", "Choice", "Wait", "Succeed", "Fail", "Parallel", "Map", "Compensate"];

/// The fields that a state of some type may have.
fn fields_of(kind: &str) -> Vec<&'static str> {
    let mut known = vec!["Type", "Comment", "QueryLanguage"];
    known.extend_from_slice(match kind {
        "Task" => &[
            "Resource",
            "Arguments",
            "Output",
            "Assign",
            "Next",
            "End",
            "Retry",
            "Catch",
            "TimeoutSeconds",
            "HeartbeatSeconds",
            "Compensate",
            "Credentials",
        ],
        "Pass" => &["Output", "Assign", "Next", "End"],
        "Choice" => &["Choices", "Default", "Output", "Assign"],
        "Wait" => &["Seconds", "Timestamp", "Output", "Assign", "Next", "End"],
        "Succeed" => &["Output"],
        "Fail" => &["Error", "Cause"],
        "Parallel" => &["Branches", "Arguments", "Output", "Assign", "Next", "End", "Retry", "Catch", "Compensate"],
        "Map" => &[
            "Items",
            "ItemSelector",
            "ItemProcessor",
            "MaxConcurrency",
            "ToleratedFailureCount",
            "ToleratedFailurePercentage",
            "Output",
            "Assign",
            "Next",
            "End",
            "Retry",
            "Catch",
            "Compensate",
        ],
        _ => &["Next", "End"],
    });
    known
}

/// Reads one state.
pub(super) fn read(builder: &mut Builder<'_>, key: &Key, node: &Node, path: &str, nest: usize, depth: usize) {
    let index = builder.states.len();
    if index == STATES_MAX {
        let mend = "run a part as a saga of its own (saga:NAME)";
        builder.fault(key.at, path, format!("there are more than {STATES_MAX} states"), mend);
    }
    if index >= STATES_MAX {
        return;
    }
    let name = claim(builder, key, index, path);
    let mut state = State {
        name,
        nest,
        at: key.at,
        comment: None,
        kind: Kind::Pass,
        arguments: None,
        output: None,
        assign: Vec::new(),
        next: None,
        retry: Vec::new(),
        catch: Vec::new(),
        compensate: None,
        timeout: None,
        heartbeat: None,
    };
    // Kept before its inner states, so that indices follow the text.
    builder.states.push(state.clone());
    builder.nests[nest].states.push(index);
    let Some(fields) = builder.fields(node, path) else { return };
    let kind = builder.text(&fields, "Type").unwrap_or_default();
    if !TYPES.contains(&kind.as_str()) {
        let near = super::fault::meant(&kind, TYPES);
        let mend =
            near.map_or_else(|| format!("the types are {}", TYPES.join(", ")), |near| format!("did you mean {near}?"));
        let what = if kind.is_empty() { "Type is missing".to_owned() } else { format!("there is no type {kind:?}") };
        builder.fault_at(&fields, "Type", what, mend);
        // What it leads to is still known.
        state.next = next(builder, &fields, "Next", nest);
        builder.states[index] = state;
        return;
    }
    let mut known = fields_of(&kind);
    if kind == "Map" {
        refuse_distributed(builder, &fields);
        known.extend(REFUSED_IN_MAPS);
    }
    builder.known(&fields, &known, &format!("a {kind} state"));
    query_language(builder, &fields);
    state.comment = builder.text(&fields, "Comment");
    state.arguments = builder.template_of(&fields, "Arguments");
    state.output = builder.template_of(&fields, "Output");
    state.assign = assign(builder, &fields);
    state.timeout = builder.amount(&fields, "TimeoutSeconds", Measure::Timeout);
    state.heartbeat = builder.amount(&fields, "HeartbeatSeconds", Measure::Timeout);
    if let (Some(super::Amount::Is(timeout)), Some(super::Amount::Is(beat))) = (&state.timeout, &state.heartbeat)
        && amount::seconds(beat) >= amount::seconds(timeout)
    {
        let what = format!("{beat} is not below TimeoutSeconds, which is {timeout}");
        builder.fault_at(&fields, "HeartbeatSeconds", what, "make it smaller, or leave it out");
    }
    if fields.has("Credentials") {
        let mend = "leave it out; the adapter of the activity holds its credentials";
        builder.warn(key.at, path, "Credentials is ignored", mend);
    }
    state.retry = retry(builder, &fields);
    state.catch = catch(builder, &fields, nest);
    state.kind = kind_of(builder, &fields, &kind, index, nest, depth);
    state.compensate = compensate(builder, &fields, &state, path);
    state.next = exit(builder, &fields, &kind, nest);
    builder.states[index] = state;
}

fn kind_of(
    builder: &mut Builder<'_>,
    fields: &Fields<'_>,
    kind: &str,
    index: usize,
    nest: usize,
    depth: usize,
) -> Kind {
    match kind {
        "Task" => Kind::Task(resource(builder, fields).unwrap_or(Resource::Human)),
        "Choice" => choice(builder, fields, nest),
        "Wait" => wait(builder, fields),
        "Succeed" => Kind::Succeed,
        "Fail" => {
            Kind::Fail { error: builder.template_of(fields, "Error"), cause: builder.template_of(fields, "Cause") }
        }
        "Parallel" => parallel(builder, fields, index, depth),
        "Map" => map(builder, fields, index, depth),
        "Compensate" => Kind::Compensate,
        _ => Kind::Pass,
    }
}

fn resource(builder: &mut Builder<'_>, fields: &Fields<'_>) -> Option<Resource> {
    if !fields.has("Resource") {
        builder.fault(fields.at(), &fields.path, "Resource is missing", "write Resource: activity:NAME");
    }
    let text = builder.text(fields, "Resource")?;
    Resource::read(&text).map_err(|(what, mend)| builder.fault_at(fields, "Resource", what, mend)).ok()
}

/// `Next` or `End: true`, exactly one, for the types that go on by themselves.
fn exit(builder: &mut Builder<'_>, fields: &Fields<'_>, kind: &str, nest: usize) -> Option<Arc<str>> {
    if matches!(kind, "Choice" | "Succeed" | "Fail") {
        return None;
    }
    let end = builder.flag(fields, "End");
    let to = next(builder, fields, "Next", nest);
    match (end, &to, fields.has("Next")) {
        (Some(true), _, true) => builder.fault_at(fields, "End", "both Next and End stand here", "keep one of the two"),
        (Some(false), None, false) => {
            builder.fault_at(fields, "End", "End: false leads nowhere", "write Next: NAME or End: true")
        }
        (None, None, false) if !fields.has("End") => {
            builder.fault(fields.at(), &fields.path, "it has neither Next nor End", "write Next: NAME or End: true");
        }
        (Some(true), _, false) | (Some(false) | None, _, _) => {}
    }
    to
}

fn next(builder: &mut Builder<'_>, fields: &Fields<'_>, field: &str, nest: usize) -> Option<Arc<str>> {
    let to: Arc<str> = builder.text(fields, field)?.into();
    let at = fields.get(field).map_or(fields.at(), |node| node.at);
    builder.mentions.push(Mention { nest, to: Arc::clone(&to), at, path: fields.path_of(field) });
    Some(to)
}

fn required_next(builder: &mut Builder<'_>, fields: &Fields<'_>, nest: usize) -> Arc<str> {
    if !fields.has("Next") {
        builder.fault(fields.at(), &fields.path, "Next is missing", "name the state to go to");
    }
    next(builder, fields, "Next", nest).unwrap_or_else(|| "".into())
}

fn assign(builder: &mut Builder<'_>, fields: &Fields<'_>) -> Vec<(String, Template)> {
    let Some(entries) = builder.inner(fields, "Assign") else { return Vec::new() };
    let mut made = Vec::new();
    for (key, node) in entries.entries() {
        let path = entries.path_of(&key.text);
        let usable = key.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && key.text.chars().all(|c| c.is_alphanumeric() || c == '_')
            && key.text.chars().count() <= 80;
        if key.text == "states" || !usable {
            builder.fault(
                key.at,
                &path,
                format!("{:?} cannot be a variable", key.text),
                "use letters, digits and \"_\"; \"states\" is taken",
            );
        }
        if let Some(template) = builder.template(node, &path) {
            made.push((key.text.clone(), template));
        }
    }
    made
}

/// The entries of a list under `name`, each with its fields.
fn entries<'n>(builder: &mut Builder<'_>, fields: &Fields<'n>, name: &str) -> Vec<Fields<'n>> {
    let Some(node) = fields.get(name) else { return Vec::new() };
    let Data::List(items) = &node.data else {
        builder.fault(
            node.at,
            fields.path_of(name),
            format!("this must be a list, not {}", node.kind()),
            "write - before each entry",
        );
        return Vec::new();
    };
    items
        .iter()
        .enumerate()
        .filter_map(|(n, item)| builder.fields(item, &format!("{}[{n}]", fields.path_of(name))))
        .collect()
}

/// `ErrorEquals`: not empty, `States.ALL` alone and in the last entry.
fn errors(builder: &mut Builder<'_>, entry: &Fields<'_>, last: bool) -> Vec<String> {
    let list = texts(builder, entry, "ErrorEquals").unwrap_or_default();
    if list.is_empty() {
        let mend = "write ErrorEquals: [States.ALL]";
        builder.fault_at(entry, "ErrorEquals", "it names no error", mend);
    }
    if list.iter().any(|name| name == "States.ALL") {
        if list.len() > 1 {
            builder.fault_at(entry, "ErrorEquals", "States.ALL stands beside other names", "States.ALL stands alone");
        }
        if !last {
            builder.fault_at(entry, "ErrorEquals", "entries after States.ALL are never reached", "move it to the end");
        }
    }
    let known = crate::machine::retry::NAMES;
    for name in list.iter().filter(|name| name.starts_with("States.") && !known.contains(&name.as_str())) {
        let mend = super::fault::meant(name, known.iter().copied()).map_or_else(
            || format!("the reserved names are {}", known.join(", ")),
            |near| format!("did you mean {near}?"),
        );
        builder.fault_at(entry, "ErrorEquals", format!("{name:?} is not a reserved error"), mend);
    }
    list
}

fn retry(builder: &mut Builder<'_>, fields: &Fields<'_>) -> Vec<Retrier> {
    let list = entries(builder, fields, "Retry");
    let count = list.len();
    let mut made = Vec::with_capacity(count);
    for (n, entry) in list.iter().enumerate() {
        builder.known(
            entry,
            &[
                "ErrorEquals",
                "IntervalSeconds",
                "MaxAttempts",
                "BackoffRate",
                "MaxDelaySeconds",
                "JitterStrategy",
                "Comment",
            ],
            "Retry",
        );
        let errors = errors(builder, entry, n + 1 == count);
        let mut number = |name, measure| builder.number(entry, name, measure);
        let interval = number("IntervalSeconds", Measure::Pause).and_then(|number| number.as_f64()).unwrap_or(1.0);
        let retries = number("MaxAttempts", Measure::Retries).and_then(|number| amount::whole(&number)).unwrap_or(3);
        let rate = number("BackoffRate", Measure::Growth).and_then(|number| number.as_f64()).unwrap_or(2.0);
        let cap = number("MaxDelaySeconds", Measure::Timeout).and_then(|number| number.as_f64());
        let jitter = match builder.text(entry, "JitterStrategy").as_deref() {
            None | Some("NONE") => false,
            Some("FULL") => true,
            Some(other) => {
                builder.fault_at(entry, "JitterStrategy", format!("{other:?} is not known"), "write FULL or NONE");
                false
            }
        };
        let retries = u32::try_from(retries).unwrap_or(u32::MAX);
        made.push(Retrier { errors, interval, retries, rate, cap, jitter });
    }
    made
}

fn catch(builder: &mut Builder<'_>, fields: &Fields<'_>, nest: usize) -> Vec<Catcher> {
    let list = entries(builder, fields, "Catch");
    let count = list.len();
    let mut made = Vec::with_capacity(count);
    for (n, entry) in list.iter().enumerate() {
        builder.known(entry, &["ErrorEquals", "Next", "Output", "Assign", "Comment"], "Catch");
        made.push(Catcher {
            errors: errors(builder, entry, n + 1 == count),
            next: required_next(builder, entry, nest),
            assign: assign(builder, entry),
            output: builder.template_of(entry, "Output"),
            comment: builder.text(entry, "Comment"),
        });
    }
    made
}

fn compensate(builder: &mut Builder<'_>, fields: &Fields<'_>, state: &State, path: &str) -> Option<Compensate> {
    let Some(node) = fields.get("Compensate") else {
        if matches!(state.kind, Kind::Task(Resource::Activity(_))) {
            let mend = "say how to undo it with Compensate: { Resource: activity:NAME }, or write Compensate: none";
            builder.warn(state.at, path, "does this activity leave effects? nothing undoes it", mend);
        }
        return None;
    };
    if node.text() == Some("none") {
        return None;
    }
    let undo = builder.inner(fields, "Compensate")?;
    builder.known(
        &undo,
        &["Resource", "Arguments", "Retry", "TimeoutSeconds", "HeartbeatSeconds", "Comment"],
        "Compensate",
    );
    let activity = match resource(builder, &undo)? {
        Resource::Activity(name) => name,
        Resource::Human | Resource::Signal(_) | Resource::Saga { .. } | Resource::Event(_) => {
            builder.fault_at(&undo, "Resource", "only an activity can undo", "write activity:NAME");
            return None;
        }
    };
    Some(Compensate {
        activity,
        arguments: builder.template_of(&undo, "Arguments"),
        retry: retry(builder, &undo),
        timeout: builder.seconds(&undo, "TimeoutSeconds", Measure::Timeout),
        heartbeat: builder.seconds(&undo, "HeartbeatSeconds", Measure::Timeout),
    })
}

fn choice(builder: &mut Builder<'_>, fields: &Fields<'_>, nest: usize) -> Kind {
    let list = entries(builder, fields, "Choices");
    if list.is_empty() {
        builder.fault_at(
            fields,
            "Choices",
            "there is no choice",
            "write Choices: [{ Condition: \"{% … %}\", Next: NAME }]",
        );
    }
    let mut rules = Vec::with_capacity(list.len());
    for entry in &list {
        builder.known(entry, &["Condition", "Next", "Assign", "Output", "Comment"], "a Choice rule");
        if !entry.has("Condition") {
            builder.fault(entry.at(), &entry.path, "Condition is missing", "write Condition: \"{% … %}\"");
        }
        let condition = builder.template_of(entry, "Condition");
        if let Some(Template::Constant(value)) = &condition
            && !value.is_boolean()
        {
            builder.fault_at(entry, "Condition", "this is never true or false", "write Condition: \"{% … %}\"");
        }
        rules.push(Rule {
            condition: condition.unwrap_or(Template::Constant(false.into())),
            next: required_next(builder, entry, nest),
            assign: assign(builder, entry),
            output: builder.template_of(entry, "Output"),
            comment: builder.text(entry, "Comment"),
        });
    }
    Kind::Choice { rules, default: next(builder, fields, "Default", nest) }
}

fn wait(builder: &mut Builder<'_>, fields: &Fields<'_>) -> Kind {
    if fields.has("Seconds") == fields.has("Timestamp") {
        builder.fault(fields.at(), &fields.path, "it needs exactly one of Seconds and Timestamp", "write Seconds: 30");
    }
    if let Some(at) = builder.template_of(fields, "Timestamp") {
        if let Template::Constant(value) = &at
            && let Err(why) = amount::moment(value)
            && !builder.faults.stored
        {
            builder.fault_at(fields, "Timestamp", why, "write it as \"2026-01-31T12:00:00Z\"");
        }
        return Kind::Wait(Until::Timestamp(at));
    }
    let seconds = builder.amount(fields, "Seconds", Measure::Pause);
    Kind::Wait(Until::Seconds(seconds.unwrap_or(super::Amount::Is(0.into()))))
}

fn parallel(builder: &mut Builder<'_>, fields: &Fields<'_>, index: usize, depth: usize) -> Kind {
    let list = entries(builder, fields, "Branches");
    if list.is_empty() {
        builder.fault_at(fields, "Branches", "there is no branch", "write Branches: [{ StartAt: …, States: { … } }]");
    }
    let mut branches = Vec::with_capacity(list.len());
    for entry in &list {
        builder.known(entry, &["Comment", "QueryLanguage", "StartAt", "States"], "a branch");
        query_language(builder, entry);
        branches.push(nest(builder, entry, Some(index), depth + 1));
    }
    Kind::Parallel(branches)
}

fn map(builder: &mut Builder<'_>, fields: &Fields<'_>, index: usize, depth: usize) -> Kind {
    let inner = match builder.inner(fields, "ItemProcessor") {
        Some(processor) => {
            builder.known(
                &processor,
                &["Comment", "QueryLanguage", "ProcessorConfig", "StartAt", "States"],
                "ItemProcessor",
            );
            query_language(builder, &processor);
            if let Some(config) = builder.inner(&processor, "ProcessorConfig")
                && let Some(mode) = builder.text(&config, "Mode").filter(|mode| mode != "INLINE")
            {
                let mend = "write INLINE or leave it out; for very many items, start a saga for each (saga:NAME)";
                builder.fault_at(&config, "Mode", format!("{mode:?} is not supported"), mend);
            }
            nest(builder, &processor, Some(index), depth + 1)
        }
        None => {
            if !fields.has("ItemProcessor") {
                let mend = "write ItemProcessor: { StartAt: …, States: { … } }";
                builder.fault(fields.at(), &fields.path, "ItemProcessor is missing", mend);
            }
            0
        }
    };
    let items = builder.template_of(fields, "Items");
    if let Some(Template::Constant(value)) = &items
        && !value.is_array()
    {
        builder.fault_at(fields, "Items", "this is not a list", "write a list or an expression that makes one");
    }
    Kind::Map(Box::new(Each {
        nest: inner,
        items,
        selector: builder.template_of(fields, "ItemSelector"),
        concurrency: builder.amount(fields, "MaxConcurrency", Measure::Count),
        tolerated: builder.amount(fields, "ToleratedFailureCount", Measure::Count),
        tolerated_percentage: builder.amount(fields, "ToleratedFailurePercentage", Measure::Percentage),
    }))
}

/// Fields of a Map that have a word of their own.
const REFUSED_IN_MAPS: [&str; 5] = ["ItemReader", "ResultWriter", "ItemBatcher", "Label", "Iterator"];

fn refuse_distributed(builder: &mut Builder<'_>, fields: &Fields<'_>) {
    for field in REFUSED_IN_MAPS {
        if field != "Iterator" && fields.has(field) {
            let mend = "Maps run inline: read the items with an activity and give them as Items";
            builder.fault_at(
                fields,
                field,
                format!("{field} belongs to distributed Maps, which are not supported"),
                mend,
            );
        }
    }
    if fields.has("Iterator") {
        builder.fault_at(fields, "Iterator", "Iterator is an old name", "rename it to ItemProcessor");
    }
}
