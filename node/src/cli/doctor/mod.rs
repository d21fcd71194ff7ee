//! What is wrong, and what to do about it.

mod checks;
mod services;
mod workers;

use clap::Args;
use serde::Serialize;

use crate::debug::Paint;

use super::context::Ctx;
use super::{Ended, Ending};

/// Checks machine, server and cluster, and says how to mend what is wrong
#[derive(Args, Debug)]
#[command(after_help = "\
Ends with 0 when nothing fails; warnings do not count.

Example:
  skald doctor
  skald doctor --json | jq '.[] | select(.verdict != \"ok\")'

Next: what it says under `do`")]
pub(super) struct Doctor {}

/// How a check came out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    Ok,
    Warn,
    Fail,
}

/// One check.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub(super) struct Finding {
    pub(super) check: &'static str,
    pub(super) verdict: Verdict,
    /// What was found.
    pub(super) found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mend: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Ok, found: found.into(), mend: None }
    }

    pub(super) fn warn(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Warn, found: found.into(), mend: Some(mend.into()) }
    }

    pub(super) fn fail(check: &'static str, found: impl Into<String>, mend: impl Into<String>) -> Self {
        Self { check, verdict: Verdict::Fail, found: found.into(), mend: Some(mend.into()) }
    }
}

pub(super) async fn run(_args: Doctor, ctx: &Ctx) -> Ended {
    let mut findings = Vec::new();
    // Shown one by one, so that a check that takes long is seen to be the one.
    let mut found = |finding: Finding| {
        if !ctx.json() {
            ctx.out.put(render(&finding, ctx.out.paint));
        }
        findings.push(finding);
    };
    checks::all(ctx, &mut found).await;
    if ctx.json() {
        ctx.out.answer(&findings, |_, _| String::new());
    }
    let failed = findings.iter().any(|finding| finding.verdict == Verdict::Fail);
    Ok(if failed { Ending::Bad } else { Ending::Done })
}

fn render(finding: &Finding, paint: Paint) -> String {
    let verdict = match finding.verdict {
        Verdict::Ok => paint.good("ok  "),
        Verdict::Warn => paint.warn("warn"),
        Verdict::Fail => paint.bad("fail"),
    };
    let mut text = format!("{verdict}  {:<12}  {}\n", finding.check, finding.found);
    if let Some(mend) = &finding.mend {
        text.push_str(&format!("                    {} {mend}\n", paint.dim("do:")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_beside_what_to_do() {
        let text = render(&Finding::warn("sync", "every 2 minutes", "set sync_interval: always"), Paint::Plain);
        assert_eq!(text, "warn  sync          every 2 minutes\n                    do: set sync_interval: always\n");
    }
}
