//! The operators and functions that take numerals. No expression can name them: their names hold a
//! space.

use std::cmp::Ordering;
use std::rc::Rc;

use jsonata_core::evaluator::{Evaluator, EvaluatorError};
use jsonata_core::functions::{array, numeric};
use jsonata_core::value::{JMap, JValue};

use serde_json::Number;

use super::{END, MARK, Numbers, Term, UNFIT_TEXT, WHOLE_MAX_FLOAT, numeral, of_whole, unfit, within_64_bits};

/// Hands a number on, unless it grew beyond what the engine holds.
pub(super) const GROWN: &str = "the grown";
/// `$number`
pub(super) const NUMBER: &str = "the number of";
/// `-x`
pub(super) const NEGATIVE: &str = "the negative";
/// What `$string` made, with numerals as numbers.
pub(super) const WRITTEN: &str = "the written";
/// Hands a value on with its numerals as numbers, where they are.
pub(super) const PLAIN: &str = "the plain";
/// A number near each numeral: for what only asks whether it is one, or where in a list it is.
pub(super) const NEAR: &str = "the near";
/// A value with its decimals as numbers, so that equal ones are equal.
pub(super) const ALIKE: &str = "the alike";
/// Hands the name of a field on.
pub(super) const FIELD: &str = "the field";
/// Fails where a function is called for a numeral that takes a text.
pub(super) const PLACE: &str = "the place";
/// `$max`
pub(super) const MAX: &str = "the largest";
/// `$min`
pub(super) const MIN: &str = "the smallest";
/// `$sum`
pub(super) const SUM: &str = "the sum";
/// `$power`
pub(super) const POWER: &str = "the power";
/// `$sort` without a comparison
pub(super) const SORTED: &str = "the sorted";
/// What an exact function made: a numeral where it is one.
pub(super) const MADE: &str = "the made";

/// Hands a made value on, unless it has a text that looks like a numeral.
pub(super) const UNMARKED: &str = "the unmarked";

/// Operators of two, with the names of their functions.
pub(super) const OPERATORS: [(&str, &str); 9] = [
    ("+", "two +"),
    ("-", "two -"),
    ("*", "two *"),
    ("/", "two /"),
    ("%", "two %"),
    ("<", "two <"),
    ("<=", "two <="),
    (">", "two >"),
    (">=", "two >="),
];

type Answer = Result<JValue, EvaluatorError>;

fn wrong(why: impl Into<String>) -> EvaluatorError {
    EvaluatorError::EvaluationError(why.into())
}

/// Registers what the tree of an expression calls.
pub(in crate::machine) fn register(
    evaluator: &mut Evaluator,
    numbers: &Rc<Numbers>,
    exactly: bool,
) -> Result<(), EvaluatorError> {
    let met = Rc::clone(numbers);
    evaluator.register_fn(NUMBER, move |args: &[JValue]| {
        let number = number(first(args))?;
        met.met.set(met.met.get() || numeral(&number).is_some());
        Ok(number)
    })?;
    evaluator.register_fn(UNMARKED, |args: &[JValue]| match has_mark(first(args)) {
        true => Err(wrong(UNFIT_TEXT)),
        false => Ok(first(args).clone()),
    })?;
    if !exactly {
        let met = Rc::clone(numbers);
        return evaluator.register_fn(GROWN, move |args: &[JValue]| match first(args) {
            JValue::Number(number) if number.abs() >= WHOLE_MAX_FLOAT => {
                met.met.set(true);
                Err(wrong("it goes on with exact numbers"))
            }
            other => Ok(other.clone()),
        });
    }
    for (sign, name) in OPERATORS {
        evaluator.register_fn(name, move |args: &[JValue]| match sign {
            "<" | "<=" | ">" | ">=" => compared(sign, args),
            _ => reckoned(sign, args),
        })?;
    }
    evaluator.register_fn(NEGATIVE, |args: &[JValue]| match Term::of(first(args)) {
        Some(Term::Whole(whole)) => made(-whole),
        Some(Term::Float(float)) => Ok(JValue::Number(-float)),
        None if first(args).is_undefined() => Ok(JValue::Undefined),
        None => Err(wrong("D1002: Cannot negate a non-numeric value")),
    })?;
    evaluator.register_fn(WRITTEN, |args: &[JValue]| Ok(written(first(args))))?;
    evaluator.register_fn(PLAIN, |args: &[JValue]| plain(first(args), &called(args)))?;
    evaluator.register_fn(NEAR, |args: &[JValue]| each(first(args), &|term| Ok(JValue::Number(near(term)))))?;
    evaluator.register_fn(ALIKE, |args: &[JValue]| Ok(alike(first(args)).unwrap_or_else(|| first(args).clone())))?;
    evaluator.register_fn(FIELD, |args: &[JValue]| match numeral(first(args)) {
        Some(figures) => Err(wrong(format!("the name of a field must be a text: write $string(…) around {figures}"))),
        None => Ok(first(args).clone()),
    })?;
    evaluator.register_fn(PLACE, |args: &[JValue]| match numeral(first(args)) {
        Some(figures) => Err(wrong(unfit(figures, &called(args)))),
        None => Ok(JValue::Undefined),
    })?;
    evaluator.register_fn(MAX, |args: &[JValue]| extreme(first(args), "max", Ordering::Greater))?;
    evaluator.register_fn(MIN, |args: &[JValue]| extreme(first(args), "min", Ordering::Less))?;
    evaluator.register_fn(SUM, |args: &[JValue]| sum(first(args)))?;
    evaluator.register_fn(POWER, power)?;
    evaluator.register_fn(SORTED, |args: &[JValue]| sorted(first(args)))?;
    evaluator.register_fn(MADE, |args: &[JValue]| match first(args) {
        JValue::Number(number) if number.abs() >= WHOLE_MAX_FLOAT => of_float(*number, &called(args)),
        other => Ok(other.clone()),
    })
}

