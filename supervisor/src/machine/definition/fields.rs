//! Reading the fields of a mapping, with a fault for each that is not as it must be.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Number;

use super::fault::{FAULTS_MAX, Fault, Faults, Warning, meant};
use super::source::{At, Data, Key, Node};
use super::{Amount, Nest, State};
use crate::machine::amount::{self, Measure};
use crate::machine::expression::{Expression, Template};

/// What is gathered while a definition is read.
pub(super) struct Builder<'a> {
    pub faults: &'a mut Faults,
    pub warnings: Vec<Warning>,
    pub nests: Vec<Nest>,
    pub states: Vec<State>,
    pub names: HashMap<Arc<str>, usize>,
    /// Every mention of a state: in which nest, where, on what path.
    pub mentions: Vec<Mention>,
    /// Whether an expression needs the query engine, whose work may take long.
    pub queries: bool,
}

/// A place that names a state to go to.
pub(super) struct Mention {
    pub nest: usize,
    pub to: Arc<str>,
    pub at: At,
    pub path: String,
}

/// A mapping and what it is called in messages.
pub(super) struct Fields<'n> {
    at: At,
    fields: &'n [(Key, Node)],
    pub path: String,
}

impl<'n> Fields<'n> {
    pub fn at(&self) -> At {
        self.at
    }

    pub fn entries(&self) -> &'n [(Key, Node)] {
        self.fields
    }

    pub fn get(&self, name: &str) -> Option<&'n Node> {
        self.fields.iter().find(|(key, _)| key.text == name).map(|(_, node)| node)
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

impl Builder<'_> {
    pub fn fault(&mut self, at: At, path: impl Into<String>, what: impl Into<String>, mend: impl Into<String>) {
        self.faults.push(Fault::new(at, path, what, mend));
    }

    /// A fault at the value of a field.
    pub fn fault_at(&mut self, fields: &Fields<'_>, name: &str, what: impl Into<String>, mend: impl Into<String>) {
        let at = fields.get(name).map_or(fields.at, |node| node.at);
        self.fault(at, fields.path_of(name), what, mend);
    }

    pub fn warn(&mut self, at: At, path: &str, what: impl Into<String>, mend: impl Into<String>) {
        if self.warnings.len() >= FAULTS_MAX {
            return;
        }
        self.warnings.push(Warning { file: self.faults.file.clone(), fault: Fault::new(at, path, what, mend) });
    }

    /// The fields of a mapping.
    pub fn fields<'n>(&mut self, node: &'n Node, path: &str) -> Option<Fields<'n>> {
        match &node.data {
            Data::Map(fields) => Some(Fields { at: node.at, fields, path: path.to_owned() }),
            Data::Null | Data::Bool(_) | Data::Number(_) | Data::Text(_) | Data::List(_) => {
                self.fault(node.at, path, format!("this must be a mapping, not {}", node.kind()), "write key: value");
                None
            }
        }
    }

    /// The fields of the mapping under `name`, if it is there.
    pub fn inner<'n>(&mut self, fields: &Fields<'n>, name: &str) -> Option<Fields<'n>> {
        let node = fields.get(name)?;
        self.fields(node, &fields.path_of(name))
    }

    /// A fault for each field that is not among `known`.
    pub fn known(&mut self, fields: &Fields<'_>, known: &[&str], of: &str) {
        for (key, _) in fields.entries() {
            if known.contains(&key.text.as_str()) {
                continue;
            }
            if self.faults.is_full() {
                return;
            }
            let (what, mend) = match json_path(&key.text) {
                Some(mend) => (format!("{:?} belongs to JSONPath", key.text), mend.to_owned()),
                None => (
                    format!("{:?} is not a field of {of}", key.text),
                    meant(&key.text, known.iter().copied()).map_or_else(
                        || format!("the fields are {}", known.join(", ")),
                        |near| format!("did you mean {near:?}?"),
                    ),
                ),
            };
            self.fault(key.at, fields.path_of(&key.text), what, mend);
        }
    }

    /// A text.
    pub fn text(&mut self, fields: &Fields<'_>, name: &str) -> Option<String> {
        let node = fields.get(name)?;
        if node.text().is_none() {
            self.fault(
                node.at,
                fields.path_of(name),
                format!("this must be a text, not {}", node.kind()),
                "put it in quotes",
            );
        }
        node.text().map(str::to_owned)
    }

    /// `true` or `false`.
    pub fn flag(&mut self, fields: &Fields<'_>, name: &str) -> Option<bool> {
        let node = fields.get(name)?;
        if let Data::Bool(yes) = node.data {
            return Some(yes);
        }
        self.fault(
            node.at,
            fields.path_of(name),
            format!("this must be true or false, not {}", node.kind()),
            "write true or false",
        );
        None
    }

    /// A number.
    pub fn number(&mut self, fields: &Fields<'_>, name: &str, measure: Measure) -> Option<Number> {
        let node = fields.get(name)?;
        let number = match &node.data {
            Data::Number(number) => Some(number).filter(|number| measure.holds(number) || self.faults.stored),
            Data::Null | Data::Bool(_) | Data::Text(_) | Data::List(_) | Data::Map(_) => None,
        };
        if number.is_none() {
            let what = match &node.data {
                Data::Number(number) => format!("{number} is not {}", measure.demand()),
                _ => format!("this must be {}, not {}", measure.demand(), node.kind()),
            };
            self.fault(node.at, fields.path_of(name), what, format!("write {}", measure.demand()));
        }
        number.cloned()
    }

    /// A length of time.
    pub fn seconds(&mut self, fields: &Fields<'_>, name: &str, measure: Measure) -> Option<Duration> {
        self.number(fields, name, measure).map(|number| amount::seconds(&number))
    }

    /// A number, or an expression that makes one.
    pub fn amount(&mut self, fields: &Fields<'_>, name: &str, measure: Measure) -> Option<Amount> {
        let node = fields.get(name)?;
        if node.text().is_some() {
            return match self.template(node, &fields.path_of(name))? {
                Template::Expression(expression) => Some(Amount::Asked(expression)),
                Template::Constant(_) | Template::List(_) | Template::Map(_) => {
                    self.fault_at(fields, name, "this must be a number or an expression", "write 30 or \"{% … %}\"");
                    None
                }
            };
        }
        self.number(fields, name, measure).map(Amount::Is)
    }

    /// The template under `name`, if it is there.
    pub fn template_of(&mut self, fields: &Fields<'_>, name: &str) -> Option<Template> {
        let node = fields.get(name)?;
        self.template(node, &fields.path_of(name))
    }

    /// A value in which texts of the form `{% … %}` are expressions.
    pub fn template(&mut self, node: &Node, path: &str) -> Option<Template> {
        match &node.data {
            Data::Null | Data::Bool(_) | Data::Number(_) => {
                if let Some(written) = &node.written {
                    let what = format!("{written} is the number {}", node.value());
                    self.warn(node.at, path, &what, format!("put it in quotes if it is a text: \"{written}\""));
                }
                Some(Template::Constant(node.value()))
            }
            Data::Text(text) => self.text_template(node.at, text, path),
            Data::List(items) => {
                let made: Vec<Option<Template>> =
                    items.iter().enumerate().map(|(n, item)| self.template(item, &format!("{path}[{n}]"))).collect();
                let made: Vec<Template> = made.into_iter().collect::<Option<_>>()?;
                let constant = made.iter().all(|item| matches!(item, Template::Constant(_)));
                Some(if constant { Template::Constant(node.value()) } else { Template::List(made) })
            }
            Data::Map(fields) => {
                let made: Vec<Option<(String, Template)>> = fields
                    .iter()
                    .map(|(key, item)| {
                        let item = self.template(item, &format!("{path}.{}", key.text))?;
                        Some((key.text.clone(), item))
                    })
                    .collect();
                let made: Vec<(String, Template)> = made.into_iter().collect::<Option<_>>()?;
                let constant = made.iter().all(|(_, item)| matches!(item, Template::Constant(_)));
                Some(if constant { Template::Constant(node.value()) } else { Template::Map(made) })
            }
        }
    }

    fn text_template(&mut self, at: At, text: &str, path: &str) -> Option<Template> {
        // A block text ends with a line break that nobody meant.
        let trimmed = text.trim_end_matches(['\n', '\r']);
        let Some(inner) = trimmed.strip_prefix("{%") else {
            return Some(Template::Constant(text.into()));
        };
        let Some(inner) = inner.strip_suffix("%}") else {
            self.fault(at, path, "an expression begins here and does not end", "end the text with %}");
            return None;
        };
        if self.faults.is_full() {
            return None;
        }
        let expression = match Expression::new(inner) {
            Ok(expression) => expression,
            Err(why) if self.faults.stored => Expression::failing(inner, why),
            Err(why) => {
                self.fault(at, path, format!("the expression does not parse: {why}"), "see https://docs.jsonata.org");
                return None;
            }
        };
        self.queries |= expression.is_query();
        Some(Template::Expression(expression))
    }
}

