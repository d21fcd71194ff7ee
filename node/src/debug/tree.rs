//! The actor tree as text.

use std::fmt::Write as _;

use protocol::query::{ActorView, Answer, Body};

use super::Paint;

/// Names are aligned up to this column; longer ones push their own line only.
const COLUMN_MAX: usize = 48;
/// A failure is shown up to this many characters; the whole stands in the JSON.
const FAILURE_MAX: usize = 120;

/// The trees in `answers` as text without colours, as the debug endpoint and pipes get it.
pub fn render_tree(answers: &[Answer]) -> String {
    render_tree_with(answers, Paint::Plain)
}

/// The trees in `answers` as text, one after another.
pub fn render_tree_with(answers: &[Answer], paint: Paint) -> String {
    let mut lines = Vec::new();
    for answer in answers {
        if !lines.is_empty() {
            lines.push(Line::default());
        }
        match &answer.body {
            Body::Actor(root) => add(&mut lines, root, "", "", paint),
            Body::Nothing => lines.push(Line { left: format!("{}: nothing there", answer.node), right: String::new() }),
            Body::Owners(_) | Body::Sagas(_) | Body::Workers(_) | Body::Health(_) => {
                lines.push(Line { left: format!("{}: answered something else", answer.node), right: String::new() });
            }
        }
    }
    let column = lines.iter().map(|line| line.left.chars().count()).filter(|width| *width <= COLUMN_MAX).max();
    let column = column.unwrap_or(0);
    let mut text = String::new();
    for line in lines {
        let pad = if line.right.is_empty() { 0 } else { column.saturating_sub(line.left.chars().count()) + 2 };
        let _ = writeln!(text, "{}{:pad$}{}", line.left, "", line.right);
    }
    text
}

#[derive(Default)]
struct Line {
    left: String,
    right: String,
}

/// `first` stands before the actor itself, `rest` before everything below it.
fn add(lines: &mut Vec<Line>, actor: &ActorView, first: &str, rest: &str, paint: Paint) {
    lines.push(Line { left: format!("{first}{}", title(actor)), right: about(actor, paint) });
    let last = actor.children.len() + actor.folded.len();
    for (index, child) in actor.children.iter().enumerate() {
        let (branch, below) = if index + 1 == last { ("└─ ", "   ") } else { ("├─ ", "│  ") };
        add(lines, child, &format!("{rest}{branch}"), &format!("{rest}{below}"), paint);
    }
    for (index, folded) in actor.folded.iter().enumerate() {
        let branch = if actor.children.len() + index + 1 == last { "└┄ " } else { "├┄ " };
        lines.push(Line { left: format!("{rest}{branch}{folded}"), right: String::new() });
    }
}

fn title(actor: &ActorView) -> String {
    // Most names say their kind already; a node's is its own name.
    if actor.kind == "node" { format!("node {}", actor.name) } else { actor.name.clone() }
}

fn about(actor: &ActorView, paint: Paint) -> String {
    let state = match actor.state.as_str() {
        "running" => paint.good("running"),
        "parked" => paint.bad("parked"),
        other => paint.warn(other),
    };
    let mut parts = vec![state];
    if let Some(strategy) = &actor.strategy {
        parts.push(paint.dim(strategy));
    }
    if let Some(doing) = &actor.doing {
        parts.push(doing.clone());
    }
    if actor.mailbox > 0 {
        parts.push(paint.warn(&format!("mailbox {}", actor.mailbox)));
    }
    match actor.restarts {
        0 => {}
        1 => parts.push(paint.warn("1 restart")),
        many => parts.push(paint.warn(&format!("{many} restarts"))),
    }
    if let Some(failure) = &actor.last_failure {
        let line = failure.lines().next().unwrap_or_default();
        let short = protocol::text::shortened(line, FAILURE_MAX);
        parts.push(paint.bad(&format!("last failure: {short}")));
    }
    parts.join(" · ")
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;

    #[test]
    fn a_tree_is_readable() {
        let text = render_tree(&[sample::answer(Body::Actor(Box::new(sample::tree()))), sample::answer(Body::Nothing)]);
        let expected = "\
node n1                       running · one for one
├─ cluster                    running
└─ shard 0                    running · rest for one
   ├─ journal                 running
   ├─ saga acme/install-7     running · mailbox 3
   │  └─ step Applying #2     running · attempt 2 of asset.apply
   ├─ saga acme/install-8     parked · 5 restarts · last failure: index out of bounds
   └┄ sleeping sagas: 100000

n1: nothing there
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn colours_are_only_put_where_they_are_asked_for() {
        let answers = [sample::answer(Body::Actor(Box::new(sample::tree())))];
        assert!(!render_tree(&answers).contains('\u{1b}'));
        assert!(render_tree_with(&answers, Paint::Colours).contains('\u{1b}'));
    }
}
