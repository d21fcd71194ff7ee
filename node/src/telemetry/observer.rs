//! What the engine tells while it works, as figures and traces.

use std::sync::Arc;
use std::time::Duration;

use protocol::TraceId;
use supervisor::tree::engine::Observer;

use super::{Metrics, set_parent};

/// Passes on what the engine tells.
pub struct Observed(pub Arc<Metrics>);

impl Observer for Observed {
    fn appended(&self, records: usize, took: Duration) {
        self.0.appended(records, took);
    }

    fn attempted(&self, activity: &str, took: Duration) {
        self.0.activity(activity, took);
    }

    fn published(&self) {
        self.0.published();
    }

    fn buried(&self, reason: &str) {
        self.0.buried(reason);
    }

    fn joins(&self, span: &tracing::Span, trace: &TraceId) {
        // Nobody collects: the span is not even made.
        if !span.is_disabled() {
            set_parent(span, trace);
        }
    }
}