fn has_mark(value: &JValue) -> bool {
    match value {
        JValue::String(text) => text.contains(MARK),
        JValue::Array(items) => items.iter().any(has_mark),
        JValue::Object(fields) => fields.iter().any(|(name, field)| name.contains(MARK) || has_mark(field)),
        _ => false,
    }
}

fn first(args: &[JValue]) -> &JValue {
    args.first().unwrap_or(&JValue::Undefined)
}

/// The second argument of a check: whose check it is.
fn called(args: &[JValue]) -> String {
    args.get(1).and_then(JValue::as_str).unwrap_or("it").to_owned()
}

/// A whole number that was reckoned.
fn made(whole: i128) -> Answer {
    if within_64_bits(whole) {
        return Ok(of_whole(whole));
    }
    match Term::Whole(whole).float() {
        Some(float) => Ok(JValue::Number(float)),
        None => Err(wrong(format!("the result {whole} does not fit into 64 bits, and would be rounded"))),
    }
}

/// A number that a function of the engine made, which knows no more than 53 bits.
#[allow(clippy::cast_possible_truncation)] // Below 65 bits.
fn of_float(float: f64, who: &str) -> Answer {
    if float.abs() < WHOLE_MAX_FLOAT || float.abs() >= END || !float.is_finite() {
        return Ok(JValue::Number(float));
    }
    match who {
        "$abs" | "$floor" | "$ceil" | "$round" => made(float as i128),
        _ => Err(wrong(format!("the result of {who} has more than 53 bits, and would be rounded"))),
    }
}

fn reckoned(sign: &str, args: &[JValue]) -> Answer {
    let [left, right] = args else { return Err(wrong(format!("{sign} stands between two numbers"))) };
    // The order of these is the language's.
    let infinite = |value: &JValue| matches!(value, JValue::Number(number) if number.is_infinite());
    if infinite(left) || infinite(right) {
        return Err(wrong("D1001: Number out of range"));
    }
    let term = |value: &JValue| Term::of(value).filter(|term| !matches!(term, Term::Float(float) if float.is_nan()));
    let (a, b) = (term(left), term(right));
    if a.is_none() && !left.is_undefined() {
        return Err(wrong(format!("T2001: The left side of the {sign} operator must evaluate to a number")));
    }
    if b.is_none() && !right.is_undefined() {
        return Err(wrong(format!("T2002: The right side of the {sign} operator must evaluate to a number")));
    }
    let (Some(a), Some(b)) = (a, b) else { return Ok(JValue::Undefined) };
    if let (Term::Whole(a), Term::Whole(b)) = (a, b) {
        match sign {
            "+" => return made(a + b),
            "-" => return made(a - b),
            // Two numbers of 64 bits have a product of 128.
            "*" => match a.checked_mul(b) {
                Some(product) => return made(product),
                None => return Err(wrong("the product does not fit into 64 bits, and would be rounded")),
            },
            "/" if b != 0 && a % b == 0 => return made(a / b),
            "%" if b != 0 => return made(a % b),
            _ => {}
        }
    }
    let float = |term: Term, value: &JValue| {
        term.float().ok_or_else(|| wrong(unfit(numeral(value).unwrap_or_default(), &format!("{sign} with a fraction"))))
    };
    let (a, b) = (float(a, left)?, float(b, right)?);
    let result = match sign {
        "+" => a + b,
        "-" => a - b,
        "*" => a * b,
        "/" => a / b,
        _ => a % b,
    };
    // What was lost, which is a number of the same kind.
    let lost = match sign {
        "+" | "-" => {
            let b = if sign == "-" { -b } else { b };
            let part = result - a;
            (a - (result - part)) + (b - part)
        }
        "*" => a.mul_add(b, -result),
        "/" => result.mul_add(b, -a),
        _ => 0.0,
    };
    let large = |number: f64| (WHOLE_MAX_FLOAT..END).contains(&number.abs());
    if lost != 0.0 && large(result) && a.abs() < END && b.abs() < END {
        return Err(wrong(format!("the result of {a} {sign} {b} has more than 53 bits, and would be rounded")));
    }
    #[allow(clippy::cast_possible_truncation)] // Below 65 bits.
    if large(result) { made(result as i128) } else { Ok(JValue::Number(result)) }
}

