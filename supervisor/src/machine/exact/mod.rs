//! Numbers inside an expression as they were written.
//!
//! The query engine reckons in binary numbers of 53 bits. Whole numbers of 64 bits and decimals with
//! more figures than it writes go through it as a *numeral*: a text that begins with a mark and holds
//! the number's own figures. Wherever data is only handed on or told apart, a numeral is as good as
//! the number; [`tree`] puts [`functions`] wherever an expression looks at what a value is, and these
//! reckon exactly or fail by name.
//!
//! Nearly no expression meets such a number, and none shall pay for those that do: a numeral appears
//! where data comes in, where it is written in the source, or where something grew. So an expression
//! runs without all this first, with only its growth watched, and once more with it when there is need.

pub(super) mod functions;
pub(super) mod literal;
pub(super) mod tree;

use std::cell::Cell;
use std::cmp::Ordering;
use std::rc::Rc;

use jsonata_core::value::{JArray, JMap, JValue};
use protocol::Value;
use serde_json::Number;

/// What a numeral begins with: a character that Unicode keeps out of texts that are exchanged.
pub(super) const MARK: char = '\u{fdd0}';
/// What is said of a text with it, wherever it stands: a function could take off what is before it.
pub(super) const UNFIT_TEXT: &str =
    "a text has the character U+FDD0, which Unicode keeps out of texts that are exchanged";
/// All whole numbers up to here are binary numbers of the engine.
const WHOLE_MAX: i128 = 1 << 53;
const WHOLE_MAX_FLOAT: f64 = 9_007_199_254_740_992.0;
/// No 64 bits reach this far.
const END: f64 = 18_446_744_073_709_551_616.0;

/// What one evaluation knows of its numbers.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    /// Whether it has met one that the engine cannot hold.
    pub(super) met: Cell<bool>,
}

impl Numbers {
    /// A value as the engine is given it.
    pub(super) fn seen(&self, value: &Value) -> Result<JValue, String> {
        Ok(match value {
            Value::Null => JValue::Null,
            Value::Bool(yes) => JValue::Bool(*yes),
            Value::Number(number) => {
                let number = of(number);
                self.met.set(self.met.get() || numeral(&number).is_some());
                number
            }
            Value::String(text) if text.contains(MARK) => return Err(UNFIT_TEXT.to_owned()),
            Value::String(text) => JValue::String(text.as_str().into()),
            Value::Array(items) => {
                let flat = !items.iter().any(Value::is_array);
                let items = items.iter().map(|item| self.seen(item)).collect::<Result<_, _>>()?;
                JValue::Array(JArray::new_flat(items, flat))
            }
            Value::Object(fields) => {
                if fields.keys().any(|name| name.contains(MARK)) {
                    return Err(UNFIT_TEXT.to_owned());
                }
                let seen = fields.iter().map(|(name, field)| Ok((name.clone(), self.seen(field)?)));
                JValue::Object(Rc::new(seen.collect::<Result<JMap, String>>()?))
            }
        })
    }
}

/// A number as the engine is given it.
fn of(number: &Number) -> JValue {
    if let Some(whole) = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from)) {
        return of_whole(whole);
    }
    let float = number.as_f64().unwrap_or_default();
    if float.fract() != 0.0 {
        // The engine writes fifteen figures, so that what it reckoned looks like what was meant.
        return if fits(float) { JValue::Number(float) } else { marked(number) };
    }
    // The figures that were written, and not those of the binary number nearest to them.
    match protocol::number::whole(&number.to_string()).filter(|whole| within_64_bits(*whole)) {
        Some(whole) => of_whole(whole),
        None => JValue::Number(float),
    }
}

fn fits(float: f64) -> bool {
    format!("{float:.14e}").parse() == Ok(float)
}

fn within_64_bits(whole: i128) -> bool {
    (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&whole)
}

#[allow(clippy::cast_precision_loss)] // Guarded.
fn of_whole(whole: i128) -> JValue {
    if whole.abs() <= WHOLE_MAX { JValue::Number(whole as f64) } else { marked(whole) }
}

fn marked(figures: impl std::fmt::Display) -> JValue {
    JValue::String(format!("{MARK}{figures}").into())
}

/// The figures, if this is a numeral.
pub(super) fn numeral(value: &JValue) -> Option<&str> {
    match value {
        JValue::String(text) => text.strip_prefix(MARK),
        _ => None,
    }
}

/// A numeral as the number it is.
pub(super) fn plain(figures: &str) -> Result<Value, String> {
    match serde_json::from_str(figures) {
        Ok(Value::Number(number)) => Ok(Value::Number(number)),
        Ok(_) | Err(_) => Err(UNFIT_TEXT.to_owned()),
    }
}

/// A number that is reckoned with.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Term {
    Whole(i128),
    Float(f64),
}

impl Term {
    /// `None` for anything but a number.
    #[allow(clippy::cast_possible_truncation)] // Whole and within 53 bits.
    fn of(value: &JValue) -> Option<Self> {
        match value {
            JValue::Number(number) if number.fract() == 0.0 && number.abs() <= WHOLE_MAX_FLOAT => {
                Some(Self::Whole(*number as i128))
            }
            JValue::Number(number) => Some(Self::Float(*number)),
            other => {
                let figures = numeral(other)?;
                figures.parse().map(Self::Whole).or_else(|_| figures.parse().map(Self::Float)).ok()
            }
        }
    }

    /// The same number as the engine has them, where it can have it.
    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // Compared with what it was.
    fn float(self) -> Option<f64> {
        match self {
            Self::Float(float) => Some(float),
            Self::Whole(whole) => Some(whole as f64).filter(|float| *float as i128 == whole),
        }
    }

    #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)] // What does not fit is far from it.
    fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Whole(left), Self::Whole(right)) => left.cmp(&right),
            (Self::Float(left), Self::Float(right)) => left.partial_cmp(&right).unwrap_or(Ordering::Equal),
            (Self::Float(_), Self::Whole(_)) => other.compare(self).reverse(),
            (Self::Whole(left), Self::Float(right)) => match left.cmp(&(right.floor() as i128)) {
                Ordering::Equal if right.fract() > 0.0 => Ordering::Less,
                order => order,
            },
        }
    }
}

/// What a person is told of a number that an operation or function cannot take as it is.
fn unfit(figures: impl std::fmt::Display, what: &str) -> String {
    format!("the number {figures} is not exact in {what}, which reckons in 53 bits: hand it over as a text")
}
