//! What is done to a definition's activities: called twice, or made to fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use async_trait::async_trait;
use protocol::Value;
use supervisor::activity::{Activity, Attempt, Failure};

use crate::sim::link::Link;

/// When a step fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Before it did anything.
    Before,
    /// After it did everything: only the answer is lost.
    After,
}

impl When {
    /// For a sentence.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Before => "before",
            Self::After => "after",
        }
    }
}

/// What is done to the activities of one run.
#[derive(Clone, Default, Debug)]
pub struct Mischief {
    /// Every activity runs twice under its key.
    pub twice: bool,
    /// Every undo runs twice under its key.
    pub undo_twice: bool,
    /// This activity fails for good, every time.
    pub fails: Option<(String, When)>,
}

/// An activity to which mischief is done.
pub(super) struct Disturbed {
    pub(super) inner: Arc<dyn Activity>,
    pub(super) mischief: Mischief,
    pub(super) link: Arc<Link>,
    /// Work under way on the disk, which outlives its node here as it would not in life: the next node
    /// begins when it is done.
    pub(super) under_way: Arc<AtomicUsize>,
}

struct UnderWay(Arc<AtomicUsize>);

impl UnderWay {
    fn begin(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, SeqCst);
        Self(count.clone())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

impl Disturbed {
    fn fails(&self, when: When, name: &str) -> Result<(), Failure> {
        match &self.mischief.fails {
            Some((fails, at)) if fails == name && *at == when => Err(Failure::permanent("the test", "asked for it")),
            Some(_) | None => Ok(()),
        }
    }
}

#[async_trait]
impl Activity for Disturbed {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn undo_name(&self) -> Option<&str> {
        self.inner.undo_name()
    }

    async fn run(&self, attempt: &Attempt, input: Value) -> Result<Value, Failure> {
        self.link.runs().await;
        let under_way = UnderWay::begin(&self.under_way);
        self.fails(When::Before, self.name())?;
        let mut answer = self.inner.run(attempt, input.clone()).await;
        if self.mischief.twice && answer.is_ok() {
            answer = self.inner.run(attempt, input).await;
        }
        drop(under_way);
        self.link.runs().await;
        self.fails(When::After, self.name())?;
        answer
    }

    async fn undo(&self, attempt: &Attempt, input: Value, output: Option<Value>) -> Result<(), Failure> {
        self.link.runs().await;
        let under_way = UnderWay::begin(&self.under_way);
        let mut answer = self.inner.undo(attempt, input.clone(), output.clone()).await;
        if (self.mischief.undo_twice || self.mischief.twice) && answer.is_ok() {
            answer = self.inner.undo(attempt, input, output).await;
        }
        drop(under_way);
        self.link.runs().await;
        answer
    }
}
