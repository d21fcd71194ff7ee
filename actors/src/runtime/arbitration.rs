//! The shell around the arbiter: loads what it remembers, lets it decide, makes that durable by
//! compare-and-set, and then does what follows.
//!
//! Whoever asks, and wherever it runs, every action on a service passes through one value of the
//! store (F55): of two who decide on the same state one writes, and the other decides anew. What is
//! to be told is written together with the decision and taken out once it was told, so that a crash
//! between the two tells it again under the same id and never not at all.
//!
//! `Start` and `Abort` are told as events and answered to the asker: whoever asks for a start is the
//! one who carries it out, and looks at [`UnderWay::stopping`](crate::runtime::arbiter::UnderWay) on the way.

use std::sync::Arc;

use protocol::{Envelope, Tenant, TraceId};
use serde_json::{Value, json};
use supervisor::activity::{Attempt, Failure};
use supervisor::ports::{Clock, Outbox};

use crate::runtime::arbiter::{Act, Decision, Refusal, Request, ServiceState, decide};
use crate::runtime::model::Stage;
use crate::runtime::records::docket::{Docket, Due};
use crate::runtime::records::events::event_id;
use crate::runtime::records::incidents::{self, Incident};
use crate::runtime::records::ownership::{self, Owned};
use crate::runtime::records::place::Place;
use crate::runtime::store::{self, Error, Read, RuntimeStore, TRIES};

/// The error name of a refusal for something that is held (H01).
pub const HELD: &str = "Held";
/// The error name of a refusal because something else is under way.
pub const BUSY: &str = "Busy";
/// The error name of every other refusal.
pub const REFUSED: &str = "Refused";

/// Who asks, for the trail of what follows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Asker {
    /// Whose service it is.
    pub tenant: Tenant,
    /// The trace.
    pub trace: TraceId,
    /// The saga, or what else asks.
    pub saga: String,
}

impl Asker {
    /// The saga of an attempt.
    pub fn of(attempt: &Attempt) -> Self {
        let (tenant, trace) = (attempt.saga.tenant.clone(), attempt.trace.clone());
        Self { tenant, trace, saga: attempt.saga.to_string() }
    }
}

/// What came of a request that was not refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The number of what was accepted, now or before; `None`: it is so anyway.
    pub sequence: Option<u64>,
    /// Whether this very request changed something.
    pub new: bool,
    /// What is known now.
    pub state: ServiceState,
}

/// What a decision came to when it was to be written.
pub enum Written {
    /// It stands.
    Done(Box<Answer>),
    /// Somebody else was faster; look again.
    Lost(Error),
}

/// The arbiters of all services, on one store.
#[derive(Clone)]
pub struct Arbitration {
    store: Arc<dyn RuntimeStore>,
    outbox: Arc<dyn Outbox>,
    clock: Arc<dyn Clock>,
}

impl Arbitration {
    /// Arbiters that remember in `store` and tell through `outbox`.
    pub fn new(store: Arc<dyn RuntimeStore>, outbox: Arc<dyn Outbox>, clock: Arc<dyn Clock>) -> Self {
        Self { store, outbox, clock }
    }

    /// What is remembered of a service. `None`: nobody asked anything about it yet.
    pub async fn look(&self, place: &Place) -> Result<Option<Read<Docket>>, Error> {
        store::read(&*self.store, &place.space(), &place.docket()).await
    }

    /// The same, or the beginning of a service of `tenant`. Refused where the service is another
    /// tenant's.
    pub async fn open(&self, place: &Place, tenant: &Tenant, stage: Stage) -> Result<Read<Docket>, Failure> {
        match self.look(place).await? {
            Some(seen) if seen.value.tenant != *tenant => Err(ownership::taken(place, tenant)),
            Some(seen) => Ok(seen),
            None if ownership::whose(&*self.store, place, tenant).await? == Owned::Theirs => {
                Err(ownership::taken(place, tenant))
            }
            None => {
                let state = ServiceState::new(place.service.clone(), stage);
                let value = Docket { tenant: tenant.clone(), state, acts: 0, due: Vec::new() };
                Ok(Read { value, revision: 0 })
            }
        }
    }

