//! Expressions: what stands between `{%` and `%}`, in JSONata, and templates that hold them.
//!
//! The query engine's values are not `Send`, so a definition keeps sources only and each thread
//! keeps what it compiled. Constants never come here, and a plain path such as
//! `$states.input.asset.id` is followed without the query engine: it is most of what definitions
//! say, and costs nothing that way. The engine's clock and random source are replaced by the
//! fact's time and seed, and `$eval` is not available, so what an expression can see is written
//! in it. What it may cost is bounded by the engine's own limits, and where those do not reach by
//! the calls that `bounds` puts into it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;

use jsonata_core::ast::AstNode;
use jsonata_core::evaluator::{Context, Evaluator, EvaluatorOptions};
use jsonata_core::parser;
use jsonata_core::value::{JMap, JValue};
use protocol::{Time, Value, codec};

use super::exact::tree::Way;
use super::exact::{self, Numbers, literal, tree};
use super::{bounds, budget, functions};

/// Error name: an expression failed, or has no value.
pub const QUERY_EVALUATION_ERROR: &str = "States.QueryEvaluationError";
/// Error name: a value is larger than allowed.
pub const DATA_LIMIT_EXCEEDED: &str = "States.DataLimitExceeded";
/// Error name, within the machine only: an expression took all the time that it was given. A decision
/// makes [`QUERY_EVALUATION_ERROR`] of it, or cuts its record.
pub(super) const OUT_OF_TIME: &str = "States.QueryEvaluationError (out of time)";
/// What the engine's own error begins with when the time is over. Compared at the beginning: behind it
/// stand texts of tenants.
const ENGINE_OUT_OF_TIME: &str = "D1012: Evaluation timeout";
/// Compiled expressions kept per thread; a node runs some tens of definitions with some tens of
/// expressions each. When it is full it is emptied: compiling costs microseconds.
const COMPILED_MAX: usize = 4_096;
/// The deepest value an expression may make; serde_json reads 128 levels, and business data nests
/// a handful.
const VALUE_DEPTH_MAX: usize = 100;
/// The longest source in which a fault is searched for: each look reads the source again, and a text
/// can hold many wrong ones.
const EXPLAINED_MAX_CHARS: usize = 500;
/// The longest reason shown: the engine's own may hold whole values.
const WHY_MAX_CHARS: usize = 500;

/// What one expression and one value may cost.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Time for all expressions of one decision together, in milliseconds. What needs more is cut into
    /// several; one state whose expressions need more fails.
    pub expression_ms: u64,
    /// Deepest evaluation of one expression: recursion beyond this is a mistake.
    pub expression_depth: usize,
    /// Longest list an expression may make on the way.
    pub expression_sequence: usize,
    /// Most bytes an expression may make on the way: of any one value, a shared part counted each
    /// time it stands in it, and of all values that it makes out of texts. Some times what may be
    /// kept at the end.
    pub expression_bytes: usize,
    /// Largest value kept (an input, a result, an output, arguments, variables of one Assign), in
    /// bytes of JSON. The same figure as the language's best-known service, and well below the
    /// bus's message limit.
    pub value_bytes: usize,
    /// States entered in one decision; a longer chain goes on with the saga's next turn.
    pub transitions: u32,
    /// States entered without waiting for anything before a saga is parked as stuck: some minutes of
    /// turns, and more than any list that fits into a saga has items.
    pub unbroken_states: u64,
    /// States whose expressions ran out of a whole budget, with nothing from outside in between, before
    /// a saga is parked as stuck. A retry or two is fair, the rest holds up others.
    pub overruns: u32,
    /// Items of one Map.
    pub map_items: usize,
    /// Items of one Map that are under way at once, whatever it asks for, and undos side by side: each is
    /// some hundred bytes of the state below.
    pub map_width: usize,
    /// How many parents a saga may have above it: a definition that starts itself ends here. Deeper
    /// than any that people write, and few enough that a failure comes up through all of them in a
    /// second.
    pub child_depth: u32,
    /// Largest state of one execution, stored: it is written as one message (1 MiB on a NATS server
    /// unless told otherwise), and what is noted of undos under way comes on top.
    pub execution_bytes: usize,
    /// Largest record of one decision, stored: it travels in one message. Its names and numbers are
    /// estimated, so it stays well below.
    pub record_bytes: usize,
    /// What the bus carries in one message, headers included: an event, the arguments of an activity
    /// or of an undo, and what a parent and its child tell each other are measured as they travel. A
    /// NATS server takes 1 MiB unless told otherwise.
    pub message_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            expression_ms: 1_000,
            expression_depth: 2_000,
            expression_sequence: 20_000,
            expression_bytes: 8 << 20,
            value_bytes: 256 * 1024,
            transitions: 1_000,
            unbroken_states: 1_000_000,
            overruns: 5,
            map_items: 10_000,
            map_width: 500,
            child_depth: 32,
            execution_bytes: 800 * 1024,
            record_bytes: 768 * 1024,
            message_bytes: 1024 * 1024,
        }
    }
}

