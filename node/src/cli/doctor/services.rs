//! Whether services are what was asked of them.

use protocol::runtime::{ListServices, ServiceRow, Standing};

use crate::client::Client;

use super::Finding;

pub(super) async fn services(client: &Client, found: &mut impl FnMut(Finding)) {
    let listed = match client.services(&ListServices::default()).await {
        Ok(listed) => listed,
        Err(error) => {
            return found(Finding::warn("services", error.to_string(), error.mend().unwrap_or_default()));
        }
    };
    for missing in &listed.missing {
        found(Finding::warn("services", missing.clone(), "see the nodes above: one of them keeps the processes"));
    }
    let findings: Vec<Finding> = listed.services.iter().filter_map(of).collect();
    if findings.is_empty() && listed.missing.is_empty() {
        found(Finding::ok("services", format!("{} as asked", listed.services.len())));
    }
    findings.into_iter().for_each(found);
}

/// What is to be said of a service; `None`: it is as asked, or on its way there.
fn of(row: &ServiceRow) -> Option<Finding> {
    let name = format!("{}/{}", row.environment, row.service);
    let at = format!("{} --environment {}", row.service, row.environment);
    if row.standing == Standing::Incident {
        return Some(Finding::fail(
            "services",
            format!("{name}: {}", row.stands()),
            format!("skald incident show {at}"),
        ));
    }
    if let Some(waits) = row.under_way.as_ref().and_then(|under_way| under_way.waits_for.as_ref()) {
        return Some(Finding::warn(
            "services",
            format!("{name} waits: {waits}"),
            format!("skald services resume {at}"),
        ));
    }
    if let Some(late) = row.under_way.as_ref().filter(|under_way| under_way.late) {
        let doing = &late.doing;
        let found = format!("{name}: {doing} since {}, which is longer than it should take", late.since);
        let mend = match &late.saga {
            Some(saga) => format!("skald show {saga}"),
            None => format!("skald workers --environment {} shows what its last run said", row.environment),
        };
        return Some(Finding::fail("services", found, mend));
    }
    let differs = row.differs.as_ref()?;
    let mend = format!(
        "skald workers health --environment {} shows its probes; the same deployment again brings it",
        row.environment
    );
    Some(Finding::fail("services", format!("{name}: {differs}"), mend))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_service_that_is_not_as_asked_fails() {
        let row = |more: serde_json::Value| {
            let mut row = serde_json::json!({ "environment": "dev", "service": "web", "standing": "open" });
            row.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value::<ServiceRow>(row).unwrap()
        };
        assert_eq!(of(&row(serde_json::json!({}))), None);
        let fewer = of(&row(serde_json::json!({ "differs": "1 of 2 replicas are ready" }))).unwrap();
        assert_eq!((fewer.verdict, fewer.found.as_str()), (Verdict::Fail, "dev/web: 1 of 2 replicas are ready"));
        let late = serde_json::json!({ "doing": "Deploying", "by": "ann", "since": "2026-01-01T00:00:00Z", "late": true,
            "saga": "deploy-web" });
        let late = of(&row(serde_json::json!({ "underWay": late }))).unwrap();
        assert_eq!((late.verdict, late.mend.as_deref()), (Verdict::Fail, Some("skald show deploy-web")));
        let broken = of(&row(serde_json::json!({ "standing": "incident", "why": "it was bad" }))).unwrap();
        assert!(broken.verdict == Verdict::Fail && broken.mend.unwrap().contains("incident show web"));
    }
}