    /// Asks, and asks again when somebody else was faster.
    pub async fn ask(&self, place: &Place, asker: &Asker, stage: Stage, request: &Request) -> Result<Answer, Failure> {
        let mut lost = Error::Stale { name: place.docket() };
        for _ in 0..TRIES {
            let seen = self.open(place, &asker.tenant, stage).await?;
            let decision = self.decide(&seen, request);
            match self.write(place, asker, &seen, request, decision).await? {
                Written::Done(answer) => return Ok(*answer),
                Written::Lost(stale) => lost = stale,
            }
        }
        Err(lost.into())
    }

    /// What the arbiter says to `request` on what was seen. Nothing has happened.
    pub fn decide(&self, seen: &Read<Docket>, request: &Request) -> Decision {
        decide(&seen.value.state, request, self.clock.now())
    }

    /// Makes a decision durable over what it was made on, and tells what follows.
    pub async fn write(
        &self,
        place: &Place,
        asker: &Asker,
        seen: &Read<Docket>,
        request: &Request,
        decision: Decision,
    ) -> Result<Written, Failure> {
        // What was decided before is told first, by whoever comes next.
        if !seen.value.due.is_empty() {
            self.tell(place).await?;
            return Ok(Written::Lost(Error::Stale { name: place.docket() }));
        }
        let (state, acts) = match decision {
            Decision::Accepted { state, acts } => (*state, acts),
            Decision::AlreadyDone { sequence } => {
                let state = seen.value.state.clone();
                return Ok(Written::Done(Box::new(Answer { sequence, new: false, state })));
            }
            Decision::Busy { doing, sequence, by, since } => {
                let why = format!(
                    "{place}: {doing} (number {sequence}) is under way since {since}, asked by {by}; ask again when it \
                     has ended (`skald services` says what it waits for, and which saga `skald cancel` would end)"
                );
                return Err(Failure::named(BUSY, why));
            }
            Decision::Refused(refusal) => return Err(refused(place, &refusal)),
        };
        let due = |(number, act): (u64, Act)| Due {
            number: seen.value.acts + number,
            act,
            by: request.by.clone(),
            trace: asker.trace.clone(),
            saga: asker.saga.clone(),
        };
        let due: Vec<Due> = (1..).zip(acts).map(due).collect();
        // Whose it is, is settled before anything of it is there.
        let tenant = &seen.value.tenant;
        let docket = Docket { tenant: tenant.clone(), acts: seen.value.acts + due.len() as u64, due, state };
        let (space, name) = (place.space(), place.docket());
        let write = store::write(&*self.store, &space, &name, &docket, seen.revision);
        let written = match seen.revision {
            0 => ownership::writing(&*self.store, &*self.clock, place, tenant, write).await?,
            _ => write.await,
        };
        match written {
            Ok(_) => {}
            Err(stale @ Error::Stale { .. }) => return Ok(Written::Lost(stale)),
            Err(error) => return Err(error.into()),
        }
        if !docket.due.is_empty() {
            self.tell(place).await?;
        }
        let sequence = docket.state.under_way.as_ref().map_or(docket.state.sequence, |under_way| under_way.sequence);
        Ok(Written::Done(Box::new(Answer { sequence: Some(sequence), new: true, state: docket.state })))
    }

