//! Definitions: Amazon States Language with JSONata, checked whole before anything runs.
//!
//! # The dialect
//!
//! A file is a header around a definition, in YAML or JSON:
//!
//! ```yaml
//! name: installation                  # letters a-z, digits, "-" and "_"
//! description: What it is for.
//! access: { start: ["*"], view: ["*"], signal: [ops], cancel: [ops] }  # principals, or "*"; default "*"
//! retention: { succeeded: 7d, failed: 30d }                            # s, m, h, d
//! onCancel: undo                      # undo (default) | refuse
//! hidden: [AnnounceFailure]           # states that the picture leaves out
//! labels: { "Requested -> Evaluating": "compatibility check" }         # words on the picture's edges
//! definition: { StartAt: Requested, TimeoutSeconds: 3600, States: { } }
//! ```
//!
//! A bare States Language document is read with [`Definition::parse_named`]. The query language is
//! JSONata and is the default; JSONPath is refused with what to write instead.
//!
//! On top of the States Language:
//!
//! * `Resource` of a Task: `activity:NAME`, `task:human`, `signal:NAME`, `saga:NAME`, and
//!   `event:NAME`, a state that publishes `Arguments` as event NAME and goes on. Full names
//!   (`arn:aws:states:REGION:ACCOUNT:activity:NAME`) are read by their last two parts.
//! * A child of the saga `trip` is `trip~3`, by the number of the step, and `trip~3.2` when that is tried
//!   again. Its step fails with `Saga.KeyTaken` when another saga has that key, and with
//!   `Saga.LimitExceeded` when there are too many living sagas, or parents above it.
//! * The version of a child `saga:NAME` is pinned when its parent is deployed: to the newest there is
//!   then, which runs its own children by its own pins. A parent that runs stays on these, and so does
//!   one that is started later; deployed again, it gets the newest. `saga:NAME@latest` asks for the newest
//!   there is whenever it is started, and so does a child that was not there at the deployment, which
//!   warns.
//! * `Compensate: {Resource, Arguments, Retry, TimeoutSeconds, HeartbeatSeconds}` on Task, Map and
//!   Parallel: how to undo the state. `Arguments` sees `$states.input`, `$states.result` (absent
//!   when a crash or a time-out hid it) and `$states.context`; without it the undo is given
//!   `{"input": …, "output": … or null}`. `Compensate: none` says that there is nothing to undo.
//! * `Type: Compensate`: a state in which everything done in its scope is undone, last first.
//! * `IntervalSeconds` may be a fraction.
//! * An item of a Map that failed within the tolerance stands in the result as
//!   `{"Error": …, "Cause": …}`.
//! * `Comment` of a Choice rule or a Catcher is the word on its edge in the picture; for any other
//!   edge, and over those, the header's `labels` are taken.

pub mod check;
pub mod fault;
mod fields;
pub mod header;
mod parse;
pub mod resource;
pub mod source;
mod states;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use protocol::{DefinitionRef, Value};
use sha2::{Digest, Sha256};

pub use fault::{Fault, Faults, Warning};
pub use header::{Access, Header, OnCancel, Retention};
pub use resource::Resource;

use super::expression::{Expression, Limits, Template};
use source::At;

/// Most states of one definition: a person must be able to read its picture.
pub const STATES_MAX: usize = 1_000;
/// Most scopes inside each other; each is a level of the state's path.
pub const NESTING_MAX: usize = 16;

/// A checked definition, ready to run.
#[derive(Clone, Debug)]
pub struct Definition {
    reference: DefinitionRef,
    source: Arc<str>,
    header: Header,
    nests: Vec<Nest>,
    states: Vec<State>,
    names: HashMap<Arc<str>, usize>,
    timeout: Option<Duration>,
    signals: BTreeSet<String>,
    queries: bool,
    limits: Limits,
    /// Versions of children, by name.
    pins: BTreeMap<Arc<str>, DefinitionRef>,
}

