//! `service.drain`, `service.pause`, `service.resume` and `service.unhold`: what a person wants of a
//! service besides what runs on it.

use actors::runtime::arbiter::{Action, Command, ServiceState};
use actors::runtime::arbitration::Asker;
use actors::runtime::records::deployments::Record;
use actors::runtime::records::place::Place;
use actors::runtime::store;
use protocol::command::Routed;
use protocol::runtime::{Accepted, OfService, SteerService};
use protocol::{Principal, Problem};
use serde_json::json;

use super::{Answer, RuntimeDesk, kept, problem, told};

impl RuntimeDesk {
    pub(super) async fn drain(&self, routed: &Routed, by: &Principal, asked: SteerService) -> Answer {
        let (_, accepted) = self.steer(routed, by, asked, |why| Command::Drain { why }).await?;
        told(&accepted)
    }

    /// Nothing happens by itself any more, and a rollout that is under way stands still where it is (D111).
    pub(super) async fn pause(&self, routed: &Routed, by: &Principal, asked: SteerService) -> Answer {
        let (place, accepted) = self.steer(routed, by, asked, |why| Command::Pause { why }).await?;
        self.tell_rollout(&place, &self.seen(&place).await?.state, |record| record.suspended = true).await?;
        told(&accepted)
    }

    async fn steer(
        &self,
        routed: &Routed,
        by: &Principal,
        asked: SteerService,
        command: impl FnOnce(String) -> Command + Send,
    ) -> Result<(Place, Accepted), Problem> {
        let SteerService { environment, service, why } = asked;
        let (place, granted, asker) = self.enter(routed, by, &OfService { environment, service }).await?;
        // The environment's owner may end what a tenant left there that is not bound any more.
        let asker = Asker { tenant: self.seen(&place).await?.tenant, ..asker };
        let why = why.unwrap_or_else(|| format!("by {by}"));
        let accepted = self.ask(routed, by, &place, &granted, &asker, command(why)).await?;
        Ok((place, accepted))
    }

    /// New replicas of the same come, answer their probes, take the traffic, and the others go.
    pub(super) async fn restart(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, granted, asker) = self.enter(routed, by, asked).await?;
        self.seen(&place).await?;
        told(&self.ask(routed, by, &place, &granted, &asker, Command::Restart).await?)
    }

    pub(super) async fn resume(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, granted, asker) = self.enter(routed, by, asked).await?;
        let docket = self.seen(&place).await?;
        let state = docket.state;
        if let Some(Action::Scaling { to, .. }) = state.comes_back() {
            self.tenancy.room(&granted, &place, &docket.tenant, to).await.map_err(problem)?;
        }
        // The arbiter first: what it refuses, no rollout hears.
        let accepted = self.ask(routed, by, &place, &granted, &asker, Command::Resume).await?;
        self.tell_rollout(&place, &state, |record| {
            record.resumes += 1;
            record.suspended = false;
        })
        .await?;
        told(&accepted)
    }

    /// Tells the rollout that is under way, if one is.
    async fn tell_rollout(
        &self,
        place: &Place,
        state: &ServiceState,
        word: impl Fn(&mut Record) + Send + Sync,
    ) -> Result<(), Problem> {
        let coming = state.under_way.as_ref().and_then(|under_way| under_way.action.coming());
        let Some(coming) = coming else { return Ok(()) };
        let name = place.deployment(&coming.deployment_id);
        store::change(&*self.store, &place.space(), &name, |record: Option<&Record>| {
            let mut next = record?.clone();
            word(&mut next);
            (record != Some(&next)).then_some(next)
        })
        .await
        .map_err(kept)?;
        Ok(())
    }

    pub(super) async fn unhold(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, granted, asker) = self.enter(routed, by, asked).await?;
        let held = self.seen(&place).await?.state.held;
        for (number, hold) in held.iter().enumerate() {
            let routed = Routed { id: format!("{}.{number}", routed.id), ..routed.clone() };
            let command = Command::ClearHold { held: hold.what.clone() };
            self.ask(&routed, by, &place, &granted, &asker, command).await?;
        }
        told(&json!({ "environment": place.environment, "service": place.service, "released": held.len() }))
    }
}
