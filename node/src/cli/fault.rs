//! What a person or a program is told when a command fails: what failed, why, what to do.

use std::error::Error as _;
use std::fmt::Write as _;

use protocol::Problem;

use crate::{client, config, terminal};

/// A failed command.
#[derive(Debug)]
pub(super) struct Fault {
    /// What failed.
    pub(super) what: String,
    /// Why, from the near cause to the far one.
    pub(super) why: Vec<String>,
    /// What to do about it.
    pub(super) mend: Option<String>,
    /// The problem's code, for programs.
    pub(super) code: String,
    /// The exit code.
    pub(super) exit: u8,
}

impl Fault {
    /// A command that cannot be done as asked.
    pub(super) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: Vec::new(), mend: None, code: "failed".into(), exit: 1 }
    }

    /// Arguments or settings that make no sense.
    pub(super) fn usage(what: impl Into<String>) -> Self {
        Self { code: "usage".into(), exit: 2, ..Self::new(what) }
    }

    pub(super) fn interrupted() -> Self {
        Self { code: "interrupted".into(), exit: 130, ..Self::new("interrupted") }
    }

    /// The same for a terminal: what others wrote in it commands nothing.
    pub(super) fn readable(&self) -> Self {
        let readable = |text: &String| terminal::readable(text).into_owned();
        Self {
            what: readable(&self.what),
            why: self.why.iter().map(readable).collect(),
            mend: self.mend.as_ref().map(readable),
            code: self.code.clone(),
            exit: self.exit,
        }
    }

    pub(super) fn mend(mut self, mend: impl Into<String>) -> Self {
        self.mend = Some(mend.into());
        self
    }

    pub(super) fn why(mut self, why: impl Into<String>) -> Self {
        self.why.push(why.into());
        self
    }

    /// As text; `bad` and `dim` colour a word.
    pub(super) fn text(&self, bad: impl Fn(&str) -> String, dim: impl Fn(&str) -> String) -> String {
        let mut text = String::new();
        let indented = |text: &mut String, label: &str, body: &str| {
            let mut lines = body.lines();
            let _ = writeln!(text, "  {} {}", dim(label), lines.next().unwrap_or_default());
            for line in lines {
                let _ = writeln!(text, "       {line}");
            }
        };
        let mut lines = self.what.lines();
        let _ = writeln!(text, "{} {}", bad("error:"), lines.next().unwrap_or_default());
        for line in lines {
            let _ = writeln!(text, "       {line}");
        }
        for why in &self.why {
            indented(&mut text, "why:", why);
        }
        if let Some(mend) = &self.mend {
            indented(&mut text, "do: ", mend);
        }
        text
    }

    /// As the JSON document of a failed command.
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::json!({"error": {
            "code": self.code, "message": self.what, "why": self.why, "mend": self.mend, "exit": self.exit,
        }})
    }
}

impl From<client::Error> for Fault {
    fn from(error: client::Error) -> Self {
        let code = error.code().and_then(|code| serde_json::to_value(code).ok());
        let code = code.and_then(|code| code.as_str().map(str::to_owned));
        let exit = match &error {
            client::Error::Unreachable { .. }
            | client::Error::Unauthorized { .. }
            | client::Error::NoNode { .. }
            | client::Error::Timeout { .. }
            | client::Error::Connection(_) => 3,
            client::Error::Refused(_) | client::Error::NotAllowed { .. } | client::Error::Unreadable { .. } => 1,
        };
        let code = code.or_else(|| matches!(error, client::Error::NotAllowed { .. }).then(|| "forbidden".into()));
        let code = code.unwrap_or_else(|| if exit == 3 { "unreachable".into() } else { "unreadable".into() });
        Self { mend: error.mend(), code, exit, ..Self::new(error.to_string()) }
    }
}

impl From<Problem> for Fault {
    fn from(problem: Problem) -> Self {
        client::Error::Refused(problem).into()
    }
}

impl From<config::Fault> for Fault {
    fn from(fault: config::Fault) -> Self {
        let mend = "`skald node --print-config` shows every setting with its meaning";
        Self::usage(fault.to_string()).mend(mend)
    }
}

impl From<anyhow::Error> for Fault {
    fn from(error: anyhow::Error) -> Self {
        let why = error.chain().skip(1).map(ToString::to_string).collect();
        match error.downcast::<client::Error>() {
            Ok(error) => error.into(),
            Err(error) => Self { why, ..Self::new(error.to_string()) },
        }
    }
}

impl From<std::io::Error> for Fault {
    fn from(error: std::io::Error) -> Self {
        let mut fault = Self::new(error.to_string());
        let mut cause = error.source();
        while let Some(next) = cause {
            fault.why.push(next.to_string());
            cause = next.source();
        }
        fault
    }
}
