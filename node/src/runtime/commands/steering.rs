//! `service.drain`, `service.pause`, `service.resume` and `service.unhold`: what a person wants of a
//! service besides what runs on it.

use actors::runtime::arbiter::shell::Asker;
use actors::runtime::arbiter::{Action, Command};
use actors::runtime::deployment::record::Record;
use actors::runtime::store;
use protocol::Principal;
use protocol::command::Routed;
use protocol::runtime::{OfService, SteerService};
use serde_json::json;

use super::{Answer, RuntimeDesk, kept, problem, told};

impl RuntimeDesk {
    pub(super) async fn drain(&self, routed: &Routed, by: &Principal, asked: SteerService) -> Answer {
        self.steer(routed, by, asked, |why| Command::Drain { why }).await
    }

    pub(super) async fn pause(&self, routed: &Routed, by: &Principal, asked: SteerService) -> Answer {
        self.steer(routed, by, asked, |why| Command::Pause { why }).await
    }

    async fn steer(
        &self,
        routed: &Routed,
        by: &Principal,
        asked: SteerService,
        command: impl FnOnce(String) -> Command + Send,
    ) -> Answer {
        let SteerService { environment, service, why } = asked;
        let (place, granted, asker) = self.enter(routed, by, &OfService { environment, service }).await?;
        // The environment's owner may end what a tenant left there that is not bound any more.
        let asker = Asker { tenant: self.seen(&place).await?.tenant, ..asker };
        let why = why.unwrap_or_else(|| format!("{by} wants it so"));
        self.ask(routed, by, &place, &granted, &asker, command(why)).await?;
        told(&json!({ "environment": place.environment, "service": place.service }))
    }

    pub(super) async fn resume(&self, routed: &Routed, by: &Principal, asked: &OfService) -> Answer {
        let (place, granted, asker) = self.enter(routed, by, asked).await?;
        let docket = self.seen(&place).await?;
        let state = docket.state;
        if let Some(Action::Scaling { to, .. }) = state.comes_back() {
            self.tenancy.room(&granted, &place, &docket.tenant, to).await.map_err(problem)?;
        }
        let coming = match state.under_way.map(|under_way| under_way.action) {
            Some(Action::Deploying { to, .. } | Action::Remediating { to, .. } | Action::Restoring { to, .. }) => {
                Some(to)
            }
            Some(
                Action::Stopping { .. }
                | Action::Scaling { .. }
                | Action::Configuring { .. }
                | Action::Refreshing { .. }
                | Action::Draining { .. },
            )
            | None => None,
        };
        // The arbiter first: what it refuses, no rollout hears.
        self.ask(routed, by, &place, &granted, &asker, Command::Resume).await?;
        if let Some(to) = coming {
            let name = place.deployment(&to.deployment_id);
            store::change(&*self.store, &place.space(), &name, |record: Option<&Record>| {
                let mut record = record?.clone();
                record.resumes += 1;
                Some(record)
            })
            .await
            .map_err(kept)?;
        }
        told(&json!({ "environment": place.environment, "service": place.service, "resumed": true }))
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