/// One `States` map: the outermost one, a branch, or what a Map does with an item.
#[derive(Clone, Debug, PartialEq)]
pub struct Nest {
    /// The state that holds it; `None` for the outermost.
    pub holder: Option<usize>,
    /// `StartAt`
    pub start: Arc<str>,
    /// Its states, in the order written.
    pub states: Vec<usize>,
}

/// A state.
#[derive(Clone, Debug, PartialEq)]
pub struct State {
    /// Its name, unique in the whole definition.
    pub name: Arc<str>,
    /// Which `States` map it stands in.
    pub nest: usize,
    /// Where it stands in the source.
    pub at: At,
    /// `Comment`
    pub comment: Option<String>,
    /// What it does.
    pub kind: Kind,
    /// `Arguments`
    pub arguments: Option<Template>,
    /// `Output`
    pub output: Option<Template>,
    /// `Assign`
    pub assign: Vec<(String, Template)>,
    /// `Next`; `None` ends its scope.
    pub next: Option<Arc<str>>,
    /// `Retry`
    pub retry: Vec<Retrier>,
    /// `Catch`
    pub catch: Vec<Catcher>,
    /// `Compensate`
    pub compensate: Option<Compensate>,
    /// `TimeoutSeconds`
    pub timeout: Option<Amount>,
    /// `HeartbeatSeconds`
    pub heartbeat: Option<Amount>,
}

/// What a state does.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Does work, or waits for somebody.
    Task(Resource),
    /// Passes data on.
    Pass,
    /// Decides where to go.
    Choice {
        /// The first whose condition is true.
        rules: Vec<Rule>,
        /// Where to go when there is none.
        default: Option<Arc<str>>,
    },
    /// Waits for a while.
    Wait(Until),
    /// Ends its scope well.
    Succeed,
    /// Ends its scope badly.
    Fail {
        /// The error's name.
        error: Option<Template>,
        /// What went wrong.
        cause: Option<Template>,
    },
    /// Runs branches side by side.
    Parallel(Vec<usize>),
    /// Runs one scope for each item.
    Map(Box<Each>),
    /// Undoes everything done in its scope.
    Compensate,
}

/// How a Map goes over its items.
#[derive(Clone, Debug, PartialEq)]
pub struct Each {
    /// The scope run for each item.
    pub nest: usize,
    /// `Items`; the state's input when absent.
    pub items: Option<Template>,
    /// `ItemSelector`
    pub selector: Option<Template>,
    /// `MaxConcurrency`; 0 is no limit.
    pub concurrency: Option<Amount>,
    /// `ToleratedFailureCount`
    pub tolerated: Option<Amount>,
    /// `ToleratedFailurePercentage`
    pub tolerated_percentage: Option<Amount>,
}

/// One rule of a Choice.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// `Condition`
    pub condition: Template,
    /// `Next`
    pub next: Arc<str>,
    /// `Assign`
    pub assign: Vec<(String, Template)>,
    /// `Output`
    pub output: Option<Template>,
    /// `Comment`
    pub comment: Option<String>,
}

/// How long a Wait waits.
#[derive(Clone, Debug, PartialEq)]
pub enum Until {
    /// `Seconds`
    Seconds(Amount),
    /// `Timestamp`
    Timestamp(Template),
}

/// A number, or an expression that makes one.
#[derive(Clone, Debug, PartialEq)]
pub enum Amount {
    /// Written out.
    Is(serde_json::Number),
    /// To be asked when the state is entered.
    Asked(Expression),
}

/// One entry of `Retry`.
#[derive(Clone, Debug, PartialEq)]
pub struct Retrier {
    /// `ErrorEquals`
    pub errors: Vec<String>,
    /// `IntervalSeconds`
    pub interval: f64,
    /// `MaxAttempts`: retries after the first attempt.
    pub retries: u32,
    /// `BackoffRate`
    pub rate: f64,
    /// `MaxDelaySeconds`
    pub cap: Option<f64>,
    /// `JitterStrategy: FULL`
    pub jitter: bool,
}

