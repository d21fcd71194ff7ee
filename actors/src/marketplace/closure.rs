//! From chosen versions to the whole graph, as cargo's lock file will list it.
//!
//! Cargo insists on seeing the dependencies of every platform, also offline, although it builds
//! only one. What the catalogue does not have of those is replaced by *stand-ins*: empty packages
//! with the name, a version that fits and the features asked for. They are never built here.

use std::collections::{BTreeMap, BTreeSet};

use semver::{Op, Version, VersionReq};

use super::catalog::Release;
use super::features::{self, Needed, Weak};
use super::manifest::{Dependency, Manifest};
use super::platform::Platform;
use super::project::Project;
use super::reference::{Finding, Graph, GraphPackage, Licensed, LocalPackage, Origin};
use super::solver::{Candidates, Compatible, Root};

type Id = (String, Version);

/// Who needs something.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum By {
    /// One of the project's own packages.
    Local(usize),
    /// A package of the graph.
    Package(Id),
}

/// A dependency that no chosen version fits.
struct Unmet {
    by: By,
    dependency: Dependency,
    features: BTreeSet<String>,
}

struct Walk<'a> {
    chosen: &'a BTreeMap<Id, Release>,
    /// `None`: as the lock file sees it. Else as a build on the platform does.
    only: Option<&'a Platform>,
    on: BTreeMap<Id, BTreeSet<String>>,
    edges: BTreeMap<By, BTreeSet<Id>>,
    unmet: Vec<Unmet>,
    open: Vec<Id>,
}

impl<'a> Walk<'a> {
    fn new(chosen: &'a BTreeMap<Id, Release>, only: Option<&'a Platform>) -> Self {
        Self { chosen, only, on: BTreeMap::new(), edges: BTreeMap::new(), unmet: Vec::new(), open: Vec::new() }
    }

    fn weakly(&self) -> Weak {
        if self.only.is_some() { Weak::Follows } else { Weak::Counts }
    }

    fn meet(&mut self, by: By, dependency: &Dependency, features: &BTreeSet<String>) {
        let away = |target: &String| self.only.is_some_and(|platform| !platform.uses(target));
        if dependency.target.as_ref().is_some_and(away) {
            return;
        }
        let (name, req) = (&dependency.package, &dependency.req);
        let fits = self.chosen.keys().filter(|(known, version)| known == name && req.matches(version));
        let Some(id) = fits.max_by(|a, b| a.1.cmp(&b.1)).cloned() else {
            self.unmet.push(Unmet { by, dependency: dependency.clone(), features: features.clone() });
            return;
        };
        self.edges.entry(by).or_default().insert(id.clone());
        let first = !self.on.contains_key(&id);
        let on = self.on.entry(id.clone()).or_default();
        let known = on.len();
        on.extend(features.iter().cloned());
        if first || on.len() > known {
            self.open.push(id);
        }
    }

    /// Follows everything that is met. A package is looked at again when more of its features are
    /// on, until nothing changes.
    fn follow(&mut self) {
        while let Some(id) = self.open.pop() {
            let (chosen, weakly) = (self.chosen, self.weakly());
            let (Some(release), Some(on)) = (chosen.get(&id), self.on.get(&id).cloned()) else { continue };
            self.unmet.retain(|unmet| unmet.by != By::Package(id.clone()));
            for Needed { dependency, features } in features::needed(&release.manifest, &on, false, weakly) {
                self.meet(By::Package(id.clone()), dependency, &features);
            }
        }
    }
}

/// The features that cargo's lock file counts on for a package of the project itself: all.
pub fn every_feature(manifest: &Manifest) -> BTreeSet<String> {
    manifest.features.keys().cloned().collect()
}

/// What the project's own packages require from outside, with the features they ask for.
pub fn required(project: &Project) -> Vec<Root> {
    let manifests = std::iter::once(&project.top).chain(&project.locals).map(|local| &local.manifest);
    let mut required = Vec::new();
    for (at, manifest) in manifests.enumerate() {
        let needed = features::needed(manifest, &every_feature(manifest), at == 0, Weak::Counts);
        for Needed { dependency, features } in needed.into_iter().filter(|needed| needed.dependency.path.is_none()) {
            required.push(Root { by: None, dependency: dependency.clone(), features });
        }
    }
    required
}

