//! Makes an expression's tree say what it grows, so that its budget is asked wherever it could grow
//! without end.
//!
//! The query engine looks at the clock between two steps, and a value costs it nothing when it is
//! shared. So twenty lines can build a value that is larger than any memory once it is written out,
//! and one call can run for hours. Here calls of the [budget](super::budget) are put around what an
//! iteration must pass through: what a variable or a parameter is given, what a list or an object is
//! made of, what texts are joined to, and what functions are given whose cost is not that of their
//! input. A value goes through unchanged or not at all.

use std::collections::HashSet;

use jsonata_core::ast::{AstNode, BinaryOp, Stage};

use super::budget::{COUNTED, DATA, DISTINCT, PICTURE, REPLACED, ROMAN, SEEN, SHORT, TEXT, WIDTH};

/// Functions whose result is new and may be large: it is counted.
const MAKERS: &[&str] = &[
    "append",
    "base64decode",
    "base64encode",
    "decodeUrl",
    "decodeUrlComponent",
    "encodeUrl",
    "encodeUrlComponent",
    "formatInteger",
    "formatNumber",
    "join",
    "lowercase",
    "merge",
    "pad",
    "replace",
    "reverse",
    "shuffle",
    "sort",
    "split",
    "spread",
    "string",
    "substring",
    "trim",
    "uppercase",
    "zip",
    DISTINCT,
];
/// Functions that go over all of what they are given, parts that are shared included.
const EATERS: &[&str] = &[
    "append",
    "base64encode",
    "each",
    "filter",
    "join",
    "keys",
    "map",
    "merge",
    "reduce",
    "sift",
    "sort",
    "spread",
    "string",
    "zip",
    DISTINCT,
];
/// Functions whose cost is not that of their input: what they are given is checked.
const GUARDED: &[&str] = &[
    "distinct",
    "formatInteger",
    "formatNumber",
    "fromMillis",
    "match",
    "pad",
    "parseInteger",
    "replace",
    "split",
    "toMillis",
];
/// Those of them that are bounded in calls only, and not where they are passed on as values.
const IN_CALLS_ONLY: &[&str] = &["formatInteger", "match", "pad", "replace", "split"];
/// Levels of an expression; the walks here and in the engine need stack for each.
const DEPTH_MAX: usize = 400;

/// `tree`, with calls of the budget in it.
///
/// # Errors
/// When something in it cannot be bounded.
pub(super) fn bounded(mut tree: AstNode) -> Result<AstNode, String> {
    let mut bound = HashSet::new();
    names(&mut tree, &mut bound, 0)?;
    walk(&mut tree, &bound)?;
    Ok(tree)
}

/// Every name that the expression itself gives to something.
pub(super) fn names(node: &mut AstNode, bound: &mut HashSet<String>, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!(
            "it nests deeper than {DEPTH_MAX} levels: name its parts, or let an activity do this work"
        ));
    }
    match node {
        AstNode::Lambda { params, .. } => bound.extend(params.iter().cloned()),
        AstNode::Binary { op: BinaryOp::ColonEqual, lhs, .. } => {
            if let AstNode::Variable(name) = &**lhs {
                bound.insert(name.clone());
            }
        }
        AstNode::Path { steps } => {
            bound.extend(steps.iter().flat_map(|step| step.focus.iter().chain(&step.index_var)).cloned());
        }
        _ => {}
    }
    children(node, &mut |child| names(child, bound, depth + 1))
}

