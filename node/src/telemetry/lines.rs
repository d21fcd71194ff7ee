//! Log lines: one event is one line, whatever a tenant's text in it holds. A key, a cause or a subject
//! with a line break in it must not look like an event of its own, nor command the terminal of whoever
//! reads along.

use std::io;

use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::debug_fn;
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::terminal::{cell, json, readable};

/// Names of fields that tell where a line of another logging library came from; that is said already.
const OF_LOG: &str = "log.";

/// Lines for a person, with `colours` or without.
pub(super) fn human<S, W>(to: W, colours: bool) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let fields = debug_fn(|to, field, value| {
        let said = format!("{value:?}");
        let said = readable(&said);
        match field.name() {
            name if name.starts_with(OF_LOG) => Ok(()),
            "message" => to.write_str(&cell(&said)),
            name => write!(to, "{}={}", name.trim_start_matches("r#"), cell(&said)),
        }
    });
    fmt::layer()
        .with_writer(to)
        .compact()
        .with_ansi(colours)
        .with_target(false)
        .fmt_fields(fields.delimited(" "))
        .boxed()
}

/// One JSON object for each event.
pub(super) fn objects<S, W>(to: W) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    fmt::layer().with_writer(Seen(to)).json().flatten_event(true).with_ansi(false).boxed()
}

/// Writes JSON in which everything can be seen; each write is an event.
struct Seen<W>(W);

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Seen<W> {
    type Writer = Seen<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Seen(self.0.make_writer())
    }
}

impl<W: io::Write> io::Write for Seen<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(json(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::Registry;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// Looks like a line of our own, clears the screen, colours, turns the direction.
    const HOSTILE: &str = "x\n2026-01-01T00:00:00Z  WARN forged\r\u{1b}[2J\u{9b}31m\u{202e}\u{1b}[8m";

    #[derive(Clone, Default)]
    struct Kept(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// What is written of one event that holds hostile text wherever text may stand.
    fn written(layer: impl FnOnce(Kept) -> Box<dyn Layer<Registry> + Send + Sync>) -> String {
        let kept = Kept::default();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer(kept.clone())), || {
            let span = tracing::info_span!("saga", key = %HOSTILE);
            let _in = span.enter();
            tracing::warn!(shown = %HOSTILE, plain = HOSTILE, debugged = ?HOSTILE, "failed: {HOSTILE}");
        });
        let bytes = kept.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_tenants_text_stays_in_its_line_and_commands_nothing() {
        let human = written(|to| human(move || to.clone(), false));
        let objects = written(|to| objects(move || to.clone()));
        for text in [&human, &objects] {
            assert!(text.ends_with('\n') && text.lines().count() == 1, "{text}");
            let hidden = |c: char| c.is_control() || c == '\u{202e}';
            assert!(!text.trim_end_matches('\n').contains(hidden), "{text:?}");
            assert!(text.matches("forged").count() >= 5, "all of it is there: {text}");
        }
        let bare = written(|to| fmt::layer().with_writer(move || to.clone()).compact().with_ansi(false).boxed());
        assert!(bare.lines().count() > 1 && bare.contains('\u{1b}'), "the library alone suffices now: {bare:?}");
        let object: serde_json::Value = serde_json::from_str(&objects).unwrap();
        assert_eq!(object["shown"], HOSTILE, "JSON says the same");
        assert!(human.contains("shown=x") && human.contains("failed: x"), "{human}");
        // Our own colours stay, and are none of the tenant's.
        let painted = written(|to| super::human(move || to.clone(), true));
        assert!(painted.contains('\u{1b}') && !painted.contains("\u{1b}[2J") && !painted.contains("\u{1b}[8m"));
        assert_eq!(painted.lines().count(), 1, "{painted}");
    }
}
