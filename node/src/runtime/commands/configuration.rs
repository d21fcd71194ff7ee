//! `configuration.publish`, `configuration.show`, `configuration.list`: versions of a service's
//! configuration. What is published reaches the service by `ConfigurationSyncWorker`; the event says
//! which version, never its values.

use actors::runtime::model::RuntimeConfiguration;
use actors::runtime::records::configurations;
use protocol::command::Routed;
use protocol::runtime::{
    ConfigurationRow, Configurations, OfService, PublishConfiguration, PublishedConfiguration, ShowConfiguration,
    ShownConfiguration,
};
use protocol::{Code, Principal, Problem};
use serde_json::json;

use super::{Answer, RuntimeDesk, kept, problem, told};

impl RuntimeDesk {
    pub(super) async fn publish_configuration(
        &self,
        routed: &Routed,
        by: &Principal,
        asked: PublishConfiguration,
    ) -> Answer {
        let PublishConfiguration { environment, service, entries } = asked;
        let (place, _, asker) = self.enter(routed, by, &OfService { environment, service }).await?;
        let publish = configurations::publish(&*self.store, &place, &entries);
        let published = self.writing(routed, &place, publish).await?;
        let known = configurations::newest(&*self.store, &place).await.map_err(problem)?;
        let (version, digest) = (published.at.version, published.digest.to_string());
        let new = known.is_none_or(|known| known.newest.version < version);
        if new {
            // Told before it is remembered as told: a crash between the two tells it again, as the
            // same event.
            let payload = json!({
                "environmentId": place.environment, "serviceId": place.service,
                "configurationId": published.at.configuration_id, "version": version, "digest": digest,
                "by": by,
            });
            let number = version.to_string();
            let about = [place.environment.as_str(), place.service.as_str(), &number];
            self.tell(&asker, "ConfigurationPublished", &about, payload).await?;
            let now = self.clock.now();
            configurations::remember(&*self.store, &place, &published, now).await.map_err(problem)?;
        }
        let (environment, service) = (place.environment.to_string(), place.service.to_string());
        told(&PublishedConfiguration { environment, service, version, digest, new })
    }

    pub(super) async fn list_configurations(
        &self,
        routed: &Routed,
        by: &Principal,
        asked: ShowConfiguration,
    ) -> Answer {
        let ShowConfiguration { environment, service, version: _ } = asked;
        let (place, _, _) = self.enter(routed, by, &OfService { environment, service }).await?;
        let seen = self.arbitration.look(&place).await.map_err(kept)?;
        let runs = seen.and_then(|seen| seen.value.state.current).and_then(|current| current.configuration);
        let published = configurations::newest(&*self.store, &place).await.map_err(problem)?;
        let row = |known: RuntimeConfiguration| ConfigurationRow {
            version: known.at.version,
            digest: known.digest().to_string(),
            entries: known.entries.len(),
            published: published.as_ref().is_some_and(|sync| sync.newest == known.at),
            runs: runs.as_ref() == Some(&known.at),
        };
        let versions = configurations::versions(&*self.store, &place).await.map_err(problem)?;
        told(&Configurations { versions: versions.into_iter().map(row).collect() })
    }

    pub(super) async fn show_configuration(&self, routed: &Routed, by: &Principal, asked: ShowConfiguration) -> Answer {
        let ShowConfiguration { environment, service, version } = asked;
        let (place, _, _) = self.enter(routed, by, &OfService { environment, service }).await?;
        let mut versions = configurations::versions(&*self.store, &place).await.map_err(problem)?;
        versions.retain(|known| version.is_none_or(|version| known.at.version == version));
        let Some(found) = versions.pop() else {
            let which =
                version.map_or_else(|| "no configuration".to_owned(), |version| format!("no version {version}"));
            let mend = format!("`skald config list {} --environment {}` has them", place.service, place.environment);
            return Err(Problem::new(Code::NotFound, format!("there is {which} of {place}")).mend(mend));
        };
        let digest = found.digest().to_string();
        told(&ShownConfiguration { version: found.at.version, digest, entries: found.entries })
    }
}