/// One entry of `Catch`.
#[derive(Clone, Debug, PartialEq)]
pub struct Catcher {
    /// `ErrorEquals`
    pub errors: Vec<String>,
    /// `Next`
    pub next: Arc<str>,
    /// `Assign`
    pub assign: Vec<(String, Template)>,
    /// `Output`
    pub output: Option<Template>,
    /// `Comment`
    pub comment: Option<String>,
}

/// How to undo a state.
#[derive(Clone, Debug, PartialEq)]
pub struct Compensate {
    /// The activity that undoes it.
    pub activity: Arc<str>,
    /// What it is given.
    pub arguments: Option<Template>,
    /// How its failures are retried; [`super::retry::undo_policy`] when absent.
    pub retry: Vec<Retrier>,
    /// `TimeoutSeconds`
    pub timeout: Option<Duration>,
    /// `HeartbeatSeconds`
    pub heartbeat: Option<Duration>,
}

impl Definition {
    /// Reads and checks a definition with a header. `file` is what messages call the source.
    ///
    /// # Errors
    /// All faults at once, each with its place and what would be right.
    pub fn parse(source: &str, file: &str) -> Result<(Self, Vec<Warning>), Faults> {
        parse::parse(source, Faults::new(file), None)
    }

    /// The same for a text that was deployed before, perhaps by an earlier release: a number, a moment or
    /// an expression that could not be deployed any more fails by name where it is reached.
    ///
    /// # Errors
    /// All faults that it always had.
    pub fn parse_stored(source: &str, file: &str) -> Result<Self, Faults> {
        let faults = Faults { stored: true, ..Faults::new(file) };
        parse::parse(source, faults, None).map(|(definition, _)| definition)
    }

    /// The same for a States Language document without a header, which gets `name`.
    ///
    /// # Errors
    /// All faults at once, each with its place and what would be right.
    pub fn parse_named(source: &str, file: &str, name: &str) -> Result<(Self, Vec<Warning>), Faults> {
        parse::parse(source, Faults::new(file), Some(name))
    }

    /// Stands for a definition that is lost: its sagas can be folded and shown, and decide nothing.
    /// Everyone of the tenant may see where they stand, `deployers` may abandon them.
    pub fn stand_in(reference: DefinitionRef, deployers: Vec<String>) -> Self {
        let access = Access { start: Vec::new(), signal: Vec::new(), cancel: deployers, ..Access::default() };
        Self {
            source: "".into(),
            header: Header { name: reference.name.to_string(), access, ..Header::default() },
            nests: Vec::new(),
            states: Vec::new(),
            names: HashMap::new(),
            timeout: None,
            signals: BTreeSet::new(),
            queries: false,
            pins: BTreeMap::new(),
            limits: Limits::default(),
            reference,
        }
    }

    /// The same definition as version `version`.
    #[must_use]
    pub fn with_version(mut self, version: u32) -> Self {
        self.reference.version = version;
        self
    }

    /// The same definition as one of `tenant`; `None`: built in.
    #[must_use]
    pub fn owned_by(mut self, tenant: Option<protocol::Tenant>) -> Self {
        self.reference.tenant = tenant;
        self
    }

    /// The same definition with other limits.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The versions of its children, by name.
    pub const fn pins(&self) -> &BTreeMap<Arc<str>, DefinitionRef> {
        &self.pins
    }

    /// The same definition with these versions of its children, by name.
    #[must_use]
    pub fn with_pins(mut self, pins: BTreeMap<Arc<str>, DefinitionRef>) -> Self {
        self.pins = pins;
        self
    }

    /// The version of its child `name` that was there when it was deployed. `None`: the newest there
    /// is when it is started.
    pub fn pinned(&self, name: &str) -> Option<&DefinitionRef> {
        self.pins.get(name)
    }

    /// Name, version and digest.
    pub fn reference(&self) -> &DefinitionRef {
        &self.reference
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.reference.name
    }