/// Why there is no value: an error name for Retry and Catch, and a sentence.
#[derive(Clone, PartialEq, Debug)]
pub struct Trouble {
    /// The error's name.
    pub error: &'static str,
    /// What went wrong, for a person.
    pub cause: String,
}

/// What an expression can see.
pub struct Sight<'a> {
    /// `$states.input`
    pub input: &'a Value,
    /// `$states.result`, where there is one.
    pub result: Option<&'a Value>,
    /// `$states.errorOutput`, where there is one.
    pub error: Option<&'a Value>,
    /// Makes `$states.context`.
    pub context: &'a dyn Fn() -> Value,
    /// Finds a variable.
    pub variable: &'a dyn Fn(&str) -> Option<&'a Value>,
    /// The time of the fact: `$now()` and `$millis()`.
    pub now: Time,
    /// Where `$random()` and `$uuid()` come from.
    pub seed: u64,
    /// What it may cost.
    pub limits: Limits,
}

/// One expression.
#[derive(Clone, PartialEq, Debug)]
pub struct Expression {
    source: Arc<str>,
    /// What the engine reads instead, where numbers are written in it that it cannot hold.
    numerals: Option<Arc<str>>,
    path: Option<Path>,
    /// Every `$name` in it.
    names: Vec<String>,
    /// Functions of the language to which it gives a value of its own somewhere.
    renamed: Vec<String>,
    /// Why it cannot be evaluated: one that an earlier release took.
    fault: Option<Arc<str>>,
}

/// A path that needs no query engine.
#[derive(Clone, PartialEq, Debug)]
struct Path {
    root: Root,
    fields: Vec<String>,
}

#[derive(Clone, PartialEq, Debug)]
enum Root {
    Input,
    Result,
    ErrorOutput,
    Variable(String),
}

impl Expression {
    /// Checks the source between `{%` and `%}`. The error says what is wrong and where.
    pub fn new(source: &str) -> Result<Self, String> {
        let source = source.trim();
        let tree = calmly(|| parser::parse(source))?.map_err(|error| explain(source, &error.to_string()))?;
        let numerals: Option<Arc<str>> = literal::with_numerals(source)?.map(Into::into);
        let exact = match &numerals {
            Some(numerals) => calmly(|| parser::parse(numerals))?.map_err(|error| error.to_string())?,
            None => tree.clone(),
        };
        let renamed = tree::renamed(&exact)?;
        for (tree, exactly) in [(tree, false), (exact, true)] {
            bounds::bounded(tree::prepared(tree, &Way { exactly, variables: Vec::new() })?)?;
        }
        Ok(Self {
            source: source.into(),
            numerals,
            path: Path::read(source),
            names: names(source),
            renamed,
            fault: None,
        })
    }