fn compared(sign: &str, args: &[JValue]) -> Answer {
    let [left, right] = args else { return Err(wrong(format!("{sign} stands between two values"))) };
    let comparable = |value: &JValue| matches!(value, JValue::Number(_) | JValue::String(_) | JValue::Undefined);
    if !comparable(left) || !comparable(right) {
        return Err(wrong("T2010: The expressions on either side of a comparison must be numbers or texts"));
    }
    if left.is_undefined() || right.is_undefined() {
        return Ok(JValue::Undefined);
    }
    let order = match (Term::of(left), Term::of(right)) {
        // Nothing is less, equal or more than what is no number.
        (Some(Term::Float(number)), _) | (_, Some(Term::Float(number))) if number.is_nan() => None,
        (Some(left), Some(right)) => Some(left.compare(right)),
        (None, None) => left.as_str().partial_cmp(&right.as_str()),
        (Some(_), None) | (None, Some(_)) => {
            let what = format!("T2009: The expressions on either side of operator \"{sign}\" must be of the same kind");
            return Err(wrong(what));
        }
    };
    Ok(JValue::Bool(order.is_some_and(|order| match sign {
        "<" => order.is_lt(),
        "<=" => order.is_le(),
        ">" => order.is_gt(),
        _ => order.is_ge(),
    })))
}

/// `$number`, of a text that writes one exactly.
fn number(value: &JValue) -> Answer {
    if value.is_undefined() || numeral(value).is_some() {
        return Ok(value.clone());
    }
    let read = numeric::number(value)?;
    let (JValue::String(text), JValue::Number(float)) = (value, &read) else { return Ok(read) };
    let text = text.trim();
    let based = [("0x", 16), ("0X", 16), ("0o", 8), ("0O", 8), ("0b", 2), ("0B", 2)];
    if let Some((digits, radix)) = based.iter().find_map(|(head, radix)| Some((text.strip_prefix(head)?, *radix))) {
        return Ok(i64::from_str_radix(digits, radix).map_or(read, |whole| of_whole(whole.into())));
    }
    if !protocol::number::is_kept(text.trim_start_matches('+')) {
        return Err(wrong(unfit(text, "$number")));
    }
    if float.fract() == 0.0 {
        return Ok(protocol::number::whole(text).filter(|whole| within_64_bits(*whole)).map_or(read, of_whole));
    }
    Ok(Number::from_f64(*float).map_or(read, |number| super::of(&number)))
}

/// What `$string` made of a value that may hold numerals.
fn written(value: &JValue) -> JValue {
    let JValue::String(text) = value else { return value.clone() };
    if let Some(figures) = text.strip_prefix(MARK) {
        return JValue::String(figures.into());
    }
    if !text.contains(MARK) {
        return value.clone();
    }
    // A text of JSON: a numeral is a text in it that begins with the mark, quotes and all.
    let mut rest: &str = text;
    let mut out = String::with_capacity(rest.len());
    while let Some(at) = rest.find(&format!("\"{MARK}")) {
        let (before, numeral) = rest.split_at(at);
        let figures = &numeral[1 + MARK.len_utf8()..];
        let end = figures.find('"').unwrap_or(figures.len());
        out.push_str(before);
        out.push_str(&figures[..end]);
        rest = figures.get(end + 1..).unwrap_or_default();
    }
    out.push_str(rest);
    JValue::String(out.into())
}

/// The numerals of a value, and of the list it is, as `convert` has them.
fn each(value: &JValue, convert: &dyn Fn(Term) -> Answer) -> Answer {
    let one = |item: &JValue| match numeral(item).and_then(|_| Term::of(item)) {
        Some(term) => convert(term),
        None => Ok(item.clone()),
    };
    match value {
        JValue::Array(items) if items.iter().any(|item| numeral(item).is_some()) => {
            Ok(JValue::Array(items.with_items(items.iter().map(one).collect::<Result<_, _>>()?)))
        }
        other => one(other),
    }
}

