//! `dependencies.resolve`: the whole graph that a target needs for an asset, or why there is none.
//!
//! Highest compatible versions, what the project locks first, the same answer for the same
//! question (D901–D904). It reads the target and writes nothing.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;

use async_trait::async_trait;
use pubgrub::PubGrubError;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use supervisor::activity::{Attempt, Failure, Typed};

use super::apply::unusable;
use super::blocking::blocking;
use super::catalog::{Catalog, Release};
use super::closure;
use super::conflict;
use super::manifest::{self, Dependency, Kind};
use super::platform::Platform;
use super::project::Project;
use super::reference::{Finding, Graph};
use super::solver::{Candidates, Failed, Pkg, Question, Root};
use super::targets::{Allowed, Targets};
use super::toolchain;

/// The largest graph that is passed on between states, as JSON. The engine carries 256 KiB; the
/// rest is for the data beside it. A graph of 500 packages is smaller.
pub const GRAPH_MAX_BYTES: usize = 200 << 10;

/// The activity.
pub struct Resolve {
    /// Where packages come from.
    pub catalog: Catalog,
    /// What an installation is for.
    pub platform: Platform,
    /// Where targets may be.
    pub targets: Targets,
}

/// What is to be installed where.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Input {
    /// The package.
    pub asset: String,
    /// A version (`1.2.3` means exactly it) or a range in cargo's words (`^1.2`, `>=1, <3`).
    pub version: String,
    /// The directory of the project.
    pub target: PathBuf,
    /// Features of the asset to turn on.
    #[serde(default)]
    pub features: Vec<String>,
    /// The compiler's version; the target's own is asked when it is absent.
    #[serde(default)]
    pub rust: Option<String>,
}

/// Whether there is an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// There is a graph.
    Resolved,
    /// There is none; the findings say why.
    Conflict,
}

/// The answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Output {
    /// Whether there is a graph.
    pub outcome: Outcome,
    /// The version of the asset that was chosen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// The requirement as it goes into the project's manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirement: Option<String>,
    /// The graph.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub graph: Option<Graph>,
    /// Why there is no graph, or what is worth knowing about it.
    #[serde(default)]
    pub findings: Vec<Finding>,
}

#[async_trait]
impl Typed for Resolve {
    type Input = Input;
    type Output = Output;
    const NAME: &'static str = "dependencies.resolve";

    async fn run(&self, attempt: &Attempt, input: Input) -> Result<Output, Failure> {
        let (catalog, platform) = (self.catalog.clone(), self.platform.clone());
        let allowed = self.targets.of(&attempt.saga.tenant);
        allowed.place(&input.target).map_err(unusable)?;
        let rust = toolchain::version(input.rust.as_deref(), &input.target).await?;
        blocking(attempt, move |_| resolve(&catalog, &platform, &rust, &input, &allowed)).await
    }
}

/// Reads a version or range as [`Input::version`] means it.
pub fn requirement(text: &str) -> Result<VersionReq, Failure> {
    let text = text.trim();
    let exact = Version::parse(text).is_ok();
    let req = if exact { VersionReq::parse(&format!("={text}")) } else { VersionReq::parse(text) };
    req.map_err(|error| {
        Failure::named(
            "BadArguments",
            format!("{text:?} is neither a version nor a range: {error}; write it like 1.2.3 or ^1.2"),
        )
    })
}

/// Answers `input` from `catalog`.
pub fn resolve(
    catalog: &Catalog,
    platform: &Platform,
    rust: &Version,
    input: &Input,
    allowed: &Allowed,
) -> Result<Output, Failure> {
    manifest::check_name(&input.asset).map_err(|error| Failure::named("BadArguments", error.to_string()))?;
    let req = requirement(&input.version)?;
    let project = Project::look(&input.target, allowed).map_err(unusable)?;
    let asset = Dependency {
        alias: input.asset.clone(),
        package: input.asset.clone(),
        req: req.clone(),
        kind: Kind::Normal,
        optional: false,
        default_features: true,
        features: input.features.clone(),
        target: None,
        path: None,
        foreign: false,
    };
    let features = super::features::declared(&asset);
    let shelf = Shelf { catalog, project: &project, rust, known: RefCell::default() };
    let candidates = |name: &str| shelf.candidates(name);
    let mut roots = closure::required(&project);
    roots.push(Root { by: None, dependency: asset.clone(), features: features.clone() });

    // Every platform first: such a target builds everywhere. When the catalogue lacks something
    // that only other platforms use, this platform alone, with stand-ins for the rest.
    let mut refusal = Vec::new();
    for only in [None, Some(platform)] {
        match choose(&shelf, &candidates, roots.clone(), only)? {
            Ok(chosen) => match closure::build(&project, (&asset, &features), chosen, &candidates) {
                Ok(graph) => return answer(input, &req, graph),
                Err(finding) => refusal = vec![finding],
            },
            Err(findings) => refusal = findings,
        }
    }
    Ok(Output { outcome: Outcome::Conflict, version: None, requirement: None, graph: None, findings: refusal })
}

type Chosen = BTreeMap<(String, Version), Release>;

