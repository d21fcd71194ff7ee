//! From a request to a command's body.

use std::collections::BTreeMap;

use actors::runtime::deployment;
use protocol::{Code, Problem, Value, number};
use serde_json::{Map, json};

use super::routes::{Route, Shape};

/// What a request says, besides who says it.
#[derive(Debug)]
pub(super) struct Said<'a> {
    pub(super) path: &'a BTreeMap<String, String>,
    pub(super) query: &'a BTreeMap<String, String>,
    pub(super) body: &'a [u8],
    /// Names the request.
    pub(super) key: &'a str,
}

fn bad(message: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, message)
}

/// The body of the route's command.
pub(super) fn body(route: &Route, said: &Said<'_>) -> Result<Value, Problem> {
    let given = object(said.body)?;
    let mut fields = Map::new();
    for (name, text) in said.path.iter().chain(said.query) {
        if fields.insert(name.clone(), typed(name, text)?).is_some() {
            return Err(bad(format!("{name} is said twice, in the path and as a parameter")));
        }
    }
    let merged = |mut fields: Map<String, Value>, given: Map<String, Value>| {
        for (name, value) in given {
            if fields.contains_key(&name) {
                return Err(bad(format!("{name} is said twice, in the address and in the body")));
            }
            fields.insert(name, value);
        }
        Ok(fields)
    };
    match route.shape {
        Shape::Fields => merged(fields, given).map(Value::Object),
        Shape::Plan if given.contains_key("preview") => {
            Err(bad("a plan names no preview").mend("POST …/apply with the preview that the plan answered"))
        }
        Shape::Apply if !given.contains_key("preview") => {
            Err(bad("nothing is applied that was not shown").mend("POST …/plan, and name its preview here"))
        }
        Shape::Plan | Shape::Apply => merged(fields, given).map(Value::Object),
        Shape::Whole(name) => {
            fields.insert(name.to_owned(), Value::Object(given));
            Ok(Value::Object(fields))
        }
        Shape::Keyed => {
            let mut fields = merged(fields, given)?;
            fields.insert("id".to_owned(), json!(said.key));
            Ok(Value::Object(fields))
        }
        Shape::Deployment(kind) => {
            fields.insert("kind".to_owned(), json!(kind));
            let input = merged(fields, given)?;
            // Workers speak for themselves, and approvals are decisions of their own.
            if let Some(name) = ["source", "approvedBy"].into_iter().find(|name| input.contains_key(*name)) {
                return Err(bad(format!("{name} cannot be said here")).mend("leave it out"));
            }
            Ok(json!({ "definition": deployment::DEFINITION, "key": said.key, "input": input }))
        }
        Shape::Removal(definition) => {
            let input = merged(fields, given)?;
            Ok(json!({ "definition": definition, "key": said.key, "input": input }))
        }
    }
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Problem> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    // What the parser says may show what it found, and that may be the value of a secret.
    let fields = serde_json::from_slice(body);
    let fields = fields.map_err(|_| bad("the body is not a JSON object").mend("send one, or no body"))?;
    match number::first_not_kept(body) {
        Some(_) => Err(bad("a number in the body cannot be kept exactly").mend("send it as a text, in quotes")),
        None => Ok(fields),
    }
}

/// A part of the address is text; some fields are something else.
fn typed(name: &str, text: &str) -> Result<Value, Problem> {
    match name {
        "version" | "lines" => {
            let number: u64 = text.parse().map_err(|_| bad(format!("{name} is a number, and not {text:?}")))?;
            Ok(number.into())
        }
        "all" | "unhold" => match text {
            "true" | "" => Ok(true.into()),
            "false" => Ok(false.into()),
            _ => Err(bad(format!("{name} is true or false, and not {text:?}"))),
        },
        _ => Ok(text.into()),
    }
}
