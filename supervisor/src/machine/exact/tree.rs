//! Puts exact functions into the tree of an expression, and tells the variables of a saga from the
//! functions of the language.

use std::collections::HashSet;

use jsonata_core::ast::{AstNode, BinaryOp, Stage, UnaryOp};

use super::functions::{
    ALIKE, FIELD, GROWN, MADE, MAX, MIN, NEAR, NEGATIVE, NUMBER, OPERATORS, PLACE, PLAIN, POWER, SORTED, SUM, UNMARKED,
    WRITTEN,
};
use super::numeral;
use crate::machine::bounds;
use crate::machine::budget::COUNTED;

/// How an expression runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(in crate::machine) struct Way {
    /// With numerals.
    pub(in crate::machine) exactly: bool,
    /// Functions of the language that are variables of the saga.
    pub(in crate::machine) variables: Vec<String>,
}

/// Every function that an expression can call by name, and how many arguments one has when it is handed
/// over as a value.
const FUNCTIONS: &[(&str, usize)] = &[
    ("abs", 1),
    ("append", 2),
    ("assert", 2),
    ("average", 1),
    ("base64decode", 1),
    ("base64encode", 1),
    ("boolean", 1),
    ("ceil", 1),
    ("contains", 2),
    ("count", 1),
    ("decodeUrl", 1),
    ("decodeUrlComponent", 1),
    ("distinct", 1),
    ("each", 2),
    ("encodeUrl", 1),
    ("encodeUrlComponent", 1),
    ("error", 1),
    ("eval", 2),
    ("exists", 1),
    ("filter", 2),
    ("floor", 1),
    ("formatBase", 2),
    ("formatInteger", 2),
    ("formatNumber", 3),
    ("fromMillis", 3),
    ("hash", 2),
    ("join", 2),
    ("keys", 1),
    ("length", 1),
    ("lookup", 2),
    ("lowercase", 1),
    ("map", 2),
    ("match", 3),
    ("max", 1),
    ("merge", 1),
    ("millis", 0),
    ("min", 1),
    ("not", 1),
    ("now", 2),
    ("number", 1),
    ("pad", 3),
    ("parse", 1),
    ("parseInteger", 2),
    ("partition", 2),
    ("power", 2),
    ("random", 0),
    ("range", 3),
    ("reduce", 3),
    ("replace", 4),
    ("reverse", 1),
    ("round", 2),
    ("shuffle", 1),
    ("sift", 2),
    ("single", 2),
    ("sort", 2),
    ("split", 3),
    ("spread", 1),
    ("sqrt", 1),
    ("string", 1),
    ("substring", 3),
    ("substringAfter", 2),
    ("substringBefore", 2),
    ("sum", 1),
    ("toMillis", 2),
    ("trim", 1),
    ("type", 1),
    ("uppercase", 1),
    ("uuid", 0),
    ("zip", 0),
];
/// Functions that hand values on or count them, whatever these are.
const CARRIERS: &[&str] = &[
    "append", "boolean", "count", "distinct", "each", "exists", "filter", "keys", "map", "merge", "millis", "not",
    "random", "reduce", "reverse", "shuffle", "sift", "single", "spread", "uuid", "zip",
];
/// Functions of the engine whose number may be larger than what they are given.
const GROWERS: &[&str] = &["average", "parseInteger", "power", "sum"];
/// Functions that make texts of what is no text yet, and so may make one that looks like a numeral.
const MAKERS: &[&str] = &["base64decode", "decodeUrl", "decodeUrlComponent", "eval"];
/// Those whose number is exact when what they are given is.
const KEEPERS: &[&str] = &["abs", "ceil", "floor", "round"];

/// Whether the language has a function of this name.
pub(in crate::machine) fn is_function(name: &str) -> bool {
    FUNCTIONS.binary_search_by_key(&name, |(name, _)| name).is_ok()
}

/// The functions of the language to which an expression gives a value of its own: there the name is its
/// own everywhere, as the language says.
///
/// # Errors
/// When it nests too deep.
pub(in crate::machine) fn renamed(tree: &AstNode) -> Result<Vec<String>, String> {
    let mut bound = HashSet::new();
    bounds::names(&mut tree.clone(), &mut bound, 0)?;
    Ok(bound.into_iter().filter(|name| is_function(name)).collect())
}

