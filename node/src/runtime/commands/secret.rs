//! `secret.put`, `secret.bind`, `secret.unbind`, `secret.remove`, `secret.rotate`, `secret.list`. A value goes from the
//! command's body into the store of secrets and nowhere else: not into an answer, an event, a log or a fault.

use std::collections::BTreeMap;
use std::time::Duration;

use actors::runtime::arbitration::Asker;
use actors::runtime::model::rotation::{Phase, Rotation};
use actors::runtime::model::secret::variable;
use actors::runtime::model::{EnvironmentId, RequestKey, SecretBinding, SecretBindingId, ServiceId};
use actors::runtime::ports::secrets::Secret;
use actors::runtime::records::ownership::{self, Rule};
use actors::runtime::records::place::Place;
use actors::runtime::records::secrets::{self, Put, Secrets};
use protocol::command::Routed;
use protocol::runtime::{BindSecret, ListSecrets, OfSecret, PutSecret, SecretRow, SecretValue, UnbindSecret};
use protocol::{Code, Principal, Problem, Value};
use serde_json::json;

use super::{Answer, Docket, RuntimeDesk, faulty, problem, told};

impl RuntimeDesk {
    pub(super) async fn put_secret(&self, routed: &Routed, by: &Principal, body: Value) -> Answer {
        // What the parser says may show what it found.
        let Ok(PutSecret { environment, secret, value, id }) = serde_json::from_value(body) else {
            let why = "a secret needs an environment, a name and a value, and all of them are text";
            return Err(Problem::new(Code::BadRequest, why).mend("`skald secret put` writes it as it should be"));
        };
        let SecretValue(value) = value;
        let binding = SecretBindingId::new(secret).map_err(faulty)?;
        let (environment, _, asker) = self.enter_environment(routed, by, &environment).await?;
        let secrets = self.secrets(&asker, &environment);
        let token = RequestKey::new(format!("put:{}", id.as_ref().unwrap_or(&routed.id))).map_err(faulty)?;
        let put = secrets.put(&binding, &token, Secret::new(value), by, self.clock.now()).await.map_err(problem)?;
        let (version, current) = match put {
            Put::Current(version) => (version, true),
            Put::Pending(version) => {
                self.tell_requested(&asker, by, &environment, &binding, version).await?;
                (version, false)
            }
        };
        told(&json!({ "environment": environment, "secret": binding, "version": version, "current": current }))
    }

    pub(super) async fn bind_secret(&self, routed: &Routed, by: &Principal, asked: BindSecret) -> Answer {
        let BindSecret { environment, secret, service, rotate_every_ms } = asked;
        let binding = SecretBindingId::new(secret).map_err(faulty)?;
        let service = service.map(ServiceId::new).transpose().map_err(faulty)?;
        let (environment, granted, asker) = self.enter_environment(routed, by, &environment).await?;
        let secrets = self.secrets(&asker, &environment);
        let every = rotate_every_ms.map(|ms| (ms > 0).then(|| Duration::from_millis(ms)));
        let bind = secrets.bind(&binding, service.as_ref(), every);
        let bound = match service.clone() {
            Some(service) => {
                secrets.current(&binding).await.map_err(problem)?;
                // A value reaches what goes by the name, so the name must be the same tenant's.
                let place = Place { owner: granted.owner, environment: environment.clone(), service };
                self.admit_to(routed, Rule::Take, &place).await?;
                self.writing(routed, &place, bind).await?
            }
            None => bind.await.map_err(problem)?,
        };
        told(&row(&bound, &[], None))
    }

    pub(super) async fn unbind_secret(&self, routed: &Routed, by: &Principal, asked: UnbindSecret) -> Answer {
        let binding = SecretBindingId::new(asked.secret).map_err(faulty)?;
        let service = ServiceId::new(asked.service).map_err(faulty)?;
        let (environment, granted, asker) = self.enter_environment(routed, by, &asked.environment).await?;
        let secrets = self.secrets(&asker, &environment);
        let (stands, _) = secrets.unbind(&binding, &service).await.map_err(problem)?;
        let place = Place { owner: granted.owner, environment, service };
        ownership::give_back(&*self.store, &place, &routed.tenant, self.clock.now()).await.map_err(problem)?;
        told(&row(&stands, &[], None))
    }