    /// One that was deployed once and could not be any more: it fails where it is evaluated.
    pub(super) fn failing(source: &str, why: String) -> Self {
        let source = source.trim();
        let fault = Some(why.into());
        Self { source: source.into(), numerals: None, path: None, names: names(source), renamed: Vec::new(), fault }
    }

    /// The source between `{%` and `%}`.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Every variable it names, `states` included.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Its value.
    pub fn evaluate(&self, sight: &Sight<'_>) -> Result<Value, Trouble> {
        match self.path.as_ref().and_then(|path| path.follow(sight)) {
            Some(Found::Value(value)) => Ok(value.clone()),
            Some(Found::Nothing) => Err(self.trouble("it has no value (undefined)")),
            None => self.query(sight),
        }
    }

    fn trouble(&self, why: impl std::fmt::Display) -> Trouble {
        let shown: String = self.source.chars().take(200).collect();
        // What the engine says of a numeral is said of a number.
        let why: String = why.to_string().chars().filter(|c| *c != exact::MARK).take(WHY_MAX_CHARS).collect();
        Trouble { error: QUERY_EVALUATION_ERROR, cause: format!("{{% {shown} %}}: {why}") }
    }

    /// How an evaluation ended without a value.
    fn ended(&self, why: &str) -> Trouble {
        let trouble = self.trouble(why);
        let said = why.strip_prefix("Evaluation error: ").unwrap_or(why);
        if said.starts_with(ENGINE_OUT_OF_TIME) { Trouble { error: OUT_OF_TIME, ..trouble } } else { trouble }
    }

    /// Whether it needs the query engine, whose work may take long.
    pub fn is_query(&self) -> bool {
        self.path.is_none()
    }

    /// Runs it without numerals, unless it meets one, and with them then.
    fn query(&self, sight: &Sight<'_>) -> Result<Value, Trouble> {
        if let Some(why) = &self.fault {
            return Err(self.trouble(why));
        }
        let numbers = Rc::new(Numbers::default());
        let seen = self.seen(sight, &numbers).map_err(|why| self.trouble(why))?;
        if self.numerals.is_none() && !numbers.met.get() {
            let result = self.run(sight, &seen, &numbers, false);
            if !numbers.met.get() {
                return result;
            }
        }
        self.run(sight, &seen, &numbers, true)
    }

    fn run(&self, sight: &Sight<'_>, seen: &Seen, numbers: &Rc<Numbers>, exactly: bool) -> Result<Value, Trouble> {
        let source = self.numerals.as_ref().unwrap_or(&self.source);
        let way = Way { exactly, variables: seen.like_functions.clone() };
        let tree = compiled(source, way).map_err(|why| self.trouble(why))?;
        let mut context = Context::new();
        for (name, value) in &seen.values {
            context.bind(name.clone(), value.clone());
        }
        let options = EvaluatorOptions {
            timeout_ms: Some(sight.limits.expression_ms),
            cancel: None,
            max_stack_depth: Some(sight.limits.expression_depth),
            max_sequence_length: Some(sight.limits.expression_sequence),
        };
        let mut evaluator = Evaluator::with_options(context, options);
        functions::register(&mut evaluator, &self.names, sight.now, sight.seed, numbers)
            .map_err(|why| self.trouble(why))?;
        exact::functions::register(&mut evaluator, numbers, exactly).map_err(|why| self.trouble(why))?;
        budget::register(&mut evaluator, sight.limits).map_err(|why| self.trouble(why))?;
        let result = calmly(|| evaluator.evaluate(&tree, &JValue::Undefined));
        let result = result.map_err(|why| self.trouble(why))?.map_err(|error| self.ended(&error.to_string()))?;
        if result.is_undefined() {
            return Err(self.trouble("it has no value (undefined)"));
        }
        let mut left = sight.limits.expression_bytes;
        plain(&result, 0, &mut left).map_err(|why| self.trouble(why))
    }