/// Chooses versions for `roots`, or says why that cannot be.
fn choose(
    shelf: &Shelf<'_>,
    candidates: &Candidates<'_>,
    mut roots: Vec<Root>,
    only: Option<&Platform>,
) -> Result<Result<Chosen, Vec<Finding>>, Failure> {
    loop {
        let question = Question::new(roots.clone(), candidates, only);
        let solution = match pubgrub::resolve(&question, Pkg::Root, Version::new(0, 0, 0)) {
            Ok(solution) => solution,
            Err(PubGrubError::NoSolution(tree)) => {
                let findings = conflict::explain(&tree, &question.asked(), candidates, &|name| shelf.excluded(name));
                return findings.map(Err).map_err(unreadable);
            }
            Err(
                PubGrubError::ErrorRetrievingDependencies { source, .. }
                | PubGrubError::ErrorChoosingVersion { source, .. }
                | PubGrubError::ErrorInShouldCancel(source),
            ) => return Err(unreadable(source)),
        };
        let mut chosen = Chosen::new();
        for (package, version) in solution {
            let Pkg::Package(name, _) = package else { continue };
            let releases = candidates(&name).map_err(unreadable)?;
            if let Some(release) = releases.iter().find(|release| release.manifest.version == version) {
                chosen.insert((name.to_string(), version), release.clone());
            }
        }
        let Some(platform) = only else { return Ok(Ok(chosen)) };
        let known = roots.len();
        for root in closure::lacking(&roots, &chosen, platform) {
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        // Each round knows more needs than the one before, and there are only so many.
        if roots.len() == known {
            return Ok(Ok(chosen));
        }
    }
}

fn unreadable(error: Failed) -> Failure {
    match error {
        Failed::Catalogue(why) => Failure::transient("reading the catalogue", why),
        Failed::Late => Failure::named("ResolutionTooLong", "no answer in time; narrow the range of the asset"),
    }
}

fn answer(input: &Input, req: &VersionReq, graph: Graph) -> Result<Output, Failure> {
    let size = serde_json::to_vec(&graph).map_or(usize::MAX, |bytes| bytes.len());
    if size > GRAPH_MAX_BYTES {
        return Err(Failure::named(
            "GraphTooLarge",
            format!("the graph takes {size} bytes, the limit is {GRAPH_MAX_BYTES}; install a smaller part of it first"),
        ));
    }
    let fits = graph.packages.iter().filter(|package| package.name == input.asset && req.matches(&package.version));
    let version = fits.map(|package| package.version.clone()).max();
    let stand_ins: Vec<String> = graph
        .packages
        .iter()
        .filter(|package| package.origin == super::reference::Origin::StandIn)
        .map(|package| format!("{} {}", package.name, package.version))
        .collect();
    let mut findings = Vec::new();
    if !stand_ins.is_empty() {
        findings.push(Finding {
            code: "stand-ins".into(),
            blocking: false,
            package: None,
            message: format!(
                "the target will build on this platform only, with empty stand-ins for {}; import them to build elsewhere",
                stand_ins.join(", ")
            ),
            ranges: Vec::new(),
        });
    }
    let requirement = Some(req.to_string());
    Ok(Output { outcome: Outcome::Resolved, version, requirement, graph: Some(graph), findings })
}

/// The versions of one package: those that may be chosen, and those that may not.
type Sorted = (Rc<Vec<Release>>, Vec<(Version, String)>);

/// The versions that may be chosen: from the catalogue and from the target's vendor directory.
struct Shelf<'a> {
    catalog: &'a Catalog,
    project: &'a Project,
    rust: &'a Version,
    known: RefCell<BTreeMap<String, Sorted>>,
}

impl Shelf<'_> {
    fn candidates(&self, name: &str) -> Result<Rc<Vec<Release>>, Failed> {
        if let Some((releases, _)) = self.known.borrow().get(name) {
            return Ok(releases.clone());
        }
        let mut all = self.catalog.versions(name).map_err(|error| Failed::Catalogue(error.to_string()))?;
        let known: BTreeSet<Version> = all.iter().map(|release| release.manifest.version.clone()).collect();
        let vendored = self.project.vendored.iter().map(|vendored| &vendored.release);
        let vendored = vendored.filter(|release| release.manifest.name == name && !release.checksum.is_empty());
        all.extend(vendored.filter(|release| !known.contains(&release.manifest.version)).cloned());
        let locked = self.project.locked.get(name).map(Vec::as_slice).unwrap_or_default();
        let pin = |version: &Version| locked.iter().find(|locked| locked.version == *version);
        let mut excluded = Vec::new();
        all.retain(|release| {
            let version = &release.manifest.version;
            let pin = pin(version);
            let other = |checksum: &String| *checksum != release.checksum;
            if pin.and_then(|pin| pin.checksum.as_ref()).is_some_and(other) {
                excluded.push((version.clone(), "is locked by the project with another checksum".to_owned()));
                return false;
            }
            match release.manifest.needs_rust() {
                Some(needs) if needs > *self.rust && pin.is_none() => {
                    excluded.push((version.clone(), format!("needs Rust {needs}")));
                    false
                }
                Some(_) | None => true,
            }
        });
        // What is locked stays, else the highest wins (D902).
        all.sort_by(|a, b| {
            let rank = |release: &Release| (pin(&release.manifest.version).is_some(), release.manifest.version.clone());
            rank(b).cmp(&rank(a))
        });
        let all = Rc::new(all);
        self.known.borrow_mut().insert(name.to_owned(), (all.clone(), excluded));
        Ok(all)
    }

    fn excluded(&self, name: &str) -> Vec<(Version, String)> {
        self.known.borrow().get(name).map(|(_, excluded)| excluded.clone()).unwrap_or_default()
    }
}