    pub(super) async fn remove_secret(&self, routed: &Routed, by: &Principal, asked: OfSecret) -> Answer {
        let binding = SecretBindingId::new(asked.secret).map_err(faulty)?;
        let (environment, _, asker) = self.enter_environment(routed, by, &asked.environment).await?;
        self.secrets(&asker, &environment).remove(&binding).await.map_err(problem)?;
        let payload = json!({ "environmentId": environment, "secretBindingId": binding, "by": by });
        self.tell(&asker, "SecretRemoved", &[environment.as_str(), binding.as_str(), &routed.id], payload).await?;
        told(&json!({ "environment": environment, "secret": binding, "removed": true }))
    }

    pub(super) async fn rotate_secret(&self, routed: &Routed, by: &Principal, asked: OfSecret) -> Answer {
        let binding = SecretBindingId::new(asked.secret).map_err(faulty)?;
        let (environment, _, asker) = self.enter_environment(routed, by, &asked.environment).await?;
        let secrets = self.secrets(&asker, &environment);
        let new = secrets.request(&binding, by, self.clock.now()).await.map_err(problem)?;
        let version = secrets.current(&binding).await.map_err(problem)?;
        if new {
            self.tell_requested(&asker, by, &environment, &binding, version + 1).await?;
        }
        told(&json!({ "environment": environment, "secret": binding, "version": version, "requested": new }))
    }

    pub(super) async fn list_secrets(&self, routed: &Routed, by: &Principal, asked: ListSecrets) -> Answer {
        let (environment, granted, asker) = self.enter_environment(routed, by, &asked.environment).await?;
        let dockets = self.dockets(&routed.tenant, &granted.environment.value).await?;
        let mut rows = Vec::new();
        let all = secrets::bindings(&*self.store, &asker.tenant, &environment).await.map_err(problem)?;
        for binding in all.values() {
            let at = actors::runtime::records::place::rotation(&environment, &binding.secret_binding_id);
            let space = super::Space::Of(asker.tenant.clone());
            let rotation = super::store::read::<Rotation>(&*self.store, &space, &at).await.map_err(super::kept)?;
            rows.push(row(binding, &dockets, rotation.map(|read| read.value).as_ref()));
        }
        told(&protocol::runtime::Secrets { secrets: rows })
    }

    fn secrets(&self, asker: &Asker, environment: &EnvironmentId) -> Secrets {
        Secrets::new(self.store.clone(), self.secrets.clone(), asker.tenant.clone(), environment.clone())
    }

    /// A hint to the worker: the wish itself stands in the binding.
    async fn tell_requested(
        &self,
        asker: &Asker,
        by: &Principal,
        environment: &EnvironmentId,
        binding: &SecretBindingId,
        version: u64,
    ) -> Result<(), Problem> {
        let payload = json!({ "environmentId": environment, "secretBindingId": binding, "by": by });
        let number = version.to_string();
        let about = [environment.as_str(), binding.as_str(), &number, &asker.saga];
        self.tell(asker, "SecretRotationRequested", &about, payload).await
    }
}

fn row(binding: &SecretBinding, dockets: &[Docket], rotation: Option<&Rotation>) -> SecretRow {
    let id = &binding.secret_binding_id;
    let runs = |service: &ServiceId| {
        let docket = dockets.iter().find(|docket| docket.state.service_id == *service);
        docket.and_then(|docket| docket.state.current.as_ref()?.secrets.get(id).copied()).unwrap_or(0)
    };
    let requested = || binding.requested.as_ref().map(|_| "requested".to_owned());
    SecretRow {
        environment: binding.environment_id.to_string(),
        secret: id.to_string(),
        variable: variable(id),
        version: binding.version,
        rotated_at: binding.rotated_at,
        rotate_every_ms: binding.rotation_period.and_then(|period| u64::try_from(period.as_millis()).ok()),
        bound: binding.bound.iter().map(|service| (service.to_string(), runs(service))).collect::<BTreeMap<_, _>>(),
        rotation: rotation.filter(|rotation| rotation.goes_on()).map(far).or_else(requested),
    }
}

/// How far a rotation is, in words.
fn far(rotation: &Rotation) -> String {
    match &rotation.phase {
        Phase::Doing { step, failed: 0 } => format!("{step:?} of version {}", rotation.to),
        Phase::Doing { step, failed } => format!("{step:?} of version {}, failed {failed} times", rotation.to),
        Phase::Confirming { .. } => {
            format!(
                "version {} is current, {} services still run on the old one",
                rotation.to,
                rotation.waiting().len()
            )
        }
        Phase::Done => format!("version {} is current", rotation.to),
        Phase::Kept { why } => why.clone(),
    }
}