    /// Tells what is due, and takes it off the list.
    pub async fn tell(&self, place: &Place) -> Result<(), Failure> {
        let Some(seen) = self.look(place).await? else { return Ok(()) };
        for due in &seen.value.due {
            let incident = match &due.act {
                Act::RaiseIncident { why } => {
                    let (docket, now) = (&seen.value, self.clock.now());
                    Some(incidents::raised(&*self.store, place, docket, (due, why), now).await?)
                }
                Act::Start { .. }
                | Act::Abort { .. }
                | Act::SayHeld { .. }
                | Act::SayReleased { .. }
                | Act::CloseIncident { .. } => None,
            };
            let event = self.event(place, &seen.value, due, incident.as_ref())?;
            let told = self.outbox.publish(&event).await;
            told.map_err(|error| Failure::transient("telling what an arbiter decided", error))?;
        }
        let told: Vec<u64> = seen.value.due.iter().map(|due| due.number).collect();
        store::change(&*self.store, &place.space(), &place.docket(), |docket: Option<&Docket>| {
            let mut docket = docket?.clone();
            let before = docket.due.len();
            docket.due.retain(|due| !told.contains(&due.number));
            (docket.due.len() < before).then_some(docket)
        })
        .await?;
        Ok(())
    }

    fn event(
        &self,
        place: &Place,
        docket: &Docket,
        due: &Due,
        incident: Option<&Incident>,
    ) -> Result<Envelope, Failure> {
        let (event_type, about) = match &due.act {
            Act::Start { sequence, action } => {
                ("RuntimeActionStarted", json!({ "sequence": sequence, "action": action }))
            }
            Act::Abort { sequence, why } => ("RuntimeActionStopped", json!({ "sequence": sequence, "why": why })),
            Act::SayHeld { hold } => ("RuntimeReleaseHeld", json!({ "hold": hold })),
            Act::SayReleased { held } => ("RuntimeReleaseUnheld", json!({ "held": held })),
            Act::CloseIncident { why, since } => ("RuntimeIncidentClosed", json!({ "why": why, "since": since })),
            // Whoever opens the incident needs all of it (R110, R111).
            Act::RaiseIncident { why } => {
                let envelope = incident.and_then(|incident| incident.envelope.as_ref());
                let about = json!({
                    "why": why, "service": docket.state, "trace": incident.map_or(&due.trace, |known| &known.trace),
                    "saga": due.saga, "envelope": envelope,
                });
                ("RuntimeIncidentRaised", about)
            }
        };
        let mut payload = json!({
            "environmentId": place.environment, "serviceId": place.service, "by": due.by,
        });
        if let (Value::Object(payload), Value::Object(about)) = (&mut payload, about) {
            payload.extend(about);
        }
        let parts = [place.owner.as_str(), place.environment.as_str(), place.service.as_str()];
        let event_id = event_id("arbiter", &parts, due.number)?;
        Ok(Envelope {
            event_id,
            event_type: event_type.to_owned(),
            tenant_id: docket.tenant.clone(),
            project_id: None,
            module_id: None,
            trace_id: due.trace.clone(),
            correlation_id: due.saga.clone(),
            causation_id: due.saga.clone(),
            // It wakes nobody.
            causes: 0,
            sequence: 0,
            occurred_at: self.clock.now(),
            payload,
        })
    }
}

/// A refusal as a failure that is not retried: what, why, and what to do.
pub fn refused(place: &Place, refusal: &Refusal) -> Failure {
    let name = match refusal {
        Refusal::Held(_) => HELD,
        Refusal::Paused { .. }
        | Refusal::Drained { .. }
        | Refusal::Incident { .. }
        | Refusal::NotYours { .. }
        | Refusal::Owned(_)
        | Refusal::NotGoverned
        | Refusal::OutOfRange { .. }
        | Refusal::NotApproved
        | Refusal::NotDesired { .. }
        | Refusal::Older { .. }
        | Refusal::NotBound
        | Refusal::NothingRuns
        | Refusal::NotUnderWay
        | Refusal::NotRunning
        | Refusal::NotHeld
        | Refusal::TooOld { .. }
        | Refusal::TooYoung
        | Refusal::Faulty(_) => REFUSED,
    };
    Failure::named(name, explained(place, refusal))
}

/// A refusal for a person: of which service, why, and what to do.
pub fn explained(place: &Place, refusal: &Refusal) -> String {
    let whole = format!("`skald services unhold {} --environment {}`", place.service, place.environment);
    format!("{place}: {refusal}; {}", refusal.mend().replace("`skald services unhold`", &whole))
}
