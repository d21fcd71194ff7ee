//! Data on the command line: JSON, a file, standard input, or fields one by one.

use std::io::Read as _;

use clap::Args;
use protocol::Value;

use super::fault::Fault;

#[derive(Args, Debug, Default)]
pub(super) struct Input {
    /// JSON text, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    pub(super) input: Option<String>,
    /// One field: name=value, where value is JSON or else text; a.b=1 reaches inside
    #[arg(long = "set", value_name = "FIELD=VALUE")]
    pub(super) fields: Vec<String>,
}

impl Input {
    /// The data; null when nothing was given.
    pub(super) fn value(&self) -> Result<Value, Fault> {
        let mut value = self.input.as_deref().map_or(Ok(Value::Null), json)?;
        for field in &self.fields {
            set(&mut value, field)?;
        }
        Ok(value)
    }
}

/// JSON text, `@FILE`, or `-`.
pub(super) fn json(given: &str) -> Result<Value, Fault> {
    let (text, from) = match given.strip_prefix('@') {
        Some(file) => (read_file(file)?, file.to_owned()),
        None if given == "-" => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            (text, "standard input".into())
        }
        None => (given.to_owned(), "the argument".into()),
    };
    serde_json::from_str(&text).map_err(|error| {
        Fault::usage(format!("{from} is not JSON: {error}"))
            .mend("write JSON, @FILE for a file, or - for standard input")
    })
}

/// A file's text.
pub(super) fn read_file(file: &str) -> Result<String, Fault> {
    std::fs::read_to_string(file).map_err(|error| Fault::usage(format!("cannot read {file}")).why(error.to_string()))
}

fn set(value: &mut Value, field: &str) -> Result<(), Fault> {
    let Some((path, text)) = field.split_once('=') else {
        return Err(Fault::usage(format!("{field:?} is not a field")).mend("write --set name=value"));
    };
    let mut at = value;
    for name in path.split('.') {
        if at.is_null() {
            *at = Value::Object(serde_json::Map::new());
        }
        let Value::Object(fields) = at else {
            return Err(Fault::usage(format!("{path:?} reaches into something that is not an object")));
        };
        at = fields.entry(name).or_insert(Value::Null);
    }
    *at = serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_build_an_object() {
        let fields = ["a=1", "b.c=true", "b.d=some text"].map(str::to_owned).to_vec();
        let value = Input { input: Some("{\"a\":0,\"z\":null}".into()), fields }.value().unwrap();
        assert_eq!(value, serde_json::json!({"a": 1, "b": {"c": true, "d": "some text"}, "z": null}));
        assert_eq!(Input::default().value().unwrap(), Value::Null);
        let bad = Input { input: Some("{".into()), fields: Vec::new() };
        assert_eq!(bad.value().unwrap_err().exit, 2);
    }
}