    /// The first 16 hexadecimal digits of the SHA-256 of its source.
    pub fn digest(&self) -> &str {
        &self.reference.digest
    }

    /// The text it was read from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// What stands around the States Language.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What expressions, values and decisions may cost.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// `TimeoutSeconds` of the whole execution.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }

    /// The names of all activities it uses, those of `Compensate` included.
    pub fn activities(&self) -> BTreeSet<&str> {
        let tasks = self.states.iter().filter_map(|state| match state.kind.resource()? {
            Resource::Activity(name) => Some(name.as_ref()),
            Resource::Human | Resource::Signal(_) | Resource::Saga { .. } | Resource::Event(_) => None,
        });
        let undos = self.states.iter().filter_map(|state| state.compensate.as_ref()).map(|undo| undo.activity.as_ref());
        tasks.chain(undos).collect()
    }

    /// The names of the children whose version is pinned when it is deployed.
    pub fn children(&self) -> BTreeSet<&Arc<str>> {
        let children = self.states.iter().filter_map(|state| match state.kind.resource()? {
            Resource::Saga { definition, latest: false } => Some(definition),
            Resource::Saga { latest: true, .. }
            | Resource::Activity(_)
            | Resource::Human
            | Resource::Signal(_)
            | Resource::Event(_) => None,
        });
        children.collect()
    }

    /// The names of all signals it waits for.
    pub fn signals(&self) -> &BTreeSet<String> {
        &self.signals
    }

    /// Whether one of its expressions needs the query engine: all others cost microseconds.
    pub fn has_queries(&self) -> bool {
        self.queries
    }

    /// The state called `name`.
    pub fn state(&self, name: &str) -> Option<&State> {
        self.names.get(name).map(|index| &self.states[*index])
    }

    /// All states, in the order written.
    pub fn states(&self) -> &[State] {
        &self.states
    }

    /// The scope `nest`; 0 is the outermost.
    pub fn nest(&self, nest: usize) -> &Nest {
        &self.nests[nest]
    }

    /// All scopes.
    pub fn nests(&self) -> &[Nest] {
        &self.nests
    }
}

impl Kind {
    /// What a Task does; `None` for any other state.
    pub fn resource(&self) -> Option<&Resource> {
        match self {
            Self::Task(resource) => Some(resource),
            Self::Pass
            | Self::Choice { .. }
            | Self::Wait(_)
            | Self::Succeed
            | Self::Fail { .. }
            | Self::Parallel(_)
            | Self::Map(_)
            | Self::Compensate => None,
        }
    }
}

impl State {
    /// Every state it can go to, with the word on the edge.
    pub fn edges(&self) -> Vec<(&Arc<str>, Option<&str>)> {
        let mut edges = Vec::new();
        if let Kind::Choice { rules, default } = &self.kind {
            edges.extend(rules.iter().map(|rule| (&rule.next, rule.comment.as_deref())));
            edges.extend(default.iter().map(|next| (next, None)));
        }
        edges.extend(self.next.iter().map(|next| (next, None)));
        edges.extend(self.catch.iter().map(|catcher| (&catcher.next, catcher.comment.as_deref())));
        edges
    }

    /// Whether its scope can end here.
    pub fn ends(&self) -> bool {
        match self.kind {
            Kind::Choice { .. } => false,
            Kind::Succeed | Kind::Fail { .. } => true,
            Kind::Task(_) | Kind::Pass | Kind::Wait(_) | Kind::Parallel(_) | Kind::Map(_) | Kind::Compensate => {
                self.next.is_none()
            }
        }
    }
}

/// The first 16 hexadecimal digits of the SHA-256 of `source`.
pub fn digest(source: &str) -> String {
    let mut hex = format!("{:x}", Sha256::digest(source));
    hex.truncate(16);
    hex
}

/// A constant template, for tests and defaults.
impl From<Value> for Template {
    fn from(value: Value) -> Self {
        Self::Constant(value)
    }
}
