//! What one evaluation may make. The functions here are called by what [bounds](super::bounds) put
//! into an expression; no expression can name them, for their names hold a space.

use std::cell::Cell;
use std::collections::HashSet;
use std::rc::Rc;

use jsonata_core::evaluator::{Evaluator, EvaluatorError};
use jsonata_core::value::JValue;

use super::expression::Limits;

/// Hands a value on, if it is small enough.
pub(super) const SEEN: &str = "the seen";
/// The same for one that was just made: it is added to what the evaluation made so far.
pub(super) const COUNTED: &str = "the counted";
/// Hands a width on, if it is small enough.
pub(super) const WIDTH: &str = "the width";
/// Hands a picture of a number or a date on, if it is one that somebody would write.
pub(super) const PICTURE: &str = "the picture";
/// Hands a number on that is to be written by a picture: Roman figures are as long as the number.
pub(super) const ROMAN: &str = "the number";
/// Hands a text on in which something is to be replaced.
pub(super) const REPLACED: &str = "the replaced";
/// Hands a text on that is to be taken apart.
pub(super) const TEXT: &str = "the text";
/// Hands a value on that is not a function of the language.
pub(super) const DATA: &str = "the data";
/// Hands a text on that is put between or into others again and again, if it is a short one.
pub(super) const SHORT: &str = "the short";
/// `$distinct`, in time that grows with its input and not with the square of it.
pub(super) const DISTINCT: &str = "the distinct";

/// How many times the largest value all values together may have: most of them are gone again.
const TOGETHER: usize = 16;
/// The deepest value on the way. The engine's own walks need stack for every level.
const DEPTH_MAX: usize = 400;
/// What a value costs besides its text: the engine's value is this large.
const NODE_BYTES: usize = 32;
/// The longest picture; those in the language's own tests have some forty characters.
const PICTURE_MAX_BYTES: usize = 256;
/// The most digits side by side in a picture: a width has two or three, a pattern some ten.
const DIGITS_MAX: usize = 18;
/// The largest number written in Roman figures or letters; a thousand times what Romans wrote.
const ROMAN_MAX: f64 = 4_000_000.0;
/// The longest text that is repeated and cannot be looked at together with what it goes into.
const SHORT_MAX_BYTES: usize = 4 * 1024;
/// Bytes of text for every item that taking it apart by a pattern may make.
const BYTES_PER_ITEM: usize = 8;

fn over(what: impl std::fmt::Display) -> EvaluatorError {
    EvaluatorError::EvaluationError(format!("{what}; let an activity do this work"))
}

struct Budget {
    limits: Limits,
    made: Cell<usize>,
}

/// Registers the budget of one evaluation.
pub(super) fn register(evaluator: &mut Evaluator, limits: Limits) -> Result<(), EvaluatorError> {
    let budget = Rc::new(Budget { limits, made: Cell::new(0) });
    type Check = fn(&Budget, &[JValue]) -> Result<(), EvaluatorError>;
    let checks: [(&str, Check); 9] = [
        (SEEN, Budget::seen),
        (COUNTED, Budget::counted),
        (WIDTH, Budget::width),
        (PICTURE, |_, args| picture(args)),
        (ROMAN, |_, args| roman(args)),
        (REPLACED, Budget::replaced),
        (TEXT, Budget::text),
        (DATA, |_, args| data(args)),
        (SHORT, |_, args| short(args)),
    ];
    for (name, check) in checks {
        let budget = Rc::clone(&budget);
        evaluator.register_fn(name, move |args: &[JValue]| {
            check(&budget, args)?;
            Ok(args.first().cloned().unwrap_or(JValue::Undefined))
        })?;
    }
    evaluator.register_fn(DISTINCT, |args: &[JValue]| distinct(args))
}