/// The name under which an expression finds a variable of the saga that is called like a function.
pub(in crate::machine) fn variable(name: &str) -> String {
    format!("the variable {name}")
}

/// `tree`, so that it runs this way.
///
/// # Errors
/// When it nests too deep.
pub(in crate::machine) fn prepared(mut tree: AstNode, way: &Way) -> Result<AstNode, String> {
    let mut bound = HashSet::new();
    bounds::names(&mut tree, &mut bound, 0)?;
    Pass { way, bound }.walk(&mut tree)?;
    Ok(tree)
}

struct Pass<'a> {
    way: &'a Way,
    /// What the expression itself gives a value to.
    bound: HashSet<String>,
}

impl Pass<'_> {
    /// Whether `$name` is the language's.
    fn is_the_language_s(&self, name: &str) -> bool {
        is_function(name) && !self.bound.contains(name)
    }

    fn walk(&self, node: &mut AstNode) -> Result<(), String> {
        self.pipe(node);
        bounds::children(node, &mut |child| self.walk(child))?;
        match node {
            AstNode::Variable(name) if self.is_the_language_s(name) => self.value(node),
            AstNode::Function { name, .. } if self.is_the_language_s(name) => self.call(node),
            AstNode::Binary { op, .. } => {
                let op = *op;
                self.operator(node, op);
            }
            AstNode::Unary { op: UnaryOp::Negate, operand } if self.way.exactly => {
                *node = ask(NEGATIVE, vec![take(operand)]);
            }
            AstNode::Path { steps } if self.way.exactly => {
                for stage in steps.iter_mut().flat_map(|step| &mut step.stages) {
                    if let Stage::Filter(filter) = stage
                        && may_be_a_numeral(filter)
                    {
                        wrap(filter, NEAR);
                    }
                }
            }
            AstNode::Object(fields) | AstNode::ObjectTransform { pattern: fields, .. } if self.way.exactly => {
                let names = fields.iter_mut().map(|(name, _)| name);
                names.filter(|name| may_be_a_numeral(name)).for_each(|name| wrap(name, FIELD));
            }
            AstNode::Sort { terms, .. } if self.way.exactly => {
                terms.iter_mut().for_each(|(term, _)| plainly(term, "a sort by ^(…)"));
            }
            _ => {}
        }
        Ok(())
    }

    /// `x ~> $f(y)` as `$f(x, y)`: what the functions here are told apart by is their arguments.
    fn pipe(&self, node: &mut AstNode) {
        let AstNode::Binary { op: BinaryOp::ChainPipe, lhs, rhs } = node else { return };
        let call = match &mut **rhs {
            AstNode::Path { steps } if steps.len() == 1 && steps[0].stages.is_empty() => &mut steps[0].node,
            other => other,
        };
        if let AstNode::Function { name, args, .. } = call
            && self.is_the_language_s(name)
            && !args.iter().any(|arg| matches!(arg, AstNode::Placeholder))
        {
            args.insert(0, take(lhs));
            *node = take(rhs);
        }
    }

    /// A function of the language that is not called: a variable of the saga, or handed over as a value.
    fn value(&self, node: &mut AstNode) {
        let AstNode::Variable(name) = node else { return };
        if self.way.variables.contains(name) {
            *name = variable(name);
            return;
        }
        let watched = name == "number" || GROWERS.contains(&name.as_str()) || MAKERS.contains(&name.as_str());
        if !(watched || self.way.exactly && !CARRIERS.contains(&name.as_str())) {
            return;
        }
        let arity = FUNCTIONS.iter().find(|(known, _)| known == name).map_or(0, |(_, arity)| *arity);
        let params: Vec<String> = (1..=arity).map(|n| format!("argument {n}")).collect();
        let args = params.iter().cloned().map(AstNode::Variable).collect();
        let mut body = AstNode::Function { name: std::mem::take(name), args, is_builtin: true };
        self.call(&mut body);
        *node = AstNode::Lambda { params, body: Box::new(body), signature: None, thunk: false };
    }

    fn call(&self, node: &mut AstNode) {
        let AstNode::Function { name, args, .. } = node else { return };
        let partial = args.iter().any(|arg| matches!(arg, AstNode::Placeholder));
        let makes = !partial && MAKERS.contains(&name.as_str());
        self.exactly(node, partial);
        if makes {
            wrap(node, UNMARKED);
        }
    }

    fn exactly(&self, node: &mut AstNode, partial: bool) {
        let AstNode::Function { name, args, .. } = node else { return };
        let who = format!("${name}");
        if partial {
            if self.way.exactly && !CARRIERS.contains(&name.as_str())
                || GROWERS.contains(&name.as_str())
                || MAKERS.contains(&name.as_str())
            {
                self.with_parameters(node);
            }
            return;
        }
        if name == "number" {
            or_where_it_stands(args, 1);
            NUMBER.clone_into(name);
            return;
        }
        if !self.way.exactly {
            if GROWERS.contains(&name.as_str()) {
                wrap(node, GROWN);
            }
            return;
        }
        let owned = match name.as_str() {
            "max" => Some(MAX),
            "min" => Some(MIN),
            "sum" => Some(SUM),
            "power" => Some(POWER),
            "sort" if args.len() == 1 => Some(SORTED),
            _ => None,
        };
        if let Some(owned) = owned {
            if owned == POWER {
                or_where_it_stands(args, 2);
            }
            owned.clone_into(name);
            return;
        }
        match name.as_str() {
            "string" => wrap(node, WRITTEN),
            "type" => args.iter_mut().for_each(|arg| wrap(arg, NEAR)),
            "sort" => {}
            carrier if CARRIERS.contains(&carrier) => {}
            // Where the value comes first, and what it is does not matter.
            "lookup" | "partition" => args.iter_mut().skip(1).for_each(|arg| plainly(arg, &who)),
            _ => {
                // What stands for the argument that is left out is looked at as well.
                if takes_where_it_stands(name, args.len()) {
                    args.insert(0, AstNode::Variable(String::new()));
                }
                args.iter_mut().filter(|arg| is_data(arg)).for_each(|arg| plainly(arg, &who));
                let may_stand_for_one = may_take_where_it_stands(name, args.len());
                if may_stand_for_one {
                    // Which argument is left out is told by what the first one is, so none may be a numeral.
                    let here = ask(PLACE, vec![AstNode::Variable(String::new()), AstNode::String(who)]);
                    *node = AstNode::Block(vec![here, take(node)]);
                } else if KEEPERS.contains(&name.as_str()) || GROWERS.contains(&name.as_str()) || name == "toMillis" {
                    *node = ask(MADE, vec![take(node), AstNode::String(who)]);
                }
            }
        }
    }

    /// `$f(1, ?)` as a function of what is left open.
    fn with_parameters(&self, node: &mut AstNode) {
        let AstNode::Function { args, .. } = node else { return };
        let mut params = Vec::new();
        for arg in args.iter_mut().filter(|arg| matches!(arg, AstNode::Placeholder)) {
            let name = format!("argument {}", params.len() + 1);
            *arg = AstNode::Variable(name.clone());
            params.push(name);
        }
        self.call(node);
        let body = Box::new(take(node));
        *node = AstNode::Lambda { params, body, signature: None, thunk: false };
    }

    fn operator(&self, node: &mut AstNode, op: BinaryOp) {
        let AstNode::Binary { lhs, rhs, .. } = node else { return };
        let sign = match op {
            BinaryOp::Add => "+",
            BinaryOp::Subtract => "-",
            BinaryOp::Multiply => "*",
            BinaryOp::Divide => "/",
            BinaryOp::Modulo => "%",
            BinaryOp::LessThan => "<",
            BinaryOp::LessThanOrEqual => "<=",
            BinaryOp::GreaterThan => ">",
            BinaryOp::GreaterThanOrEqual => ">=",
            BinaryOp::Equal | BinaryOp::NotEqual | BinaryOp::In if self.way.exactly => {
                [lhs, rhs].into_iter().filter(|side| may_be_a_numeral(side) || holds_data(side)).for_each(|side| {
                    wrap(side, ALIKE);
                });
                return;
            }
            BinaryOp::Concatenate if self.way.exactly => {
                [lhs, rhs].into_iter().filter(|side| may_be_a_numeral(side) || holds_data(side)).for_each(|side| {
                    wrap(side, "string");
                    wrap(side, WRITTEN);
                });
                return;
            }
            BinaryOp::Range if self.way.exactly => {
                [lhs, rhs].into_iter().for_each(|side| plainly(side, "a range"));
                return;
            }
            BinaryOp::Equal
            | BinaryOp::NotEqual
            | BinaryOp::In
            | BinaryOp::Concatenate
            | BinaryOp::Range
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::ColonEqual
            | BinaryOp::FocusBind
            | BinaryOp::IndexBind
            | BinaryOp::Coalesce
            | BinaryOp::Default
            | BinaryOp::ChainPipe => return,
        };
        if self.way.exactly {
            let name = OPERATORS.iter().find(|(known, _)| *known == sign).map_or("", |(_, name)| name);
            *node = ask(name, vec![take(lhs), take(rhs)]);
        } else if matches!(op, BinaryOp::Add | BinaryOp::Subtract | BinaryOp::Multiply | BinaryOp::Divide) {
            wrap(node, GROWN);
        }
    }
}