/// What a build on `platform` needs besides what was `chosen` for it: the solver cannot see that a
/// weak mention of a feature matters when its dependency is needed by somebody else.
pub fn lacking(roots: &[Root], chosen: &BTreeMap<Id, Release>, platform: &Platform) -> Vec<Root> {
    let mut walk = Walk::new(chosen, Some(platform));
    for root in roots {
        walk.meet(By::Local(0), &root.dependency, &root.features);
    }
    walk.follow();
    let by = |by: By| match by {
        By::Local(_) => None,
        By::Package((name, version)) => Some((name.as_str().into(), version)),
    };
    walk.unmet.into_iter().map(|u| Root { by: by(u.by), dependency: u.dependency, features: u.features }).collect()
}

/// Builds the graph of `project` with `chosen` versions and `asset` in it. What other platforms
/// need comes from `candidates` where they have it, and is stood in for where they do not.
pub fn build(
    project: &Project,
    asset: (&Dependency, &BTreeSet<String>),
    mut chosen: BTreeMap<Id, Release>,
    candidates: &Candidates<'_>,
) -> Result<Graph, Finding> {
    let locals: Vec<&Manifest> =
        std::iter::once(&project.top).chain(&project.locals).map(|local| &local.manifest).collect();
    let mut paths: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    let (on, mut edges, unmet) = loop {
        let mut walk = Walk::new(&chosen, None);
        for (at, manifest) in locals.iter().enumerate() {
            let needed = features::needed(manifest, &every_feature(manifest), at == 0, Weak::Counts);
            for Needed { dependency, features } in needed {
                if dependency.path.is_some() {
                    let local = locals.iter().find(|local| local.name == dependency.package);
                    paths.entry(at).or_default().extend(local.map(|local| format!("{} {}", local.name, local.version)));
                } else {
                    walk.meet(By::Local(at), dependency, &features);
                }
            }
        }
        walk.meet(By::Local(0), asset.0, asset.1);
        walk.follow();
        let Walk { on, edges, unmet, .. } = walk;
        let known = chosen.len();
        for unmet in &unmet {
            let Ok(releases) = candidates(&unmet.dependency.package) else { continue };
            let fits = releases.iter().find(|release| unmet.dependency.req.matches(&release.manifest.version));
            let Some(release) = fits else { continue };
            let id = (unmet.dependency.package.clone(), release.manifest.version.clone());
            if !line_taken(&chosen, &id) {
                chosen.insert(id, release.clone());
            }
        }
        if chosen.len() == known {
            break (on, edges, unmet);
        }
    };
    let chosen = &chosen;
    let mut stand_ins: BTreeMap<Id, BTreeSet<String>> = BTreeMap::new();
    for unmet in by_lower_bound(unmet) {
        let id = stand_in(project, &stand_ins, &unmet)?;
        if line_taken(chosen, &id) {
            return Err(missing(
                &id.0,
                format!("{} {} is not in the catalogue; import it", id.0, unmet.dependency.req),
            ));
        }
        stand_ins.entry(id.clone()).or_default().extend(unmet.features);
        edges.entry(unmet.by).or_default().insert(id);
    }

    let dependencies = |by: By| -> Vec<String> {
        edges.get(&by).into_iter().flatten().map(|(name, version)| format!("{name} {version}")).collect()
    };
    let mut packages = Vec::new();
    for id in on.keys() {
        let Some(release) = chosen.get(id) else { continue };
        let there = project
            .vendored
            .iter()
            .any(|vendored| vendored.release.checksum == release.checksum && vendored.release.manifest.version == id.1);
        packages.push(GraphPackage {
            name: id.0.clone(),
            version: id.1.clone(),
            checksum: Some(release.checksum.clone()),
            origin: if there { Origin::Target } else { Origin::Catalogue },
            features: Vec::new(),
            dependencies: dependencies(By::Package(id.clone())),
        });
    }
    for (id, mut features) in stand_ins {
        features.remove("default");
        packages.push(GraphPackage {
            checksum: locked_checksum(project, &id),
            name: id.0,
            version: id.1,
            origin: Origin::StandIn,
            features: features.into_iter().collect(),
            dependencies: Vec::new(),
        });
    }
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let locals = locals
        .iter()
        .enumerate()
        .map(|(at, manifest)| {
            let mut dependencies = dependencies(By::Local(at));
            dependencies.extend(paths.remove(&at).unwrap_or_default());
            dependencies.sort();
            LocalPackage { name: manifest.name.clone(), version: manifest.version.clone(), dependencies }
        })
        .collect();
    let licenses = licenses(&packages, chosen);
    Ok(Graph { locals, packages, licenses })
}

