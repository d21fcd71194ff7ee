use clap::{Args, Subcommand};
use protocol::Value;
use protocol::command::{Deploy, ShowDefinition};

use crate::client::Deployed;
use crate::debug::{self, Paint};

use super::context::Ctx;
use super::{Ended, Ending, input, parts};

/// Deploys, checks, lists, shows and draws definitions
#[derive(Args, Debug)]
#[command(after_help = "\
A definition is Amazon States Language in YAML or JSON, with a way to undo each state. A version
never changes: deploying another source makes the next one, and running sagas stay on theirs.

Example:
  skald definition check order.yaml
  skald definition deploy order.yaml
  skald definition render order > order.mmd

Next: skald start NAME --key KEY")]
pub(super) struct Definition {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Deploys a definition; it is checked first
    #[command(after_help = "Example:\n  skald definition deploy order.yaml\n\nNext: skald start order --key order-7")]
    Deploy {
        /// YAML or JSON; - for standard input
        file: String,
    },
    /// Checks a definition without deploying it
    #[command(after_help = "Example:\n  skald definition check order.yaml\n\nNext: skald definition deploy order.yaml")]
    Check {
        /// YAML or JSON; - for standard input
        file: String,
    },
    /// Lists what the tenant deployed and what is built in
    #[command(after_help = "Example:\n  skald definition list\n\nNext: skald definition show NAME")]
    List,
    /// Shows a definition's source
    #[command(
        after_help = "Example:\n  skald definition show installation\n\nNext: skald definition render installation"
    )]
    Show(Which),
    /// Draws a definition as a Mermaid state diagram
    #[command(
        after_help = "Example:\n  skald definition render installation > installation.mmd\n  skald definition render --file order.yaml\n\nNext: paste it where Mermaid is drawn, as in a README"
    )]
    Render {
        /// Name of a deployed definition
        #[arg(required_unless_present = "file")]
        name: Option<String>,
        /// A version of it; the latest when not set
        #[arg(long)]
        version: Option<u32>,
        /// Draw a file instead, without a server
        #[arg(long, conflicts_with_all = ["name", "version"])]
        file: Option<String>,
    },
}

#[derive(Args, Debug)]
struct Which {
    /// Name of the definition
    name: String,
    /// A version of it; the latest when not set
    #[arg(long)]
    version: Option<u32>,
}

pub(super) async fn run(args: Definition, ctx: &Ctx) -> Ended {
    match args.what {
        What::Deploy { file } => {
            let answer = ctx.connect().await?.deploy(&source(&file)?).await?;
            ctx.out.answer(&answer, |answer, paint| {
                let known = if answer.created { "" } else { " (the same source, known already)" };
                format!("{} v{}{known}\n{}", paint.strong(&answer.name), answer.version, warnings(answer, paint))
            });
            ctx.out.next(&format!("next: skald start {} --key KEY --input '{{…}}'", answer.name));
        }
        What::Check { file } => {
            let answer = ctx.connect().await?.check(&source(&file)?).await?;
            ctx.out.answer(&answer, |answer, paint| {
                format!("{} {}\n{}", paint.good("usable:"), answer.name, warnings(answer, paint))
            });
            ctx.out.next(&format!("next: skald definition deploy {file}"));
        }
        What::List => {
            let answer = ctx.connect().await?.definitions().await?;
            ctx.out.answer(&answer, rows);
        }
        What::Show(which) => {
            let which = ShowDefinition { name: which.name, version: which.version };
            let answer = ctx.connect().await?.definition(&which).await?;
            ctx.out.answer(&answer, |answer, _| answer.source.trim_end().to_owned() + "\n");
        }
        What::Render { name, version, file } => {
            let (source, from) = match (file, name) {
                (Some(file), _) => (source(&file)?.source, file),
                (None, name) => {
                    let which = ShowDefinition { name: name.unwrap_or_default(), version };
                    let shown = ctx.connect().await?.definition(&which).await?;
                    (shown.source, format!("{} v{}", shown.name, shown.version))
                }
            };
            let picture = parts::render_definition(&source, &from)?;
            ctx.out.answer(&serde_json::json!({"definition": from, "mermaid": picture}), |_, _| picture.clone());
        }
    }
    Ok(Ending::Done)
}

fn source(file: &str) -> Result<Deploy, super::fault::Fault> {
    if file == "-" {
        return Ok(Deploy { source: std::io::read_to_string(std::io::stdin())?, file: None });
    }
    Ok(Deploy { source: input::read_file(file)?, file: Some(file.to_owned()) })
}

fn warnings(answer: &Deployed, paint: Paint) -> String {
    answer.warnings.iter().map(|warning| format!("{} {}\n", paint.warn("warning:"), message(warning))).collect()
}

/// A warning's words: a text, or an object with a message and perhaps a place.
fn message(warning: &Value) -> String {
    let text = |name: &str| warning.get(name).and_then(Value::as_str);
    match (warning.as_str(), text("message")) {
        (Some(text), _) => text.to_owned(),
        (None, Some(message)) => {
            let line = warning.get("line").and_then(Value::as_u64).map(|line| format!("line {line}: "));
            let mend = text("mend").map(|mend| format!(" ({mend})"));
            format!("{}{message}{}", line.unwrap_or_default(), mend.unwrap_or_default())
        }
        (None, None) => warning.to_string(),
    }
}

/// A list as a table: rows stand in the answer itself or in its field `definitions`.
fn rows(answer: &Value, paint: Paint) -> String {
    let list = answer.as_array().or_else(|| answer.get("definitions").and_then(Value::as_array));
    let cells = list.into_iter().flatten().map(|row| {
        let cell = |name: &str| match row.get(name) {
            Some(Value::String(text)) => text.lines().next().unwrap_or_default().to_owned(),
            Some(Value::Null) | None => String::new(),
            Some(Value::Bool(built_in)) => if *built_in { "built in" } else { "own" }.to_owned(),
            Some(other) => other.to_string(),
        };
        ["name", "version", "digest", "builtIn", "description"].map(cell).to_vec()
    });
    debug::table(&["NAME", "VERSION", "DIGEST", "OF", "DESCRIPTION"], cells.collect(), paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warnings_are_read_as_text_or_with_their_place() {
        let placed = serde_json::json!({"line": 3, "message": "no Compensate", "mend": "add one"});
        assert_eq!(message(&placed), "line 3: no Compensate (add one)");
        assert_eq!(message(&"plain".into()), "plain");
    }
}