    /// Every variable that it names, as the engine is given it.
    fn seen(&self, sight: &Sight<'_>, numbers: &Numbers) -> Result<Seen, String> {
        let mut seen = Seen { values: Vec::with_capacity(self.names.len()), like_functions: Vec::new() };
        for name in &self.names {
            if name == "states" {
                seen.values.push((name.clone(), self.states(sight, numbers)?));
            } else if let Some(value) = (sight.variable)(name) {
                let value = numbers.seen(value)?;
                if tree::is_function(name) && !self.renamed.contains(name) {
                    seen.like_functions.push(name.clone());
                    seen.values.push((tree::variable(name), value));
                } else {
                    seen.values.push((name.clone(), value));
                }
            }
        }
        Ok(seen)
    }

    /// `$states` with the parts the source speaks of; converting what it does not is wasted.
    fn states(&self, sight: &Sight<'_>, numbers: &Numbers) -> Result<JValue, String> {
        let whole = !self.source.contains("$states.");
        let wants = |part: &str| whole || self.source.contains(part);
        let mut states: Vec<(String, JValue)> = Vec::with_capacity(4);
        if wants("input") {
            states.push(("input".into(), numbers.seen(sight.input)?));
        }
        if let Some(result) = sight.result.filter(|_| wants("result")) {
            states.push(("result".into(), numbers.seen(result)?));
        }
        if let Some(error) = sight.error.filter(|_| wants("errorOutput")) {
            states.push(("errorOutput".into(), numbers.seen(error)?));
        }
        if wants("context") {
            states.push(("context".into(), numbers.seen(&(sight.context)())?));
        }
        Ok(JValue::Object(Rc::new(states.into_iter().collect::<JMap>())))
    }
}

/// What an expression is given.
struct Seen {
    values: Vec<(String, JValue)>,
    /// Variables of the saga that are called like functions of the language.
    like_functions: Vec<String>,
}

enum Found<'a> {
    Value(&'a Value),
    Nothing,
}

impl Path {
    fn read(source: &str) -> Option<Self> {
        let rest = source.strip_prefix('$')?;
        let mut parts = rest.split('.');
        let plain = |part: &&str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                // Operators and literals that are words.
                && !matches!(*part, "and" | "or" | "in" | "true" | "false" | "null" | "function")
        };
        let first = parts.next().filter(plain)?;
        let root = if first == "states" {
            match parts.next()? {
                "input" => Root::Input,
                "result" => Root::Result,
                "errorOutput" => Root::ErrorOutput,
                _ => return None,
            }
        } else {
            Root::Variable(first.to_owned())
        };
        let fields = parts.map(|part| Some(part).filter(plain).map(str::to_owned)).collect::<Option<Vec<_>>>()?;
        Some(Self { root, fields })
    }

    /// `None` when the path meets a list on its way, where the query language maps over it.
    fn follow<'a>(&self, sight: &Sight<'a>) -> Option<Found<'a>> {
        let root = match &self.root {
            Root::Input => Some(sight.input),
            Root::Result => sight.result,
            Root::ErrorOutput => sight.error,
            Root::Variable(name) => (sight.variable)(name),
        };
        let Some(mut value) = root else {
            // A variable that is not there may still name a built-in function.
            return if matches!(self.root, Root::Variable(_)) { None } else { Some(Found::Nothing) };
        };
        for field in &self.fields {
            match value {
                Value::Object(map) => match map.get(field) {
                    Some(next) => value = next,
                    None => return Some(Found::Nothing),
                },
                Value::Array(_) => return None,
                Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => return Some(Found::Nothing),
            }
        }
        Some(Found::Value(value))
    }
}

/// Every `$name` in a source; one inside a text is one too many, which does no harm.
fn names(source: &str) -> Vec<String> {
    let mut names: Vec<String> = source
        .split('$')
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>())
        .filter(|name| !name.is_empty())
        .collect();
    names.sort();
    names.dedup();
    names
}

/// Trees by their source and the way they are run.
type Compiled = HashMap<(Arc<str>, Way), Rc<AstNode>>;