fn licenses(packages: &[GraphPackage], chosen: &BTreeMap<Id, Release>) -> Vec<Licensed> {
    let mut licenses: BTreeMap<Option<String>, Vec<String>> = BTreeMap::new();
    for package in packages.iter().filter(|package| package.origin == Origin::Catalogue) {
        let release = chosen.get(&(package.name.clone(), package.version.clone()));
        let license = release.and_then(|release| release.manifest.license.clone());
        licenses.entry(license).or_default().push(format!("{} {}", package.name, package.version));
    }
    licenses.into_iter().map(|(license, packages)| Licensed { license, packages }).collect()
}

fn locked_checksum(project: &Project, id: &Id) -> Option<String> {
    let mut locked = project.locked.get(&id.0).into_iter().flatten();
    locked.find(|locked| locked.version == id.1).and_then(|locked| locked.checksum.clone())
}

/// The demanding ones first, so that what they get serves the others too.
fn by_lower_bound(mut unmet: Vec<Unmet>) -> Vec<Unmet> {
    let bound = |unmet: &Unmet| std::cmp::Reverse(lower_bound(&unmet.dependency.req));
    unmet.sort_by_key(|unmet| (unmet.dependency.package.clone(), bound(unmet), unmet.by.clone()));
    unmet
}

/// The version that stands in for `unmet`: one that stands in already, one that is locked, one
/// that an earlier stand-in in the target has, or the lowest that the requirement accepts.
fn stand_in(project: &Project, there: &BTreeMap<Id, BTreeSet<String>>, unmet: &Unmet) -> Result<Id, Finding> {
    let (wanted, req) = (&unmet.dependency.package, &unmet.dependency.req);
    let fits = |version: &Version| req.matches(version);
    let standing = there.keys().filter(|(name, _)| name == wanted).map(|(_, version)| version);
    let locked = project.locked.get(wanted).into_iter().flatten().map(|locked| &locked.version);
    let vendored = project.vendored.iter().filter(|vendored| vendored.release.checksum.is_empty());
    let vendored = vendored.filter(|vendored| vendored.release.manifest.name == *wanted);
    let vendored = vendored.map(|vendored| &vendored.release.manifest.version);
    let known = standing.clone().chain(locked).chain(vendored).find(|version| fits(version)).cloned();
    let version = known.unwrap_or_else(|| lower_bound(req));
    if !fits(&version) {
        return Err(missing(wanted, format!("{wanted} {req} is not in the catalogue; import it")));
    }
    let line = Compatible::of(&version);
    if standing.clone().any(|other| *other != version && Compatible::of(other) == line) {
        let why = "is not in the catalogue and one stand-in cannot serve all that other platforms ask of it";
        return Err(missing(wanted, format!("{wanted} {why}; import it")));
    }
    Ok((wanted.clone(), version))
}

fn missing(package: &str, message: String) -> Finding {
    let ranges = Vec::new();
    Finding { code: "missing".into(), blocking: true, package: Some(package.to_owned()), message, ranges }
}

/// Whether another version stands on the same line, where cargo allows only one.
fn line_taken(chosen: &BTreeMap<Id, Release>, id: &Id) -> bool {
    chosen.keys().any(|(name, version)| *name == id.0 && Compatible::of(version) == Compatible::of(&id.1))
}

/// The lowest version that could satisfy `req`.
fn lower_bound(req: &VersionReq) -> Version {
    let lowest = |op: Op, version: Version| match op {
        Op::Greater => Version::new(version.major, version.minor, version.patch + 1),
        Op::Less | Op::LessEq => Version::new(0, 0, 0),
        // The enum may grow; every other operator starts at its own version.
        _ => version,
    };
    let bounds = req.comparators.iter().map(|comparator| {
        let mut version = Version::new(comparator.major, comparator.minor.unwrap_or(0), comparator.patch.unwrap_or(0));
        version.pre = comparator.pre.clone();
        lowest(comparator.op, version)
    });
    bounds.max().unwrap_or(Version::new(0, 0, 0))
}