impl Budget {
    fn seen(&self, args: &[JValue]) -> Result<(), EvaluatorError> {
        let mut left = self.limits.expression_bytes;
        args.iter().try_for_each(|value| weigh(value, 0, &mut left)).map_err(|why| match why {
            TooMuch::Bytes => over(format!("a value on the way is larger than {} bytes", self.limits.expression_bytes)),
            TooMuch::Levels => over(format!("a value on the way nests deeper than {DEPTH_MAX} levels")),
        })
    }

    fn counted(&self, args: &[JValue]) -> Result<(), EvaluatorError> {
        self.seen(args)?;
        let bytes: usize = args.iter().map(shallow).sum();
        let (made, most) = (self.made.get().saturating_add(bytes), self.limits.expression_bytes * TOGETHER);
        self.made.set(made);
        if made > most {
            return Err(over(format!("more than {most} bytes were made on the way")));
        }
        Ok(())
    }

    fn width(&self, args: &[JValue]) -> Result<(), EvaluatorError> {
        let most = self.limits.expression_bytes;
        let wide = |value: &JValue| value.as_f64().is_some_and(|width| width.abs() * 4.0 > most as f64);
        if args.iter().any(wide) {
            return Err(over(format!("a text as wide as this is larger than {most} bytes")));
        }
        self.seen(args)
    }

    fn replaced(&self, args: &[JValue]) -> Result<(), EvaluatorError> {
        self.seen(args)?;
        let Some(text) = args.first().and_then(JValue::as_str) else { return Ok(()) };
        let places = match args.get(1) {
            Some(JValue::String(part)) if !part.is_empty() => text.matches(&**part).count(),
            _ => text.len() + 1,
        };
        let each = match args.get(2) {
            Some(JValue::String(with)) => with.len(),
            // One written in the call: what it answers is counted there.
            Some(JValue::Undefined) | None => 0,
            Some(JValue::Lambda(_) | JValue::Builtin { .. }) => return short(&args[2..]),
            Some(_) => SHORT_MAX_BYTES,
        };
        let most = self.limits.expression_bytes * TOGETHER;
        if places.saturating_mul(each) > most {
            return Err(over(format!("the replaced text may be larger than {most} bytes")));
        }
        Ok(())
    }

    fn text(&self, args: &[JValue]) -> Result<(), EvaluatorError> {
        let Some(text) = args.first().and_then(JValue::as_str) else { return Ok(()) };
        let most = self.limits.expression_sequence;
        let parts = match args.get(1) {
            Some(JValue::String(at)) if !at.is_empty() => text.matches(&**at).count(),
            Some(JValue::String(_)) => text.len(),
            _ => text.len() / BYTES_PER_ITEM,
        };
        if parts > most {
            return Err(over(format!("a text of {} bytes may fall into more than {most} parts", text.len())));
        }
        Ok(())
    }
}

enum TooMuch {
    Bytes,
    Levels,
}

/// Takes what a value has when it is written out off `left`; what is shared counts each time.
fn weigh(value: &JValue, depth: usize, left: &mut usize) -> Result<(), TooMuch> {
    let text = match value {
        JValue::String(text) => text.len(),
        _ => 0,
    };
    *left = left.checked_sub(NODE_BYTES + text).ok_or(TooMuch::Bytes)?;
    if depth > DEPTH_MAX {
        return Err(TooMuch::Levels);
    }
    match value {
        JValue::Array(items) => items.iter().try_for_each(|item| weigh(item, depth + 1, left)),
        JValue::Object(fields) => fields.iter().try_for_each(|(name, field)| {
            *left = left.checked_sub(name.len()).ok_or(TooMuch::Bytes)?;
            weigh(field, depth + 1, left)
        }),
        JValue::Null
        | JValue::Bool(_)
        | JValue::Number(_)
        | JValue::String(_)
        | JValue::Undefined
        | JValue::Lambda(_)
        | JValue::Builtin { .. }
        | JValue::Regex { .. } => Ok(()),
    }
}