/// Whether a function takes what it is called for when it has so few arguments.
fn takes_where_it_stands(name: &str, given: usize) -> bool {
    match name {
        "abs" | "base64decode" | "base64encode" | "ceil" | "decodeUrl" | "decodeUrlComponent" | "encodeUrl"
        | "encodeUrlComponent" | "floor" | "fromMillis" | "length" | "lowercase" | "round" | "sqrt" | "toMillis"
        | "trim" | "uppercase" | "formatBase" => given == 0,
        "contains" | "formatInteger" | "formatNumber" | "pad" | "parseInteger" | "split" | "substring"
        | "substringAfter" | "substringBefore" | "match" => given == 1,
        "replace" => given == 2,
        _ => false,
    }
}

/// Whether a function takes a text that it is called for when the first of its arguments is none.
fn may_take_where_it_stands(name: &str, given: usize) -> bool {
    match name {
        "substring" | "pad" | "split" | "match" => given == 2,
        "replace" => given == 3,
        _ => false,
    }
}

/// Puts the value that a function is called for before the others, when one is missing.
fn or_where_it_stands(args: &mut Vec<AstNode>, full: usize) {
    if args.len() + 1 == full {
        args.insert(0, AstNode::Variable(String::new()));
    }
}

/// Whether the value of a node can be a numeral.
fn may_be_a_numeral(node: &AstNode) -> bool {
    match node {
        AstNode::String(text) => numeral(&text.as_str().into()).is_some(),
        AstNode::Name(_)
        | AstNode::Variable(_)
        | AstNode::ParentVariable(_)
        | AstNode::Path { .. }
        | AstNode::Call { .. }
        | AstNode::Block(_)
        | AstNode::Conditional { .. }
        | AstNode::Wildcard
        | AstNode::Descendant
        | AstNode::Parent(_)
        | AstNode::FunctionApplication(_)
        | AstNode::Sort { .. } => true,
        AstNode::Function { name, .. } => ![WRITTEN, COUNTED, NEAR].contains(&name.as_str()),
        AstNode::Binary { op, .. } => {
            matches!(op, BinaryOp::ChainPipe | BinaryOp::Coalesce | BinaryOp::Default | BinaryOp::ColonEqual)
        }
        _ => false,
    }
}

/// Whether a node makes a list or an object that may hold numerals.
fn holds_data(node: &AstNode) -> bool {
    matches!(
        node,
        AstNode::Array(_)
            | AstNode::ArrayGroup(_)
            | AstNode::Object(_)
            | AstNode::ObjectTransform { .. }
            | AstNode::Transform { .. }
    )
}

fn is_data(node: &AstNode) -> bool {
    !matches!(
        node,
        AstNode::Lambda { .. }
            | AstNode::Placeholder
            | AstNode::Regex { .. }
            | AstNode::Number(_)
            | AstNode::Boolean(_)
    ) && !matches!(node, AstNode::String(text) if numeral(&text.as_str().into()).is_none())
}

fn take(node: &mut AstNode) -> AstNode {
    std::mem::replace(node, AstNode::Null)
}

fn wrap(node: &mut AstNode, function: &str) {
    *node = ask(function, vec![take(node)]);
}

fn plainly(node: &mut AstNode, who: &str) {
    *node = ask(PLAIN, vec![take(node), AstNode::String(who.to_owned())]);
}

fn ask(function: &str, args: Vec<AstNode>) -> AstNode {
    AstNode::Function { name: function.to_owned(), args, is_builtin: true }
}
