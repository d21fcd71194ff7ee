//! Where words go: answers to standard output, everything else to standard error.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use crate::debug::Paint;

use super::fault::Fault;
use crate::terminal;

/// When to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

pub(super) struct Out {
    /// Colours of what goes to standard output.
    pub(super) paint: Paint,
    errors: Paint,
    json: bool,
    quiet: bool,
}

impl Out {
    pub(super) fn new(color: Color, json: bool, quiet: bool) -> Self {
        // https://no-color.org: set and not empty means no colours.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        let paint = |terminal: bool| match color {
            Color::Always => Paint::Colours,
            Color::Auto if terminal && !refused => Paint::Colours,
            Color::Auto | Color::Never => Paint::Plain,
        };
        Self { paint: paint(io::stdout().is_terminal()), errors: paint(io::stderr().is_terminal()), json, quiet }
    }

    /// Part of the answer.
    pub(super) fn put(&self, text: impl Display) {
        self.write(&terminal::screen(&text.to_string()));
    }

    /// The answer in the place of the one before: home, then the text, each line cleared to its end, then what
    /// is left below, so that nothing flickers.
    pub(super) fn redraw(&self, text: &str) {
        self.write(&format!("\x1b[H{}\x1b[J", terminal::screen(text).replace('\n', "\x1b[K\n")));
    }

    fn write(&self, text: &str) {
        let mut stdout = io::stdout().lock();
        if let Err(error) = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
            // `skald list | head` closes the pipe early, and that is no failure.
            let code = if error.kind() == io::ErrorKind::BrokenPipe { 0 } else { 1 };
            std::process::exit(code);
        }
    }

    /// The answer, or a line of it, in JSON.
    pub(super) fn json(&self, text: &str) {
        self.line(terminal::json(text));
    }

    /// A line of the answer.
    pub(super) fn line(&self, text: impl Display) {
        self.put(format_args!("{text}\n"));
    }

    /// The answer, as JSON or as the text that `render` makes of it.
    pub(super) fn answer<T: Serialize>(&self, answer: &T, render: impl FnOnce(&T, Paint) -> String) {
        if self.json {
            self.json(&serde_json::to_string_pretty(answer).expect("answers are writable as JSON"));
        } else {
            self.put(render(answer, self.paint));
        }
    }

    /// A word about what happens, for a person; not part of the answer. What others wrote in it commands nothing.
    pub(super) fn say(&self, text: impl Display) {
        self.say_painted(terminal::readable(&text.to_string()));
    }

    /// The same for words that we painted; what is in them of others is readable already.
    pub(super) fn say_painted(&self, text: impl Display) {
        if !self.quiet {
            eprintln!("{}", terminal::screen(&text.to_string()));
        }
    }

    /// What to do next, dimmed.
    pub(super) fn next(&self, text: &str) {
        if !self.json {
            self.say_painted(self.errors.dim(&terminal::readable(text)));
        }
    }

    /// Whether a person watches what happens.
    pub(super) fn is_watched(&self) -> bool {
        io::stderr().is_terminal() && !self.quiet
    }

    /// A line that shows what happens now and disappears; nothing where nobody watches.
    pub(super) fn progress(&self) -> ProgressBar {
        if !self.is_watched() {
            return ProgressBar::hidden();
        }
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{spinner} {elapsed} {wide_msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    }

    /// Tells what failed, and with which code to end.
    pub(super) fn fault(&self, fault: &Fault) -> ExitCode {
        if self.json {
            self.json(&serde_json::to_string_pretty(&fault.json()).expect("a fault is writable as JSON"));
        }
        let fault = fault.readable();
        let text = fault.text(|text| self.errors.bad(text), |text| self.errors.dim(text));
        eprint!("{}", terminal::screen(&text));
        ExitCode::from(fault.exit)
    }
}
