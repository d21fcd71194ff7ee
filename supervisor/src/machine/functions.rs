//! Functions that expressions have besides the query language's own: those that states languages
//! add (`$partition`, `$range`, `$hash`, `$uuid`, `$parse`), and the ones whose answer would not be
//! the same twice (`$now`, `$millis`, `$random`), answered from the fact's time and seed.

use std::cell::Cell;
use std::rc::Rc;

use jsonata_core::evaluator::{Context, Evaluator, EvaluatorError};
use jsonata_core::parser;
use jsonata_core::value::JValue;
use protocol::Time;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::budget;
use super::exact::Numbers;

/// Most items `$range` and `$partition` make.
const ITEMS_MAX: usize = 1_000;
/// All whole numbers up to here are numbers of the engine.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;
/// The longest text that `$parse` reads: a value that could also be kept.
const PARSED_MAX_BYTES: usize = 256 * 1024;

fn wrong(why: impl Into<String>) -> EvaluatorError {
    EvaluatorError::EvaluationError(why.into())
}

/// Registers those of the functions that `names` names.
pub(super) fn register(
    evaluator: &mut Evaluator,
    names: &[String],
    now: Time,
    seed: u64,
    numbers: &Rc<Numbers>,
) -> Result<(), EvaluatorError> {
    for name in names {
        match name.as_str() {
            "now" => evaluator.register_fn_override("now", move |args: &[JValue]| from_millis(now, args))?,
            "millis" => {
                evaluator.register_fn_override("millis", move |_: &[JValue]| Ok(JValue::from_i64(now.as_millis())))?
            }
            "random" => {
                let drawn = Cell::new(seed);
                evaluator.register_fn_override("random", move |args: &[JValue]| {
                    let given = args.first().and_then(JValue::as_f64);
                    let state = given.map_or_else(|| drawn.get(), f64::to_bits);
                    drawn.set(drawn.get().wrapping_add(1));
                    Ok(JValue::from_f64(fraction(mix(state))))
                })?;
            }
            "uuid" => {
                let drawn = Cell::new(seed ^ 0x7575_6964);
                evaluator.register_fn("uuid", move |_: &[JValue]| {
                    let (high, low) = (mix(drawn.get()), mix(drawn.get().wrapping_add(1)));
                    drawn.set(drawn.get().wrapping_add(2));
                    let mut bytes = [0; 16];
                    bytes[..8].copy_from_slice(&high.to_be_bytes());
                    bytes[8..].copy_from_slice(&low.to_be_bytes());
                    Ok(JValue::from(uuid::Builder::from_random_bytes(bytes).into_uuid().to_string()))
                })?;
            }
            "eval" => evaluator.register_fn_override("eval", |_: &[JValue]| {
                Err(wrong("$eval is not available: write the expression out, or use $parse for JSON"))
            })?,
            "partition" => evaluator.register_fn("partition", |args: &[JValue]| partition(args))?,
            "range" => evaluator.register_fn("range", |args: &[JValue]| range(args))?,
            "hash" => evaluator.register_fn("hash", |args: &[JValue]| hash(args))?,
            "parse" => {
                let numbers = Rc::clone(numbers);
                evaluator.register_fn("parse", move |args: &[JValue]| parse(&numbers, args))?;
            }
            _ => {}
        }
    }
    Ok(())
}

/// A well-mixed number from a counted one (splitmix64).
pub fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `0.0 .. 1.0` from 64 bits.
#[allow(clippy::cast_precision_loss)] // 53 bits fit exactly.
pub fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

/// `$now(picture, timezone)` is `$fromMillis` of the fact's time.
fn from_millis(now: Time, args: &[JValue]) -> Result<JValue, EvaluatorError> {
    budget::picture(args)?;
    let mut context = Context::new();
    context.bind("at".into(), JValue::from_i64(now.as_millis()));
    let source = match args {
        [] => "$fromMillis($at)",
        [picture] => {
            context.bind("picture".into(), picture.clone());
            "$fromMillis($at, $picture)"
        }
        [picture, zone, ..] => {
            context.bind("picture".into(), picture.clone());
            context.bind("zone".into(), zone.clone());
            "$fromMillis($at, $picture, $zone)"
        }
    };
    let tree = parser::parse(source).map_err(|error| wrong(error.to_string()))?;
    Evaluator::with_context(context).evaluate(&tree, &JValue::Undefined)
}

fn partition(args: &[JValue]) -> Result<JValue, EvaluatorError> {
    let [list, size] = args else { return Err(wrong("$partition needs a list and a size")) };
    let (Some(items), Some(size)) = (list.as_array(), size.as_i64()) else {
        return Err(wrong("$partition needs a list and a size"));
    };
    let size = usize::try_from(size).ok().filter(|size| *size > 0).ok_or_else(|| wrong("the size must be above 0"))?;
    let parts: Vec<JValue> = items.chunks(size).map(|part| JValue::array(part.to_vec())).collect();
    if parts.len() > ITEMS_MAX {
        return Err(wrong(format!("$partition would make {} parts, the limit is {ITEMS_MAX}", parts.len())));
    }
    Ok(JValue::array(parts))
}

fn range(args: &[JValue]) -> Result<JValue, EvaluatorError> {
    let numbers: Option<Vec<f64>> = args.iter().map(JValue::as_f64).collect();
    let Some([first, last, step]) = numbers.as_deref() else {
        return Err(wrong("$range needs a first, a last and a step"));
    };
    if *step == 0.0 || !step.is_finite() {
        return Err(wrong("the step of $range must not be 0"));
    }
    let mut items = Vec::new();
    let mut at = *first;
    while (*step > 0.0 && at <= *last) || (*step < 0.0 && at >= *last) {
        if items.len() == ITEMS_MAX {
            return Err(wrong(format!("$range would make more than {ITEMS_MAX} items")));
        }
        items.push(JValue::from_f64(at));
        if (at + step).abs() > WHOLE_MAX || at + step == at {
            return Err(wrong("$range goes beyond what is exact in 53 bits"));
        }
        at += step;
    }
    // A list of one is the one, as for every list that the language makes.
    let mut items = JValue::array(items);
    items.mark_sequence();
    Ok(items)
}

fn hash(args: &[JValue]) -> Result<JValue, EvaluatorError> {
    let (Some(data), Some(algorithm)) = (args.first().and_then(JValue::as_str), args.get(1).and_then(JValue::as_str))
    else {
        return Err(wrong("$hash needs a text and the name of an algorithm"));
    };
    let hex = match algorithm {
        "SHA-256" => format!("{:x}", Sha256::digest(data)),
        "SHA-384" => format!("{:x}", Sha384::digest(data)),
        "SHA-512" => format!("{:x}", Sha512::digest(data)),
        other => return Err(wrong(format!("$hash knows SHA-256, SHA-384 and SHA-512, not {other}"))),
    };
    Ok(JValue::from(hex))
}

fn parse(numbers: &Numbers, args: &[JValue]) -> Result<JValue, EvaluatorError> {
    let text = args.first().and_then(JValue::as_str).ok_or_else(|| wrong("$parse needs a text of JSON"))?;
    if text.len() > PARSED_MAX_BYTES {
        return Err(wrong(format!("$parse reads {PARSED_MAX_BYTES} bytes at most; let an activity read this")));
    }
    let value = serde_json::from_str(text).map_err(|error| wrong(format!("$parse: {error}")))?;
    match protocol::number::first_not_kept(text.as_bytes()) {
        Some(number) => Err(wrong(format!("$parse: {}", protocol::number::not_kept(number)))),
        None => numbers.seen(&value).map_err(wrong),
    }
}