fn walk(node: &mut AstNode, bound: &HashSet<String>) -> Result<(), String> {
    called(node);
    children(node, &mut |child| walk(child, bound))?;
    match node {
        AstNode::Path { steps } => {
            for stage in steps.iter_mut().flat_map(|step| &mut step.stages) {
                // The engine looks at the clock for every item, unless the filter is a variable alone.
                if let Stage::Filter(filter) = stage
                    && matches!(**filter, AstNode::Variable(_))
                {
                    **filter = AstNode::Block(vec![std::mem::replace(&mut **filter, AstNode::Null)]);
                }
            }
        }
        AstNode::Binary { op: BinaryOp::ColonEqual, rhs, .. } if !matches!(**rhs, AstNode::Lambda { .. }) => {
            wrap(rhs, SEEN);
        }
        AstNode::Binary { op: BinaryOp::Concatenate | BinaryOp::Range, .. } => wrap(node, COUNTED),
        AstNode::Function { .. } => call(node, bound)?,
        AstNode::Lambda { params, body, .. } if !params.is_empty() => {
            let seen = params.iter().map(|name| ask(SEEN, vec![AstNode::Variable(name.clone())]));
            // First, so that a call at the end stays a call at the end, which needs no stack.
            let steps = seen.chain([std::mem::replace(&mut **body, AstNode::Null)]).collect();
            **body = AstNode::Block(steps);
        }
        AstNode::Array(items) | AstNode::ArrayGroup(items) => {
            items.iter_mut().filter(|item| may_repeat(item)).for_each(|item| wrap(item, COUNTED));
        }
        AstNode::Object(fields) | AstNode::ObjectTransform { pattern: fields, .. } => {
            let values = fields.iter_mut().map(|(_, value)| value);
            values.filter(|value| may_repeat(value)).for_each(|value| wrap(value, COUNTED));
        }
        AstNode::Variable(name) if name == "distinct" && !bound.contains(name) => DISTINCT.clone_into(name),
        AstNode::Variable(name) if IN_CALLS_ONLY.contains(&name.as_str()) => {
            wrap(node, DATA);
            // Not a call: one on the right of `~>` would be given what stands on its left.
            *node = AstNode::Block(vec![std::mem::replace(node, AstNode::Null)]);
        }
        _ => {}
    }
    Ok(())
}

/// Every node below `node`.
pub(super) fn children(
    node: &mut AstNode,
    visit: &mut dyn FnMut(&mut AstNode) -> Result<(), String>,
) -> Result<(), String> {
    match node {
        AstNode::Path { steps } => {
            for step in steps {
                visit(&mut step.node)?;
                for stage in &mut step.stages {
                    if let Stage::Filter(filter) = stage {
                        visit(filter)?;
                    }
                }
            }
            Ok(())
        }
        // What is given a name on the left is not a value.
        AstNode::Binary { op: BinaryOp::ColonEqual, rhs, .. } => visit(rhs),
        AstNode::Binary { lhs, rhs, .. } => visit(lhs).and_then(|()| visit(rhs)),
        AstNode::Unary { operand: inner, .. }
        | AstNode::FunctionApplication(inner)
        | AstNode::Lambda { body: inner, .. } => visit(inner),
        AstNode::Function { args, .. } => args.iter_mut().try_for_each(visit),
        AstNode::Call { procedure, args } => visit(procedure).and_then(|()| args.iter_mut().try_for_each(visit)),
        AstNode::Array(items) | AstNode::ArrayGroup(items) | AstNode::Block(items) => {
            items.iter_mut().try_for_each(visit)
        }
        AstNode::Object(fields) => {
            fields.iter_mut().try_for_each(|(name, value)| visit(name).and_then(|()| visit(value)))
        }
        AstNode::ObjectTransform { input, pattern } => {
            visit(input)?;
            pattern.iter_mut().try_for_each(|(name, value)| visit(name).and_then(|()| visit(value)))
        }
        AstNode::Conditional { condition, then_branch, else_branch } => {
            visit(condition)?;
            visit(then_branch)?;
            else_branch.as_deref_mut().map_or(Ok(()), visit)
        }
        AstNode::Sort { input, terms } => {
            visit(input)?;
            terms.iter_mut().try_for_each(|(term, _)| visit(term))
        }
        AstNode::Transform { location, update, delete } => {
            visit(location)?;
            visit(update)?;
            delete.as_deref_mut().map_or(Ok(()), visit)
        }
        AstNode::String(_)
        | AstNode::Name(_)
        | AstNode::Number(_)
        | AstNode::Boolean(_)
        | AstNode::Null
        | AstNode::Undefined
        | AstNode::Placeholder
        | AstNode::Regex { .. }
        | AstNode::Variable(_)
        | AstNode::ParentVariable(_)
        | AstNode::Wildcard
        | AstNode::Descendant
        | AstNode::Parent(_) => Ok(()),
    }
}