thread_local! {
    static COMPILED: RefCell<Compiled> = RefCell::new(HashMap::new());
}

fn compiled(source: &Arc<str>, way: Way) -> Result<Rc<AstNode>, String> {
    let key = (Arc::clone(source), way);
    COMPILED.with_borrow_mut(|kept| {
        if let Some(tree) = kept.get(&key) {
            return Ok(Rc::clone(tree));
        }
        let tree = calmly(|| parser::parse(source))?.map_err(|error| error.to_string())?;
        let tree = Rc::new(bounds::bounded(tree::prepared(tree, &key.1)?)?);
        if kept.len() >= COMPILED_MAX {
            kept.clear();
        }
        kept.insert(key, Rc::clone(&tree));
        Ok(tree)
    })
}

/// The engine is not ours, and a panic of it is this expression's trouble and not the saga's. It
/// keeps nothing between two evaluations.
fn calmly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|_| "the query engine failed on it: write it in another way".to_owned())
}

/// The parser names no position, so the shortest beginning that already cannot be continued is
/// searched, by halves: the fault stands at its end.
fn explain(source: &str, error: &str) -> String {
    let ends: Vec<usize> = source.char_indices().map(|(n, c)| n + c.len_utf8()).collect();
    let incomplete = |text: &str| match calmly(|| parser::parse(text)) {
        Ok(Ok(_)) => true,
        Ok(Err(parser::ParserError::UnexpectedEnd | parser::ParserError::UnclosedString)) => true,
        Ok(Err(parser::ParserError::UnclosedComment | parser::ParserError::UnclosedBacktick)) => true,
        Ok(Err(other)) => other.to_string().contains("Eof") || other.to_string().contains("S0207"),
        Err(_) => false,
    };
    let error: String = error.chars().take(WHY_MAX_CHARS).collect();
    // Sources are short; a long one is reported without a position.
    let position = if ends.len() > EXPLAINED_MAX_CHARS {
        None
    } else {
        let good = ends.partition_point(|end| incomplete(&source[..*end]));
        Some((good + 1).min(ends.len().max(1)))
    };
    match position {
        Some(position) => format!("{error} (at character {position} of the expression)"),
        None => error,
    }
}

/// `left` are the bytes that may still be written out: a value that costs little because its parts
/// are shared can be larger than any memory.
fn plain(value: &JValue, depth: usize, left: &mut usize) -> Result<Value, String> {
    if depth > VALUE_DEPTH_MAX {
        return Err(format!("its value nests deeper than {VALUE_DEPTH_MAX} levels"));
    }
    let mut take = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or("its value is too large to be written out; let an activity make it")?;
        Ok::<_, String>(())
    };
    match value {
        JValue::String(text) => take(text.len() + 2)?,
        JValue::Object(fields) => take(fields.keys().map(|name| name.len() + 4).sum::<usize>() + 2)?,
        _ => take(8)?,
    }
    Ok(match value {
        JValue::Null => Value::Null,
        JValue::Bool(yes) => Value::Bool(*yes),
        JValue::Number(number) => plain_number(*number)?,
        JValue::String(text) => match exact::numeral(value) {
            Some(figures) => exact::plain(figures)?,
            None => Value::String(text.to_string()),
        },
        JValue::Array(items) => {
            let items = items.iter().filter(|item| !item.is_undefined());
            Value::Array(items.map(|item| plain(item, depth + 1, left)).collect::<Result<_, _>>()?)
        }
        JValue::Object(fields) => {
            let mut map = serde_json::Map::new();
            for (name, field) in fields.iter().filter(|(_, field)| !field.is_undefined()) {
                if let Some(figures) = name.strip_prefix(exact::MARK) {
                    return Err(format!("the name of a field must be a text: write $string(…) around {figures}"));
                }
                map.insert(name.clone(), plain(field, depth + 1, left)?);
            }
            Value::Object(map)
        }
        JValue::Undefined => Value::Null,
        JValue::Lambda(_) | JValue::Builtin { .. } | JValue::Regex { .. } => {
            return Err("its value holds a function, which is not data".into());
        }
    })
}

