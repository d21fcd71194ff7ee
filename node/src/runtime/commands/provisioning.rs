//! `environment.provision`: what would change of an environment's resources, and exactly that
//! change. Nobody applies what was not shown (F32).

use actors::runtime::model::{Environment, Status};
use actors::runtime::ports::provisioning::{Change, Plan, PreviewId, Quota, Wanted};
use actors::runtime::records::place;
use actors::runtime::store;
use protocol::command::Routed;
use protocol::runtime::{ChangeRow, ProvisionEnvironment, Provisioned};
use protocol::{Code, Principal, Problem};
use serde_json::json;

use super::{Answer, RuntimeDesk, Space, kept, problem, told};

/// Replicas of an environment that nobody said a number for: a machine's worth of small processes.
const REPLICAS: u32 = 100;

impl RuntimeDesk {
    pub(super) async fn provision(&self, routed: &Routed, by: &Principal, asked: ProvisionEnvironment) -> Answer {
        let (id, granted, asker) = self.enter_environment(routed, by, &asked.environment).await?;
        let known = granted.environment.value;
        if asked.absent {
            self.nothing_runs(routed, &known).await?;
        }
        let provisioner = &self.provisioner;
        let before = provisioner.state(&id).await.map_err(problem)?.map(|there| there.quota);
        let quota = Quota {
            replicas: asked.replicas.or(before.map(|quota| quota.replicas)).unwrap_or(REPLICAS),
            memory_bytes: asked.memory_bytes.or(before.and_then(|quota| quota.memory_bytes)),
            cpu_millis: asked.cpu_millis.or(before.and_then(|quota| quota.cpu_millis)),
        };
        let wanted = if asked.absent { Wanted::Absent } else { Wanted::Present { quota } };
        let plan = Plan::of(&known, wanted);
        let Some(named) = asked.preview else {
            let preview = provisioner.preview(&plan).await.map_err(problem)?;
            return told(&Provisioned {
                environment: id.to_string(),
                preview: preview.id.as_str().to_owned(),
                changes: preview.changes.into_iter().map(row).collect(),
                applied: false,
                outputs: Default::default(),
            });
        };
        let shown = provisioner.preview(&plan).await.map_err(problem)?;
        let preview = PreviewId::new(named.clone());
        let outputs = provisioner.apply(&plan, &preview).await.map_err(problem)?;
        let status = if asked.absent { Status::Decommissioned } else { Status::Provisioned };
        let max_replicas = (!asked.absent).then_some(quota.replicas);
        let (space, name) = (Space::Of(granted.owner), place::environment(&id));
        store::change(&*self.store, &space, &name, |there: Option<&Environment>| {
            let there = there?;
            let next = Environment { status, max_replicas, ..there.clone() };
            (*there != next).then_some(next)
        })
        .await
        .map_err(kept)?;
        let payload = json!({
            "environmentId": id, "preview": preview, "present": !asked.absent, "outputs": outputs, "by": by,
        });
        self.tell(&asker, "RuntimeEnvironmentProvisioned", &[id.as_str(), preview.as_str()], payload).await?;
        let changes = if shown.id == preview { shown.changes } else { Vec::new() };
        told(&Provisioned {
            environment: id.to_string(),
            preview: named,
            changes: changes.into_iter().map(row).collect(),
            applied: true,
            outputs,
        })
    }

    /// Nobody takes away what services stand on.
    async fn nothing_runs(&self, routed: &Routed, environment: &Environment) -> Result<(), Problem> {
        let dockets = self.dockets(&routed.tenant, environment).await?;
        let running: Vec<_> = dockets
            .iter()
            .filter(|docket| docket.state.current.is_some() || docket.state.under_way.is_some())
            .map(|docket| docket.state.service_id.to_string())
            .collect();
        if running.is_empty() {
            return Ok(());
        }
        let why = format!("{} still has services: {}", environment.environment_id, running.join(", "));
        Err(Problem::new(Code::Conflict, why).mend("end them first"))
    }
}

fn row(change: Change) -> ChangeRow {
    ChangeRow { resource: change.resource, from: change.from, to: change.to }
}
