//! `license.grant` and `license.release`: the tenant's policy is asked about every licence of the
//! graph, then a seat is taken for the asset. Undo gives the seat back (H10).

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use spdx::{Expression, Licensee, ParseMode};
use supervisor::activity::{Attempt, Failure, Typed};
use supervisor::ports::Clock;

use super::blocking::blocking;
use super::entitlements::{Denied, Entitlement, Entitlements, Policy};
use super::reference::Licensed;

/// The error name of a denial.
pub const LICENSE_DENIED: &str = "LicenseDenied";

/// The activity.
pub struct Grant {
    /// The tenants' accounts.
    pub accounts: Entitlements,
    /// What a tenant may use that has no entitlement at all. `None`: nothing.
    pub fallback: Option<Entitlement>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// For what.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The asset to install.
    pub asset: String,
    /// The licences that come with it.
    #[serde(default)]
    pub licenses: Vec<Licensed>,
}

/// The seat that was taken.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// The entitlement it belongs to.
    pub entitlement: String,
    /// Since when.
    pub granted_at: protocol::Time,
}

#[async_trait]
impl Typed for Grant {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "license.grant";
    const UNDO: Option<&'static str> = Some("license.release");

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let (accounts, fallback, now) = (self.accounts.clone(), self.fallback.clone(), self.clock.now());
        let (tenant, key) = (attempt.saga.tenant.clone(), attempt.key.clone());
        blocking(attempt, move |_| {
            let account = accounts.account(&tenant).map_err(unreachable)?;
            accepted(&account.policy.unwrap_or_default(), &input.licenses)?;
            let granted = accounts
                .change(&tenant, |account| account.grant(&key, &input.asset, now, fallback.as_ref()))
                .map_err(unreachable)?;
            let seat = granted.map_err(|denied| refused(tenant.as_str(), &input.asset, denied))?;
            Ok(Output { entitlement: seat.entitlement, granted_at: seat.since })
        })
        .await
    }

    async fn undo(&self, attempt: &Attempt, _: Input, _: Option<Output>) -> Result<(), Failure> {
        let (accounts, now) = (self.accounts.clone(), self.clock.now());
        let (tenant, key) = (attempt.saga.tenant.clone(), attempt.key.clone());
        blocking(attempt, move |_| accounts.change(&tenant, |account| account.release(&key, now)).map_err(unreachable))
            .await
    }
}

fn unreachable(error: std::io::Error) -> Failure {
    Failure::transient("working on the entitlements", error)
}

fn refused(tenant: &str, asset: &str, denied: Denied) -> Failure {
    let why = match denied {
        Denied::NoEntitlement => {
            format!("{tenant} has no entitlement for {asset}; acquire an entitlement and install again")
        }
        Denied::Suspended => {
            format!("the entitlement of {tenant} for {asset} is suspended; settle it or acquire another entitlement")
        }
        Denied::Expired(end) => {
            format!("the entitlement of {tenant} for {asset} expired at {end}; renew the entitlement and install again")
        }
        Denied::NoSeat(seats) => format!(
            "all {seats} seats of {tenant} for {asset} are taken; release one or acquire an entitlement with more seats"
        ),
        Denied::Released => {
            "this installation was taken back already and gets no seat again; start a new installation".to_owned()
        }
    };
    Failure::named(LICENSE_DENIED, why)
}

/// Asks `policy` about every licence.
fn accepted(policy: &Policy, licenses: &[Licensed]) -> Result<(), Failure> {
    let mut allow = Vec::new();
    for text in &policy.allow {
        let licensee = Licensee::parse(text).map_err(|error| {
            Failure::named(
                "BadPolicy",
                format!("the licence policy allows {text:?}, which is not SPDX: {}", error.reason),
            )
        })?;
        allow.push(licensee);
    }
    for Licensed { license, packages } in licenses {
        let fine = match license {
            None => policy.allow_unlicensed,
            Some(text) => match Expression::parse_mode(text, ParseMode::LAX) {
                Ok(expression) => expression.evaluate(|req| allow.iter().any(|licensee| licensee.satisfies(req))),
                Err(_) => policy.allow_unlicensed,
            },
        };
        if !fine {
            let why = format!(
                "the licence {} of {} is not accepted by the tenant's policy; have the policy extended, or acquire an \
                 entitlement to another asset",
                license.as_deref().unwrap_or("(none)"),
                packages.join(", ")
            );
            return Err(Failure::named(LICENSE_DENIED, why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_reads_spdx() {
        let policy = Policy::default();
        for (license, fine) in [
            (Some("MIT OR Apache-2.0"), true),
            (Some("MIT/Apache-2.0"), true),
            (Some("(MIT OR Apache-2.0) AND Unicode-3.0"), true),
            (Some("Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT"), true),
            (Some("GPL-3.0-only"), false),
            (Some("MIT AND GPL-3.0-only"), false),
            (Some("my own words"), false),
            (None, false),
        ] {
            let licensed = Licensed { license: license.map(str::to_owned), packages: vec!["a 1.0.0".into()] };
            let answer = accepted(&policy, &[licensed]);
            assert_eq!(answer.is_ok(), fine, "{license:?}");
            assert!(answer.is_ok() || answer.unwrap_err().error == LICENSE_DENIED);
        }
    }
}
