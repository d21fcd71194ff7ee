//! `incident.list`, `incident.show`, `incident.close`: services of which the arbiter knows that
//! nothing good could be reached, with what was asked in vain, to be replayed (R111). Closing one is saying that it may act by itself again.

use actors::runtime::arbiter::{Answered, Command, Standing};
use actors::runtime::records::deployments::Record;
use actors::runtime::records::incidents;
use actors::runtime::records::place;
use actors::runtime::store;
use protocol::command::Routed;
use protocol::runtime::{CloseIncident, IncidentRow, IncidentView, Incidents, ListServices, OfService, ServiceRow};
use protocol::{Code, Principal, Problem, SagaKey};

use super::{Answer, Docket, RuntimeDesk, is_asked_for, kept, problem, told};

/// How much of what was asked of a service is shown.
const TRAIL_MAX: usize = 10;

impl RuntimeDesk {
    pub(super) async fn list_incidents(&self, routed: &Routed, by: &Principal, asked: ListServices) -> Answer {
        let mut incidents = Vec::new();
        for environment in self.environments_of(&routed.tenant, asked.environment.as_deref()).await? {
            let dockets = self.dockets(&routed.tenant, &environment).await?;
            let id = &environment.environment_id;
            let known = dockets.iter().filter(|docket| is_asked_for(&asked, docket));
            let known = known.filter_map(|docket| Some((docket, incident_of(id.as_str(), docket)?)));
            let known: Vec<_> = known.collect();
            if known.is_empty() {
                continue;
            }
            let seen = self.observed(&routed.tenant, by, id).await.ok();
            for (docket, incident) in known {
                let row = self.service(&environment, docket, seen.as_ref()).await?;
                incidents.push(IncidentRow { now: now(&row), ..incident });
            }
        }
        incidents.sort_by_key(|incident: &IncidentRow| incident.since);
        told(&Incidents { incidents })
    }

    pub(super) async fn show_incident(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, granted, _) = self.enter(routed, by, asked).await?;
        let docket = self.seen(&place).await?;
        let incident = incident_of(place.environment.as_str(), &docket).ok_or_else(|| none(asked))?;
        let seen = self.observed(&routed.tenant, by, &place.environment).await.ok();
        let below = place::deployments(&place.environment, &place.service);
        let records = store::read_all::<Record>(&*self.store, &place.space(), &below).await.map_err(kept)?;
        let last = records.into_iter().map(|(_, record)| record).max_by_key(|record| record.deployment.at);
        let saga = last.and_then(|record| SagaKey::new(record.saga.split_once('/')?.1).ok());
        let known = incidents::last(&*self.store, &place).await.map_err(problem)?;
        let row = self.service(&granted.environment.value, &docket, seen.as_ref()).await?;
        told(&IncidentView {
            incident: IncidentRow { now: now(&row), ..incident },
            row,
            trail: docket.state.answered.iter().rev().take(TRAIL_MAX).map(line).collect(),
            saga,
            by: known.as_ref().map(|known| known.by.clone()),
            failed: known.as_ref().map(|known| known.saga.clone()),
            trace: known.as_ref().map(|known| known.trace.clone()),
            // What a guest asked, its own people may read.
            envelope: known.and_then(|known| known.envelope).filter(|_| docket.tenant == routed.tenant),
            history: None,
        })
    }

    pub(super) async fn close_incident(&self, routed: &Routed, by: &Principal, asked: CloseIncident) -> Answer {
        let CloseIncident { environment, service, unhold } = asked;
        let of = OfService { environment, service };
        let (place, granted, asker) = self.enter(routed, by, &of).await?;
        let docket = self.seen(&place).await?;
        let incident = incident_of(place.environment.as_str(), &docket).ok_or_else(|| none(&of))?;
        self.ask(routed, by, &place, &granted, &asker, Command::Resume).await?;
        if unhold {
            self.unhold(&Routed { id: format!("{}.unhold", routed.id), ..routed.clone() }, by, &of).await?;
        }
        told(&incident)
    }
}

/// What is seen of the service now, whatever made it an incident then.
fn now(row: &ServiceRow) -> Option<String> {
    if let Some(under_way) = &row.under_way {
        return Some(format!("{} since {}", under_way.doing, under_way.since));
    }
    let runs = row.sets.iter().find(|set| set.weight > 0);
    match (&row.differs, runs) {
        (Some(differs), _) => Some(differs.clone()),
        (None, Some(set)) => Some(format!("{} of {} replicas are ready", set.ready, set.wanted)),
        (None, None) if row.endpoint_url.is_some() => Some("nothing has its requests".to_owned()),
        (None, None) => None,
    }
}

fn incident_of(environment: &str, docket: &Docket) -> Option<IncidentRow> {
    let (why, since) = match &docket.state.standing {
        Standing::Incident { why, since } => (why.clone(), *since),
        Standing::Open | Standing::Paused { .. } | Standing::Drained { .. } => return None,
    };
    Some(IncidentRow {
        environment: environment.to_owned(),
        service: docket.state.service_id.to_string(),
        why,
        since,
        held: docket.state.held.iter().map(ToString::to_string).collect(),
        now: None,
    })
}

fn line(answered: &Answered) -> String {
    let ended = answered.outcome.as_ref().map(|outcome| format!(", {outcome}")).unwrap_or_default();
    format!("{} {} by {}{ended}", answered.at, answered.what, answered.by)
}

fn none(of: &OfService) -> Problem {
    let OfService { environment, service } = of;
    Problem::new(Code::NotFound, format!("{environment}/{service} is no incident"))
        .mend("`skald incident list` has those that are")
}