/// What making a value took, its parts being there already.
fn shallow(value: &JValue) -> usize {
    match value {
        JValue::String(text) => text.len(),
        JValue::Array(items) => items.len() * NODE_BYTES,
        JValue::Object(fields) => fields.len() * NODE_BYTES * 2,
        JValue::Null
        | JValue::Bool(_)
        | JValue::Number(_)
        | JValue::Undefined
        | JValue::Lambda(_)
        | JValue::Builtin { .. }
        | JValue::Regex { .. } => 0,
    }
}

/// Used for every text that may be one.
pub(super) fn picture(args: &[JValue]) -> Result<(), EvaluatorError> {
    for picture in args.iter().filter_map(JValue::as_str) {
        let digits = picture.split(|c: char| !c.is_ascii_digit()).map(str::len).max().unwrap_or(0);
        if picture.len() > PICTURE_MAX_BYTES || digits > DIGITS_MAX {
            return Err(over(format!(
                "a picture or number of {} bytes is longer than any that is meant",
                picture.len()
            )));
        }
    }
    Ok(())
}

fn data(args: &[JValue]) -> Result<(), EvaluatorError> {
    match args.first() {
        Some(JValue::Builtin { name }) => {
            Err(over(format!("${name} can only be called here: write function($x) {{ ${name}($x, …) }}")))
        }
        _ => Ok(()),
    }
}

fn short(args: &[JValue]) -> Result<(), EvaluatorError> {
    match args.first() {
        Some(JValue::String(text)) if text.len() > SHORT_MAX_BYTES => {
            Err(over(format!("a text that is repeated has {} bytes, the limit is {SHORT_MAX_BYTES}", text.len())))
        }
        Some(JValue::Lambda(_) | JValue::Builtin { .. }) => {
            Err(over("a function that replaces must be written where $replace is called"))
        }
        _ => Ok(()),
    }
}

fn roman(args: &[JValue]) -> Result<(), EvaluatorError> {
    picture(args)?;
    let figures = args.get(1).is_none_or(|picture| picture.as_str().is_none_or(|text| text.contains(['I', 'i'])));
    if figures && args.first().and_then(JValue::as_f64).is_some_and(|number| number.abs() > ROMAN_MAX) {
        return Err(over(format!("Roman figures end at {ROMAN_MAX}")));
    }
    Ok(())
}

/// Of equal items the first.
fn distinct(args: &[JValue]) -> Result<JValue, EvaluatorError> {
    let value = args.first().cloned().unwrap_or(JValue::Undefined);
    let JValue::Array(items) = &value else { return Ok(value) };
    if items.len() < 2 {
        return Ok(value);
    }
    let mut seen = HashSet::new();
    let mut kept = Vec::new();
    for item in items.iter() {
        let mut key = String::new();
        write(item, &mut key);
        if seen.insert(key) {
            kept.push(item.clone());
        }
    }
    let mut kept = JValue::array(kept);
    if items.sequence {
        kept.mark_sequence();
    }
    Ok(kept)
}

/// Writes a value so that two are equal when their texts are. The order of an object's fields does
/// not tell objects apart.
fn write(value: &JValue, to: &mut String) {
    match value {
        JValue::Array(items) => {
            to.push('[');
            items.iter().for_each(|item| {
                write(item, to);
                to.push(',');
            });
            to.push(']');
        }
        JValue::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(name, _)| *name);
            to.push('{');
            for (name, field) in sorted {
                to.push_str(&format!("{name:?}:"));
                write(field, to);
                to.push(',');
            }
            to.push('}');
        }
        // Two zeros are one.
        JValue::Number(number) => to.push_str(&(number + 0.0).to_string()),
        JValue::String(text) => to.push_str(&format!("{text:?}")),
        JValue::Null | JValue::Bool(_) | JValue::Undefined => to.push_str(&format!("{value:?}")),
        JValue::Lambda(function) => to.push_str(&format!("{:p}", Rc::as_ptr(function))),
        JValue::Builtin { name } => to.push_str(&format!("${name}")),
        JValue::Regex { pattern, flags } => to.push_str(&format!("/{pattern}/{flags}")),
    }
}
