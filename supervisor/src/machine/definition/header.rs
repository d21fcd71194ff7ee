//! What stands around the States Language: who may, how long, what the picture leaves out.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::fault::meant;
use super::fields::{Builder, Fields};
use super::source::{Data, Node};

/// What stands around the States Language.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Header {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// Who may do what.
    pub access: Access,
    /// How long ended sagas are kept.
    pub retention: Retention,
    /// What a cancel does.
    pub on_cancel: OnCancel,
    /// States that the picture leaves out.
    pub hidden: BTreeSet<String>,
    /// Words on the picture's edges, by from and to.
    pub labels: BTreeMap<(String, String), String>,
}

/// Who may do what: principals, or `*` for everyone of the tenant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Access {
    /// Start a saga.
    pub start: Vec<String>,
    /// Look at one.
    pub view: Vec<String>,
    /// Signal one and decide its tasks.
    pub signal: Vec<String>,
    /// Cancel one.
    pub cancel: Vec<String>,
}

impl Default for Access {
    fn default() -> Self {
        let all = || vec!["*".to_owned()];
        Self { start: all(), view: all(), signal: all(), cancel: all() }
    }
}

impl Access {
    /// Whether `list`, one of the four, has `principal` or `*` in it.
    pub fn allows(list: &[String], principal: &str) -> bool {
        list.iter().any(|entry| entry == "*" || entry == principal)
    }
}

/// How long ended sagas are kept; the node's setting when absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Retention {
    /// Those that ended well.
    pub succeeded: Option<Duration>,
    /// Those that did not.
    pub failed: Option<Duration>,
}

/// What a cancel does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OnCancel {
    /// What was done is undone.
    #[default]
    Undo,
    /// The saga cannot be cancelled.
    Refuse,
}

const FIELDS: &[&str] = &["name", "description", "access", "retention", "onCancel", "hidden", "labels", "definition"];

/// Whether `name` can be a definition's name.
pub(super) fn usable(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= protocol::ids::NAME_MAX_BYTES
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

/// Reads the header of `root`.
pub(super) fn read(builder: &mut Builder<'_>, root: &Node) -> Header {
    let mut header = Header::default();
    let Some(fields) = builder.fields(root, "") else { return header };
    builder.known(&fields, FIELDS, "header");
    match builder.text(&fields, "name") {
        Some(name) if usable(&name) => header.name = name,
        Some(name) => {
            let fixed: String =
                name.to_lowercase().chars().map(|c| if usable(&c.to_string()) { c } else { '-' }).collect();
            builder.fault_at(&fields, "name", format!("{name:?} is not usable"), format!("write {fixed:?}"));
        }
        None if fields.get("name").is_none() => {
            builder.fault(fields.at(), "", "there is no name", "begin with name: NAME");
        }
        None => {}
    }
    header.description = builder.text(&fields, "description");
    if let Some(access) = builder.inner(&fields, "access") {
        builder.known(&access, &["start", "view", "signal", "cancel"], "access");
        for (name, list) in [
            ("start", &mut header.access.start),
            ("view", &mut header.access.view),
            ("signal", &mut header.access.signal),
            ("cancel", &mut header.access.cancel),
        ] {
            if let Some(given) = texts(builder, &access, name) {
                *list = given;
            }
        }
    }
    if let Some(retention) = builder.inner(&fields, "retention") {
        builder.known(&retention, &["succeeded", "failed"], "retention");
        header.retention.succeeded = duration(builder, &retention, "succeeded");
        header.retention.failed = duration(builder, &retention, "failed");
    }
    match builder.text(&fields, "onCancel").as_deref() {
        None | Some("undo") => {}
        Some("refuse") => header.on_cancel = OnCancel::Refuse,
        Some(other) => {
            let what = format!("{other:?} is not known");
            builder.fault_at(&fields, "onCancel", what, "write undo or refuse");
        }
    }
    header.hidden = texts(builder, &fields, "hidden").unwrap_or_default().into_iter().collect();
    labels(builder, &fields, &mut header);
    header
}

fn labels(builder: &mut Builder<'_>, fields: &Fields<'_>, header: &mut Header) {
    let Some(labels) = builder.inner(fields, "labels") else { return };
    for (edge, _) in labels.entries() {
        let Some(word) = builder.text(&labels, &edge.text) else { continue };
        match edge.text.split_once("->") {
            Some((from, to)) => {
                header.labels.insert((from.trim().to_owned(), to.trim().to_owned()), word);
            }
            None => builder.fault(
                edge.at,
                "labels",
                format!("{:?} names no edge", edge.text),
                "write \"From -> To\": \"words\"",
            ),
        }
    }
}

/// A list of texts, or one text alone.
pub(super) fn texts(builder: &mut Builder<'_>, fields: &Fields<'_>, name: &str) -> Option<Vec<String>> {
    let node = fields.get(name)?;
    match &node.data {
        Data::Text(text) => Some(vec![text.clone()]),
        Data::List(items) if items.iter().all(|item| item.text().is_some()) => {
            Some(items.iter().filter_map(Node::text).map(str::to_owned).collect())
        }
        Data::List(_) | Data::Null | Data::Bool(_) | Data::Number(_) | Data::Map(_) => {
            builder.fault_at(fields, name, "this must be a list of texts", "write [a, b]");
            None
        }
    }
}

fn duration(builder: &mut Builder<'_>, fields: &Fields<'_>, name: &str) -> Option<Duration> {
    let text = builder.text(fields, name)?;
    let (digits, unit) = text.split_at(text.len() - text.chars().last().map_or(0, char::len_utf8));
    let seconds = match unit {
        "s" => Some(1),
        "m" => Some(60),
        "h" => Some(3_600),
        "d" => Some(86_400),
        _ => None,
    };
    let parsed = seconds.and_then(|unit: u64| digits.parse::<u64>().ok()?.checked_mul(unit));
    if parsed.is_none() {
        builder.fault_at(fields, name, format!("{text:?} is not a duration"), "write a number and s, m, h or d: 7d");
    }
    parsed.map(Duration::from_secs)
}

/// Checks what speaks of states, once they are known.
pub(super) fn check_states(builder: &mut Builder<'_>, root: &Node, header: &Header) {
    let known: Vec<String> = builder.states.iter().map(|state| state.name.to_string()).collect();
    let at = |field: &str| root.get(field).map_or(root.at, |node| node.at);
    let mut missing = Vec::new();
    for name in header.hidden.iter().filter(|name| !known.contains(name)) {
        missing.push((at("hidden"), "hidden", name));
    }
    for name in header.labels.keys().flat_map(|(from, to)| [from, to]) {
        if name != "[*]" && !known.contains(name) {
            missing.push((at("labels"), "labels", name));
        }
    }
    for (at, path, name) in missing {
        let mend = meant(name, known.iter().map(String::as_str))
            .map_or_else(|| "name a state that exists".to_owned(), |near| format!("did you mean {near:?}?"));
        builder.fault(at, path, format!("there is no state {name:?}"), mend);
    }
}