fn plain(value: &JValue, who: &str) -> Answer {
    each(value, &|term| match (term, term.float()) {
        (_, Some(float)) => Ok(JValue::Number(float)),
        (Term::Whole(whole), None) => Err(wrong(unfit(whole, who))),
        (Term::Float(float), None) => Ok(JValue::Number(float)),
    })
}

#[allow(clippy::cast_precision_loss)] // It is only near.
fn near(term: Term) -> f64 {
    match term {
        Term::Whole(whole) => whole as f64,
        Term::Float(float) => float,
    }
}

/// `None` when there is nothing to change.
fn alike(value: &JValue) -> Option<JValue> {
    match value {
        JValue::String(_) => match Term::of(value)? {
            Term::Float(float) => Some(JValue::Number(float)),
            Term::Whole(_) => None,
        },
        JValue::Array(items) if items.iter().any(|item| alike(item).is_some()) => Some(JValue::Array(
            items.with_items(items.iter().map(|item| alike(item).unwrap_or_else(|| item.clone())).collect()),
        )),
        JValue::Object(fields) if fields.values().any(|field| alike(field).is_some()) => {
            let fields =
                fields.iter().map(|(name, field)| (name.clone(), alike(field).unwrap_or_else(|| field.clone())));
            Some(JValue::Object(Rc::new(fields.collect::<JMap>())))
        }
        _ => None,
    }
}

/// The numbers of a list, or the one number.
fn terms(value: &JValue, who: &str) -> Result<Vec<Term>, EvaluatorError> {
    let items = match value {
        JValue::Undefined => return Ok(Vec::new()),
        JValue::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    let terms: Option<Vec<Term>> = items.iter().map(Term::of).collect();
    terms.ok_or_else(|| wrong(format!("T0412: Argument 1 of function \"{who}\" must be an array of numbers")))
}

fn value(term: Term) -> Answer {
    match term {
        Term::Whole(whole) => made(whole),
        Term::Float(float) => Ok(JValue::Number(float)),
    }
}

fn extreme(list: &JValue, who: &str, wanted: Ordering) -> Answer {
    let terms = terms(list, who)?;
    let found = terms.into_iter().reduce(|best, term| if term.compare(best) == wanted { term } else { best });
    found.map_or(Ok(JValue::Undefined), value)
}

fn sum(list: &JValue) -> Answer {
    if list.is_undefined() {
        return Ok(JValue::Undefined);
    }
    let mut sum = JValue::Number(0.0);
    for term in terms(list, "sum")? {
        sum = reckoned("+", &[sum, value(term)?])?;
    }
    Ok(sum)
}

fn power(args: &[JValue]) -> Answer {
    let (base, exponent) = (first(args), args.get(1).unwrap_or(&JValue::Undefined));
    if base.is_undefined() || exponent.is_undefined() {
        return Ok(JValue::Undefined);
    }
    let (Some(b), Some(e)) = (Term::of(base), Term::of(exponent)) else {
        return Err(wrong("T0410: Arguments of function \"power\" must be numbers"));
    };
    if let (Term::Whole(b), Term::Whole(e)) = (b, e)
        && let Some(power) = u32::try_from(e).ok().and_then(|e| b.checked_pow(e))
    {
        return made(power);
    }
    let float = |term: Term, value: &JValue| {
        term.float().ok_or_else(|| wrong(unfit(numeral(value).unwrap_or_default(), "$power")))
    };
    match numeric::power(float(b, base)?, float(e, exponent)?)? {
        JValue::Number(result) => of_float(result, "$power"),
        other => Ok(other),
    }
}

fn sorted(list: &JValue) -> Answer {
    let items = match list {
        JValue::Undefined => return Ok(JValue::Undefined),
        JValue::Array(items) => items.as_slice(),
        one => std::slice::from_ref(one),
    };
    if !items.iter().any(|item| numeral(item).is_some()) {
        return Ok(array::sort(items)?);
    }
    let terms: Option<Vec<(Term, JValue)>> = items.iter().map(|item| Some((Term::of(item)?, item.clone()))).collect();
    let mut terms = terms.ok_or_else(|| wrong("D3070: $sort needs a list of numbers or a list of texts"))?;
    terms.sort_by(|(left, _), (right, _)| left.compare(*right));
    Ok(JValue::array(terms.into_iter().map(|(_, item)| item).collect()))
}