/// What to write instead of a JSONPath field.
fn json_path(field: &str) -> Option<&'static str> {
    Some(match field {
        "InputPath" => "leave it out and pick what is needed in Arguments: \"{% $states.input.field %}\"",
        "Parameters" => "rename it to Arguments, and write each \"x.$\": \"$.y\" as x: \"{% $states.input.y %}\"",
        "ResultSelector" | "ResultPath" | "OutputPath" => {
            "write Output: \"{% $states.result %}\", or keep the input beside it: \"{% $merge([$states.input, {'field': $states.result}]) %}\""
        }
        "Result" => "write Output",
        "ItemsPath" => "write Items: \"{% $states.input.list %}\"",
        "SecondsPath" => "write Seconds: \"{% $states.input.seconds %}\"",
        "TimestampPath" => "write Timestamp: \"{% $states.input.at %}\"",
        "TimeoutSecondsPath" => "write TimeoutSeconds: \"{% $states.input.seconds %}\"",
        "HeartbeatSecondsPath" => "write HeartbeatSeconds: \"{% $states.input.seconds %}\"",
        "MaxConcurrencyPath" => "write MaxConcurrency: \"{% $states.input.width %}\"",
        "ToleratedFailureCountPath" => "write ToleratedFailureCount: \"{% … %}\"",
        "ToleratedFailurePercentagePath" => "write ToleratedFailurePercentage: \"{% … %}\"",
        "ErrorPath" => "write Error: \"{% … %}\"",
        "CausePath" => "write Cause: \"{% … %}\"",
        "Variable" | "And" | "Or" | "Not" => "write Condition: \"{% $states.input.x = 1 %}\"",
        _ => return None,
    })
}
