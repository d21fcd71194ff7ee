//! `compatibility.evaluate`: whether an asset suits a target at all, before anything is resolved
//! (M067–M069): its compiler, what the project requires, and what is installed there already.

use async_trait::async_trait;
use semver::Version;
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::apply::unusable;
use super::blocking::blocking;
use super::catalog::Catalog;
use super::manifest::check_name;
use super::project::Project;
use super::reference::Finding;
use super::resolution::{Input, requirement};
use super::solver::Compatible;
use super::targets::{Allowed, Targets};
use super::toolchain;

/// The activity. Its input is that of `dependencies.resolve`.
pub struct Evaluate {
    /// Where the asset comes from.
    pub catalog: Catalog,
    /// Where targets may be.
    pub targets: Targets,
}

/// Whether the asset suits the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// At least one version does.
    Compatible,
    /// None does; the findings say why.
    Incompatible,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Whether the asset suits the target.
    pub verdict: Verdict,
    /// What was found; blocking findings make the verdict.
    pub findings: Vec<Finding>,
    /// The highest version that suits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The compiler that was assumed.
    pub rust: String,
}

#[async_trait]
impl Typed for Evaluate {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "compatibility.evaluate";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let (catalog, allowed) = (self.catalog.clone(), self.targets.of(&attempt.saga.tenant));
        allowed.place(&input.target).map_err(unusable)?;
        let rust = toolchain::version(input.rust.as_deref(), &input.target).await?;
        blocking(attempt, move |_| evaluate(&catalog, &rust, &input, &allowed)).await
    }
}

/// Judges `input` with the compiler `rust`.
pub fn evaluate(catalog: &Catalog, rust: &Version, input: &Input, allowed: &Allowed) -> Result<Output, Failure> {
    check_name(&input.asset).map_err(|error| Failure::named("BadArguments", error.to_string()))?;
    let req = requirement(&input.version)?;
    let name = &input.asset;
    let mut findings = Vec::new();
    let mut find = |code: &str, blocking: bool, message: String| {
        findings.push(Finding {
            code: code.into(),
            blocking,
            package: Some(name.clone()),
            message,
            ranges: Vec::new(),
        });
    };
    let project = match Project::look(&input.target, allowed) {
        Ok(project) => project,
        Err(super::project::Error::Unsuitable(why)) => {
            find("project", true, why);
            return Ok(Output { verdict: Verdict::Incompatible, findings, version: None, rust: rust.to_string() });
        }
        Err(error @ super::project::Error::Io { .. }) => return Err(unusable(error)),
    };
    let releases = catalog.versions(name).map_err(|error| Failure::transient("reading the catalogue", error))?;
    if releases.is_empty() {
        find("missing", true, format!("{name} is not in the catalogue; import it"));
    } else if !releases.iter().any(|release| req.matches(&release.manifest.version)) {
        let there: Vec<String> = releases.iter().map(|release| release.manifest.version.to_string()).collect();
        find("missing", true, format!("the catalogue has {name} {}, but not {req}", there.join(", ")));
    }
    let mut suitable: Vec<Version> = Vec::new();
    for release in releases.iter().filter(|release| req.matches(&release.manifest.version)) {
        let manifest = &release.manifest;
        match manifest.needs_rust().filter(|needs| needs > rust) {
            None => suitable.push(manifest.version.clone()),
            Some(needs) => {
                let message = format!(
                    "{name} {} (edition {}) needs Rust {needs} and the target has {rust}; use a newer toolchain",
                    manifest.version, manifest.edition
                );
                // A lower version may do; only when none does, this stands in the way.
                find("rust-version", false, message);
            }
        }
        for feature in &input.features {
            if !manifest.features.contains_key(feature) {
                find("feature", false, format!("{name} {} has no feature {feature:?}", manifest.version));
                suitable.retain(|version| *version != manifest.version);
            }
        }
    }
    if let Some(required) = project.requires(name) {
        if required.package != *name {
            let message = format!("the project calls another package ({}) {name} already", required.package);
            find("project", true, message);
        }
        if suitable.iter().any(|version| required.req.matches(version)) {
            suitable.retain(|version| required.req.matches(version));
            find("project", false, format!("the project requires {name} {} already", required.req));
        } else if !suitable.is_empty() {
            let message =
                format!("the project requires {name} {}, which excludes {req}; change one of them", required.req);
            find("project", true, message);
        }
    }
    if project.top.manifest.name == *name {
        find("project", true, format!("the target is {name} itself"));
    }
    // Only what an asset was installed for counts; what came along with it is the resolver's.
    for installed in project.installed.iter().filter(|installed| installed.name == *name) {
        let same_line = suitable.iter().any(|v| Compatible::of(v) == Compatible::of(&installed.version));
        let version = &installed.version;
        if installed.asset_id == *name && !req.matches(version) && same_line {
            let message = format!("{version} is installed by {}; take that installation back first", installed.saga);
            find("installed", true, message);
        } else {
            find("installed", false, format!("{version} is installed already, by {}", installed.saga));
        }
    }
    if suitable.is_empty() && !findings.iter().any(|finding| finding.blocking) {
        findings.iter_mut().for_each(|finding| finding.blocking = true);
    }
    let incompatible = findings.iter().any(|finding| finding.blocking);
    let verdict = if incompatible { Verdict::Incompatible } else { Verdict::Compatible };
    let version = suitable.into_iter().max().filter(|_| !incompatible);
    Ok(Output { verdict, findings, version, rust: rust.to_string() })
}