#[allow(clippy::cast_possible_truncation)] // Guarded: whole and within 53 bits.
fn plain_number(number: f64) -> Result<Value, String> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    if number.fract() == 0.0 && number.abs() <= EXACT {
        return Ok(Value::from(number as i64));
    }
    serde_json::Number::from_f64(number).map(Value::Number).ok_or_else(|| "its value is not a finite number".into())
}

/// A JSON value in which texts of the form `{% … %}` are expressions.
#[derive(Clone, PartialEq, Debug)]
pub enum Template {
    /// No expression inside.
    Constant(Value),
    /// One expression.
    Expression(Expression),
    /// A list with an expression somewhere inside.
    List(Vec<Template>),
    /// A mapping with an expression somewhere inside.
    Map(Vec<(String, Template)>),
}

impl Template {
    /// Its value.
    pub fn evaluate(&self, sight: &Sight<'_>) -> Result<Value, Trouble> {
        Ok(match self {
            Self::Constant(value) => value.clone(),
            Self::Expression(expression) => expression.evaluate(sight)?,
            Self::List(items) => Value::Array(items.iter().map(|item| item.evaluate(sight)).collect::<Result<_, _>>()?),
            Self::Map(fields) => {
                let mut map = serde_json::Map::new();
                for (name, field) in fields {
                    map.insert(name.clone(), field.evaluate(sight)?);
                }
                Value::Object(map)
            }
        })
    }

    /// Its value, within the limit for values.
    pub fn bounded(&self, sight: &Sight<'_>, what: &str) -> Result<Value, Trouble> {
        let value = self.evaluate(sight)?;
        within(&value, sight.limits.value_bytes, what)?;
        Ok(value)
    }

    /// Every expression inside.
    pub fn expressions(&self) -> Vec<&Expression> {
        match self {
            Self::Constant(_) => Vec::new(),
            Self::Expression(expression) => vec![expression],
            Self::List(items) => items.iter().flat_map(Template::expressions).collect(),
            Self::Map(fields) => fields.iter().flat_map(|(_, field)| field.expressions()).collect(),
        }
    }
}

/// How many times as long as [`size`] a value may be as JSON: a control character takes one byte in
/// memory and six when it is written.
const ESCAPED: usize = 6;

/// The bytes of a value as JSON, where they come near `limit`; otherwise what they certainly are not
/// more than.
pub fn written(value: &Value, limit: usize) -> usize {
    let most = size(value).saturating_mul(ESCAPED);
    if most <= limit { most } else { codec::json_len(value) }
}

/// Whether a value is within a limit.
pub fn within(value: &Value, limit: usize, what: &str) -> Result<(), Trouble> {
    let bytes = written(value, limit);
    if too_deep(value, VALUE_DEPTH_MAX) {
        let cause = format!("{what} nests deeper than {VALUE_DEPTH_MAX} levels; flatten it");
        return Err(Trouble { error: DATA_LIMIT_EXCEEDED, cause });
    }
    if bytes <= limit {
        return Ok(());
    }
    Err(Trouble {
        error: DATA_LIMIT_EXCEEDED,
        cause: format!("{what} has {bytes} bytes, the limit is {limit}; put large data into object storage"),
    })
}

fn too_deep(value: &Value, levels: usize) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
        Value::Array(items) => levels == 0 || items.iter().any(|item| too_deep(item, levels - 1)),
        Value::Object(fields) => levels == 0 || fields.values().any(|field| too_deep(field, levels - 1)),
    }
}

/// About how many bytes a value has as JSON, without writing it.
pub fn size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(true) => 4,
        Value::Bool(false) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => 2 + items.iter().map(|item| size(item) + 1).sum::<usize>(),
        Value::Object(fields) => 2 + fields.iter().map(|(name, field)| name.len() + 4 + size(field)).sum::<usize>(),
    }
}
