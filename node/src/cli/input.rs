//! Data on the command line: JSON, a file, standard input, or fields one by one.

use std::io::Read as _;

use clap::Args;
use protocol::{Value, number};

use super::fault::Fault;

#[derive(Args, Debug, Default)]
pub(super) struct Input {
    /// JSON text, @FILE, or - for standard input
    #[arg(long, value_name = "JSON")]
    pub(super) input: Option<String>,
    /// One field: name=value, where value is JSON or else text, as is a number that would be written
    /// in another way (1.10, 6063e25); a.b=1 reaches inside
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
    let value = serde_json::from_str(&text).map_err(|error| {
        Fault::usage(format!("{from} is not JSON: {error}"))
            .mend("write JSON, @FILE for a file, or - for standard input")
    })?;
    match number::first_not_kept(text.as_bytes()) {
        Some(number) => Err(Fault::usage(format!("{from}: the number {number} cannot be kept exactly"))
            .mend(format!("write it as a text: \"{number}\""))),
        None => Ok(value),
    }
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
    *at = told(field, text)?;
    Ok(())
}

/// JSON, or else a text. A number that would be written in another way is a text as well: a version is
/// 1.10, and a digest 6063e25.
fn told(field: &str, text: &str) -> Result<Value, Fault> {
    match serde_json::from_str(text) {
        Ok(Value::Number(number)) if number.to_string() != text.trim() => Ok(Value::String(text.to_owned())),
        Ok(value) => match number::first_not_kept(text.as_bytes()) {
            Some(number) => Err(Fault::usage(format!("{field}: the number {number} cannot be kept exactly"))
                .mend(format!("write it as a text: \"{number}\""))),
            None => Ok(value),
        },
        Err(_) => Ok(Value::String(text.to_owned())),
    }
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
        let set = |text: &str| {
            Input { input: None, fields: vec![format!("a={text}")] }.value().map(|value| value["a"].clone())
        };
        for (text, value) in [
            ("1.10", serde_json::json!("1.10")),
            ("6063e25", serde_json::json!("6063e25")),
            ("1e5", serde_json::json!("1e5")),
            ("-0", serde_json::json!("-0")),
            ("007", serde_json::json!("007")),
            ("0x1F", serde_json::json!("0x1F")),
            ("1_000", serde_json::json!("1_000")),
            ("12345678901234567890.12", serde_json::json!("12345678901234567890.12")),
            ("18446744073709551616", serde_json::json!("18446744073709551616")),
            ("18446744073709551615", serde_json::json!(u64::MAX)),
            ("9007199254740993", serde_json::json!(9_007_199_254_740_993_i64)),
            ("1.5", serde_json::json!(1.5)),
            ("0.0", serde_json::json!(0.0)),
            ("\"1.5\"", serde_json::json!("1.5")),
            ("yes", serde_json::json!("yes")),
            ("[1.10]", serde_json::json!([1.1])),
        ] {
            assert_eq!(set(text).unwrap(), value, "{text}");
        }
        let lost = set("[12345678901234567890.12]").unwrap_err();
        assert!(lost.text(str::to_owned, str::to_owned).contains("\"12345678901234567890.12\""));
        let given = Input { input: Some("{\"a\": 1e400}".into()), fields: Vec::new() };
        assert_eq!(given.value().unwrap_err().exit, 2);
        let given = Input { input: Some("{\"a\": [18446744073709551617]}".into()), fields: Vec::new() };
        assert!(given.value().unwrap_err().text(str::to_owned, str::to_owned).contains("18446744073709551617"));
        let bad = Input { input: Some("{".into()), fields: Vec::new() };
        assert_eq!(bad.value().unwrap_err().exit, 2);
    }
}