/// `x ~> $f(y)` written as what it means, `$f(x, y)`, for the functions that are looked at here.
fn called(node: &mut AstNode) {
    let AstNode::Binary { op: BinaryOp::ChainPipe, lhs, rhs } = node else { return };
    let call = match &mut **rhs {
        AstNode::Path { steps } if steps.len() == 1 => &mut steps[0].node,
        other => other,
    };
    if let AstNode::Function { name, args, .. } = call
        && (MAKERS.contains(&name.as_str()) || GUARDED.contains(&name.as_str()))
        && !args.iter().any(|arg| matches!(arg, AstNode::Placeholder))
    {
        args.insert(0, std::mem::replace(&mut **lhs, AstNode::Null));
        *node = std::mem::replace(&mut **rhs, AstNode::Null);
    }
}

/// Whether a node can stand for something large that stands elsewhere as well.
fn may_repeat(node: &AstNode) -> bool {
    match node {
        AstNode::Path { steps } => steps.iter().any(|step| !matches!(step.node, AstNode::Name(_))),
        AstNode::Variable(_)
        | AstNode::ParentVariable(_)
        | AstNode::Function { .. }
        | AstNode::Call { .. }
        | AstNode::Block(_)
        | AstNode::Conditional { .. }
        | AstNode::ObjectTransform { .. } => true,
        _ => false,
    }
}

/// A call of a function by its name, its arguments already walked.
fn call(node: &mut AstNode, bound: &HashSet<String>) -> Result<(), String> {
    let AstNode::Function { name, args, .. } = node else { return Ok(()) };
    if GUARDED.contains(&name.as_str()) && bound.contains(name) {
        return Err(format!("${name} is a function of the language: give what is yours another name"));
    }
    let partial = args.iter().any(|arg| matches!(arg, AstNode::Placeholder));
    if partial && IN_CALLS_ONLY.contains(&name.as_str()) {
        return Err(format!("${name} cannot be called with ? here: write function($x) {{ ${name}($x, …) }}"));
    }
    if name == "distinct" {
        DISTINCT.clone_into(name);
    }
    guard(name, args);
    if !partial && MAKERS.contains(&name.as_str()) {
        wrap(node, COUNTED);
    }
    Ok(())
}

/// Puts checks on the arguments of a function.
fn guard(name: &str, args: &mut Vec<AstNode>) {
    match name {
        "pad" => every(args, WIDTH),
        "fromMillis" | "toMillis" | "formatNumber" | "parseInteger" => every(args, PICTURE),
        "join" => {
            every(args, SEEN);
            args.iter_mut().skip(1).for_each(|separator| wrap(separator, SHORT));
        }
        "formatInteger" => first(args, 2, ROMAN),
        "replace" => {
            if let Some(AstNode::Lambda { body, .. }) = args.last_mut() {
                wrap(body, COUNTED);
            }
            first(args, 3, REPLACED);
        }
        "split" | "match" => first(args, 2, TEXT),
        eater if EATERS.contains(&eater) => every(args, SEEN),
        _ => {}
    }
}

fn every(args: &mut [AstNode], check: &str) {
    args.iter_mut().filter(|arg| is_value(arg)).for_each(|arg| wrap(arg, check));
}

/// The first of `full` arguments becomes what `check` answers for all of them. One that is left out
/// stands for where the function is called.
fn first(args: &mut Vec<AstNode>, full: usize, check: &str) {
    if args.len() + 1 == full {
        args.insert(0, AstNode::Variable(String::new()));
    }
    let Some((first, others)) = args.split_first_mut() else { return };
    let mut all = vec![std::mem::replace(first, AstNode::Null)];
    for other in others {
        all.push(match other {
            AstNode::String(_) | AstNode::Number(_) | AstNode::Variable(_) => other.clone(),
            AstNode::Lambda { .. } | AstNode::Regex { .. } => AstNode::Undefined,
            // Asked once for the check and once for the function would be twice the work on every
            // level. What is not known is checked as the worst it can be.
            _ => {
                wrap(other, SHORT);
                AstNode::Null
            }
        });
    }
    *first = ask(check, all);
}

fn is_value(node: &AstNode) -> bool {
    !matches!(node, AstNode::Lambda { .. } | AstNode::Placeholder | AstNode::Regex { .. })
}

fn wrap(node: &mut AstNode, check: &str) {
    let inner = std::mem::replace(node, AstNode::Null);
    *node = ask(check, vec![inner]);
}

fn ask(check: &str, args: Vec<AstNode>) -> AstNode {
    AstNode::Function { name: check.to_owned(), args, is_builtin: true }
}
