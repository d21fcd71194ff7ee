//! Colours, or none. Whoever renders says what a word means; here is how that looks.

use owo_colors::{OwoColorize as _, Style};
use protocol::view::Status;

/// Whether to colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Paint {
    /// Plain text, for files, pipes and HTTP.
    Plain,
    /// ANSI colours, for a terminal.
    Colours,
}

impl Paint {
    fn with(self, text: &str, style: Style) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Colours => text.style(style).to_string(),
        }
    }

    /// All is well.
    pub fn good(self, text: &str) -> String {
        self.with(text, Style::new().green())
    }

    /// Worth a look.
    pub fn warn(self, text: &str) -> String {
        self.with(text, Style::new().yellow())
    }

    /// Something failed.
    pub fn bad(self, text: &str) -> String {
        self.with(text, Style::new().red().bold())
    }

    /// Less important than the rest.
    pub fn dim(self, text: &str) -> String {
        self.with(text, Style::new().dimmed())
    }

    /// The thing itself.
    pub fn strong(self, text: &str) -> String {
        self.with(text, Style::new().bold())
    }

    /// A saga's status.
    pub fn status(self, status: Status) -> String {
        match status {
            Status::Running => self.with(status.word(), Style::new().cyan()),
            Status::Waiting => self.with(status.word(), Style::new().blue()),
            Status::Undoing => self.warn(status.word()),
            Status::Succeeded => self.good(status.word()),
            Status::Cancelled => self.dim(status.word()),
            Status::Stuck | Status::Failed | Status::Abandoned => self.bad(status.word()),
        }
    }
}
