//! The port to sagas: what a worker wants done that takes longer than a look.

use async_trait::async_trait;
use protocol::view::Outcome;
use protocol::{Principal, SagaKey, Tenant, TraceId, Value};
use supervisor::activity::Failure;

/// Starts sagas and says how they ended.
#[async_trait]
pub trait Sagas: Send + Sync + 'static {
    /// Starts a saga; `Ok` is durable. Again with the same key: nothing happens, whatever became of
    /// it meanwhile.
    async fn start(&self, starting: &Starting) -> Result<(), Failure>;

    /// What became of a saga. `None`: there is none of that key. Changes nothing.
    async fn became(&self, tenant: &Tenant, key: &SagaKey) -> Result<Option<Became>, Failure>;
}

/// A saga that is wanted.
#[derive(Clone, PartialEq, Debug)]
pub struct Starting {
    /// Whose.
    pub tenant: Tenant,
    /// On whose word.
    pub principal: Principal,
    /// Its definition, as in `runtime_deployment`.
    pub definition: String,
    /// Its name, and what makes a repetition one.
    pub key: SagaKey,
    /// Its input.
    pub input: Value,
    /// The trace that led to it.
    pub trace: TraceId,
    /// How many events led to it, one after the other.
    pub causes: u32,
}

/// What became of a saga.
#[derive(Clone, PartialEq, Debug)]
pub enum Became {
    /// It goes on.
    UnderWay,
    /// It has ended.
    Ended(Outcome),
}
