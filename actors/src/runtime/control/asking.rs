//! Asking the arbiter of a service, and its word as a type: a worker does something else on each.
//!
//! The tenant of the service is asked about first (W073): what is refused there is on record and
//! goes no further (H24).

use protocol::{Principal, Time, Value};
use supervisor::activity::Failure;
use supervisor::worker::Run;

use crate::runtime::arbiter::{Command, Decision, Doing, Refusal, Request, ServiceState, Source};
use crate::runtime::arbitration::Written;
use crate::runtime::control::desk::{Desk, Service};
use crate::runtime::model::RequestKey;
use crate::runtime::records::tenancy::{Asking, QUOTA, TENANT_REFUSED};
use crate::runtime::store::{Error, TRIES};

/// What the arbiter said.
#[derive(Clone, PartialEq, Debug)]
pub enum Said {
    /// It happens: whoever asked carries it out.
    Accepted {
        /// Under this number.
        sequence: u64,
        /// What is known now.
        state: Box<ServiceState>,
    },
    /// It was accepted before, or it is so anyway.
    AlreadyDone {
        /// The number under which it was accepted; `None`: it is so anyway.
        sequence: Option<u64>,
    },
    /// Something else is under way; a later run asks again.
    Busy {
        /// What.
        doing: Doing,
        /// Its number.
        sequence: u64,
        /// Whose.
        by: Principal,
        /// Since when.
        since: Time,
    },
    /// It does not happen, and asking again does not help.
    Refused(Box<Refusal>),
    /// The tenant of the service may not use the environment, which is on record, or not so much of it.
    Forbidden(String),
}

impl Desk {
    /// Asks the arbiter of `service` for `command` as `source`. `asked_at` and `key` are the same in
    /// every repetition.
    pub async fn ask(
        &self,
        run: &Run,
        service: &Service,
        source: Source,
        (key, asked_at): (RequestKey, Time),
        command: Command,
    ) -> Result<Said, Failure> {
        let request = Request { key, source, by: self.principal()?, asked_at, command };
        let (place, asker) = (&service.place, Self::asker(run, service));
        let asking = Asking {
            tenant: asker.tenant.clone(),
            principal: request.by.clone(),
            trace: asker.trace.clone(),
            saga: asker.saga.clone(),
            key: request.key.to_string(),
            what: self.worker.name(),
            input: serde_json::to_value(&request).unwrap_or(Value::Null),
        };
        let let_in = async {
            let granted = self.tenancy.grant(&asking, &place.environment).await?;
            if let Command::Scale { to, .. } = request.command {
                self.tenancy.room(&granted, place, &asker.tenant, to).await?;
            }
            Ok::<_, Failure>(())
        };
        match let_in.await {
            Ok(()) => {}
            Err(refused) if [TENANT_REFUSED, QUOTA].contains(&&*refused.error) => {
                return Ok(Said::Forbidden(refused.cause));
            }
            Err(error) => return Err(error),
        }
        let mut lost = Error::Stale { name: place.docket() };
        for _ in 0..TRIES {
            let seen = self.arbitration.open(place, &asker.tenant, service.docket.state.stage).await?;
            let decision = self.arbitration.decide(&seen, &request);
            match &decision {
                Decision::Busy { doing, sequence, by, since } => {
                    return Ok(Said::Busy { doing: *doing, sequence: *sequence, by: by.clone(), since: *since });
                }
                Decision::Refused(refusal) => return Ok(Said::Refused(Box::new(refusal.clone()))),
                Decision::Accepted { .. } | Decision::AlreadyDone { .. } => {}
            }
            match self.arbitration.write(place, &asker, &seen, &request, decision).await? {
                Written::Done(answer) => {
                    return Ok(match (answer.new, answer.sequence) {
                        (true, Some(sequence)) => Said::Accepted { sequence, state: Box::new(answer.state) },
                        (true, None) | (false, _) => Said::AlreadyDone { sequence: answer.sequence },
                    });
                }
                Written::Lost(stale) => lost = stale,
            }
        }
        Err(lost.into())
    }
}
