//! Sagas that a worker wants: commands to this node, which brings them to where the saga lives.

use std::sync::{Arc, OnceLock, Weak};

use actors::runtime::control::{Became, Sagas, Starting};
use async_trait::async_trait;
use protocol::codec::Format;
use protocol::command::{Of, Routed, Start, name};
use protocol::envelope::traceparent;
use protocol::view::SagaView;
use protocol::{Code, Principal, Problem, SagaKey, Tenant, TraceId, Value};
use serde::Serialize;
use supervisor::activity::Failure;
use supervisor::ports::Clock;

use crate::service::Dispatcher;

/// As whom a worker looks at a saga.
const LOOKS_AS: &str = "skald";

/// Sagas by way of this node's dispatcher.
pub struct OwnSagas {
    /// Set once the dispatcher exists; the two need each other.
    pub dispatcher: OnceLock<Weak<Dispatcher>>,
    /// For the time of a command.
    pub clock: Arc<dyn Clock>,
}

impl OwnSagas {
    async fn command(
        &self,
        tenant: &Tenant,
        principal: &str,
        command: &str,
        (trace, causes): (Option<&TraceId>, u32),
        body: &(impl Serialize + Sync),
    ) -> Result<Result<Value, Problem>, Failure> {
        let dispatcher = self.dispatcher.get().and_then(Weak::upgrade);
        let dispatcher = dispatcher.ok_or_else(|| Failure::transient(command, "the node is starting or stopping"))?;
        let routed = Routed {
            tenant: tenant.clone(),
            principal: principal.to_owned(),
            command: command.to_owned(),
            received_at: self.clock.now(),
            trace: trace.and_then(traceparent),
            id: uuid::Uuid::now_v7().simple().to_string(),
            causes,
            hops: 0,
            content_type: Format::MessagePack.content_type().into(),
            body: Format::MessagePack.write(body),
        };
        Ok(dispatcher.handle(routed).await)
    }
}

/// What a refusal means to a worker: some pass by themselves.
fn failure(command: &str, problem: &Problem) -> Failure {
    match problem.code {
        Code::Unavailable | Code::Busy | Code::Quota | Code::Timeout => Failure::transient(command, &problem.message),
        code => Failure::named(&format!("{code:?}"), problem.message.clone()),
    }
}

#[async_trait]
impl Sagas for OwnSagas {
    async fn start(&self, starting: &Starting) -> Result<(), Failure> {
        let Starting { tenant, principal, definition, key, input, trace, causes } = starting;
        let start = Start {
            definition: definition.clone(),
            version: None,
            key: Some(key.clone()),
            input: input.clone(),
            wait_ms: None,
        };
        let by: &Principal = principal;
        match self.command(tenant, by.as_str(), name::SAGA_START, (Some(trace), *causes), &start).await? {
            Ok(_) => Ok(()),
            Err(problem) => Err(failure(name::SAGA_START, &problem)),
        }
    }

    async fn became(&self, tenant: &Tenant, key: &SagaKey) -> Result<Option<Became>, Failure> {
        let of = Of { key: key.clone() };
        match self.command(tenant, LOOKS_AS, name::SAGA_DESCRIBE, (None, 0), &of).await? {
            Ok(view) => {
                let view: SagaView = serde_json::from_value(view)
                    .map_err(|error| Failure::permanent("reading what became of a saga", error))?;
                Ok(Some(view.outcome.map_or(Became::UnderWay, Became::Ended)))
            }
            Err(problem) if problem.code == Code::NotFound => Ok(None),
            Err(problem) => Err(failure(name::SAGA_DESCRIBE, &problem)),
        }
    }
}
