//! Chooses one version of each package: the rules of cargo in the words of PubGrub.
//!
//! Cargo lets versions that are not compatible with each other stand side by side, and unifies
//! those that are. So what PubGrub calls a package is here a name together with its
//! [`Compatible`] line. A requirement that spans several lines goes through a [`Pkg::Choice`],
//! a feature is a package that wants its own package at the same version, and a native library is
//! a package of which each user wants a version of its own.
//!
//! Sets of versions are sets of versions that exist; so a requirement means exactly what the
//! `semver` crate says it means, with pre-releases only where they are named (D903).

use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::rc::Rc;
use std::time::{Duration, Instant};

use pubgrub::{Dependencies, DependencyConstraints, DependencyProvider, PackageResolutionStatistics, Ranges};
use semver::{Version, VersionReq};

use super::catalog::Release;
use super::features::{self, Turns};
use super::manifest::{Dependency, Kind};
use super::platform::Platform;

/// How long a resolution may think. A hundred packages take milliseconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sets of existing versions.
pub type Set = Ranges<Version>;

/// Versions that cargo takes for compatible: the first number that is not zero, in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Compatible(u64, u64, u64);

impl Compatible {
    /// The line that `version` belongs to.
    pub fn of(version: &Version) -> Self {
        match (version.major, version.minor) {
            (0, 0) => Self(0, 0, version.patch),
            (0, minor) => Self(0, minor, 0),
            (major, _) => Self(major, 0, 0),
        }
    }
}

/// What PubGrub chooses versions of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Pkg {
    /// The project with the asset in it.
    Root,
    /// A package, in one line of compatible versions.
    Package(Rc<str>, Compatible),
    /// One feature of it.
    Feature(Rc<str>, Compatible, Rc<str>),
    /// A requirement that several lines satisfy: its versions are the lines.
    Choice(Rc<str>, String, BTreeSet<String>),
    /// A native library; its versions are the packages that link to it.
    Links(Rc<str>),
    /// A requirement that no version satisfies.
    Nothing(Rc<str>, String),
}

impl Pkg {
    /// The name of the package it is about.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Root | Self::Links(_) => None,
            Self::Package(name, _) | Self::Feature(name, _, _) | Self::Choice(name, _, _) | Self::Nothing(name, _) => {
                Some(name)
            }
        }
    }
}

impl fmt::Display for Pkg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("the project"),
            Self::Package(name, _) => f.write_str(name),
            Self::Feature(name, _, feature) => write!(f, "{name}/{feature}"),
            Self::Choice(name, req, _) | Self::Nothing(name, req) => write!(f, "{name} ({req})"),
            Self::Links(library) => write!(f, "the native library {library}"),
        }
    }
}

/// Whose requirement: a package at a version, `None` for the project.
pub type Requirer = Option<(Rc<str>, Version)>;

/// One requirement met on the way: who asks for which versions of what.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Asked {
    /// The package asked for.
    pub name: Rc<str>,
    /// As it was written.
    pub range: String,
}

/// The versions there are to choose from, by name; the preferred first.
pub type Candidates<'a> = dyn Fn(&str) -> Result<Rc<Vec<Release>>, Failed> + 'a;

/// The solver's own failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Failed {
    /// The catalogue could not be read.
    #[error("{0}")]
    Catalogue(String),
    /// It took too long.
    #[error("no answer within {} s", PATIENCE.as_secs())]
    Late,
}

/// One requirement to start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root {
    /// Whose it is: the project's, or that of a package whose need showed later.
    pub by: Requirer,
    /// The requirement.
    pub dependency: Dependency,
    /// The features that are asked for.
    pub features: BTreeSet<String>,
}

/// What the solver is asked.
pub struct Question<'a> {
    /// What the project requires, tests and all.
    pub roots: Vec<Root>,
    /// The versions to choose from.
    pub candidates: &'a Candidates<'a>,
    /// Leave out what this platform does not use. `None`: every platform counts.
    pub only: Option<&'a Platform>,
    started: Instant,
    asked: RefCell<BTreeMap<Requirer, BTreeSet<Asked>>>,
}

impl<'a> Question<'a> {
    /// Asks for `roots`.
    pub fn new(roots: Vec<Root>, candidates: &'a Candidates<'a>, only: Option<&'a Platform>) -> Self {
        Self { roots, candidates, only, started: Instant::now(), asked: RefCell::default() }
    }

    /// Every requirement that was met while looking for an answer.
    pub fn asked(&self) -> BTreeMap<Requirer, BTreeSet<Asked>> {
        self.asked.borrow().clone()
    }

    fn in_line(&self, name: &str, line: Compatible) -> Result<Vec<Release>, Failed> {
        let all = (self.candidates)(name)?;
        Ok(all.iter().filter(|release| Compatible::of(&release.manifest.version) == line).cloned().collect())
    }

    fn find(&self, name: &str, version: &Version) -> Result<Option<Release>, Failed> {
        Ok((self.candidates)(name)?.iter().find(|release| release.manifest.version == *version).cloned())
    }

    /// The versions of `name` that `req` accepts, by line; the preferred line first.
    fn matching(&self, name: &str, req: &VersionReq) -> Result<Vec<(Compatible, Set)>, Failed> {
        let mut lines: Vec<(Compatible, Set)> = Vec::new();
        for release in (self.candidates)(name)?.iter() {
            let version = &release.manifest.version;
            if !req.matches(version) {
                continue;
            }
            let one = Set::singleton(version.clone());
            let line = Compatible::of(version);
            match lines.iter_mut().find(|(known, _)| *known == line) {
                Some((_, set)) => *set = set.union(&one),
                None => lines.push((line, one)),
            }
        }
        Ok(lines)
    }

    fn require(
        &self,
        wants: &mut Wants,
        requirer: &Requirer,
        dependency: &Dependency,
        features: &BTreeSet<String>,
    ) -> Result<(), Failed> {
        let away = |target: &String| self.only.is_some_and(|platform| !platform.uses(target));
        if dependency.target.as_ref().is_some_and(away) {
            return Ok(());
        }
        let name: Rc<str> = dependency.package.as_str().into();
        let range = dependency.req.to_string();
        let asked = Asked { name: name.clone(), range: range.clone() };
        self.asked.borrow_mut().entry(requirer.clone()).or_default().insert(asked);
        let lines = self.matching(&name, &dependency.req)?;
        match lines.as_slice() {
            [] => wants.add(Pkg::Nothing(name, range), Set::empty()),
            [(line, set)] => wants.add_package(&name, *line, set, features),
            _ => wants.add(Pkg::Choice(name, range, features.clone()), Set::full()),
        }
        Ok(())
    }
}

#[derive(Default)]
struct Wants(BTreeMap<Pkg, Set>);

impl Wants {
    fn add(&mut self, package: Pkg, set: Set) {
        let both = self.0.get(&package).map(|known| known.intersection(&set)).unwrap_or(set);
        self.0.insert(package, both);
    }

    fn add_package(&mut self, name: &Rc<str>, line: Compatible, set: &Set, features: &BTreeSet<String>) {
        self.add(Pkg::Package(name.clone(), line), set.clone());
        for feature in features {
            self.add(Pkg::Feature(name.clone(), line, feature.as_str().into()), set.clone());
        }
    }

    fn into_dependencies(self) -> Dependencies<Pkg, Set, String> {
        Dependencies::Available(self.0.into_iter().collect::<DependencyConstraints<Pkg, Set>>())
    }
}

/// A version that stands for a line, or for a user of a native library.
fn line_version(line: Compatible) -> Version {
    Version::new(line.0, line.1, line.2)
}

/// A number for a package and line, as good as unique: 64 bits of FNV-1a.
fn user_version(name: &str, line: Compatible) -> Version {
    let fnv = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, fnv);
    Version::new(hash, line.0, line.1.wrapping_mul(1 << 32).wrapping_add(line.2))
}

impl DependencyProvider for Question<'_> {
    type P = Pkg;
    type V = Version;
    type VS = Set;
    type Priority = (u8, Reverse<usize>);
    type M = String;
    type Err = Failed;

    fn should_cancel(&self) -> Result<(), Failed> {
        if self.started.elapsed() > PATIENCE { Err(Failed::Late) } else { Ok(()) }
    }

    /// What leaves the least choice comes first; packages come before their features, so that a
    /// feature never chooses the version.
    fn prioritize(&self, package: &Pkg, range: &Set, conflicts: &PackageResolutionStatistics) -> Self::Priority {
        let rank = match package {
            Pkg::Root | Pkg::Nothing(..) => 4,
            Pkg::Links(_) => 3,
            Pkg::Package(..) => 2,
            Pkg::Feature(..) => 1,
            Pkg::Choice(..) => 0,
        };
        let left = range.iter().count();
        (rank, Reverse(left.saturating_sub(conflicts.conflict_count() as usize)))
    }

    fn choose_version(&self, package: &Pkg, range: &Set) -> Result<Option<Version>, Failed> {
        match package {
            Pkg::Root => Ok(Some(Version::new(0, 0, 0))),
            Pkg::Package(name, line) | Pkg::Feature(name, line, _) => {
                let releases = self.in_line(name, *line)?;
                Ok(releases.into_iter().map(|release| release.manifest.version).find(|v| range.contains(v)))
            }
            Pkg::Choice(name, req, _) => {
                let req = parse(req)?;
                let lines = self.matching(name, &req)?;
                Ok(lines.into_iter().map(|(line, _)| line_version(line)).find(|v| range.contains(v)))
            }
            Pkg::Links(_) => Ok(range.as_singleton().cloned()),
            Pkg::Nothing(..) => Ok(None),
        }
    }

    fn get_dependencies(&self, package: &Pkg, version: &Version) -> Result<Dependencies<Pkg, Set, String>, Failed> {
        let mut wants = Wants::default();
        match package {
            Pkg::Root => {
                for root in &self.roots {
                    self.require(&mut wants, &root.by, &root.dependency, &root.features)?;
                }
            }
            Pkg::Package(name, line) => {
                let Some(release) = self.find(name, version)? else {
                    return Ok(Dependencies::Unavailable(format!("{name} {version} is not in the catalogue")));
                };
                let requirer = Some((name.clone(), version.clone()));
                for dep in &release.manifest.dependencies {
                    if dep.kind != Kind::Dev && !dep.optional {
                        self.require(&mut wants, &requirer, dep, &features::declared(dep))?;
                    }
                }
                if let Some(library) = &release.manifest.links {
                    let user = user_version(name, *line);
                    wants.add(Pkg::Links(library.as_str().into()), Set::singleton(user));
                }
            }
            Pkg::Feature(name, line, feature) => {
                let Some(release) = self.find(name, version)? else {
                    return Ok(Dependencies::Unavailable(format!("{name} {version} is not in the catalogue")));
                };
                wants.add(Pkg::Package(name.clone(), *line), Set::singleton(version.clone()));
                let Some(values) = release.manifest.features.get(&**feature) else {
                    // Every package has default features, if only none.
                    if &**feature == "default" {
                        return Ok(wants.into_dependencies());
                    }
                    return Ok(Dependencies::Unavailable(format!("{name} {version} has no feature {feature}")));
                };
                let requirer = Some((name.clone(), version.clone()));
                let named = |alias: &str| {
                    let alias = alias.to_owned();
                    let counted = release.manifest.dependencies.iter().filter(|dep| dep.kind != Kind::Dev);
                    counted.filter(move |dep| dep.alias == alias)
                };
                let also = |other: &str, wants: &mut Wants| {
                    wants.add(Pkg::Feature(name.clone(), *line, other.into()), Set::singleton(version.clone()));
                };
                for value in values {
                    match Turns::read(value) {
                        Turns::Feature(other) => also(other, &mut wants),
                        Turns::Dependency(alias) => {
                            for dep in named(alias) {
                                self.require(&mut wants, &requirer, dep, &features::declared(dep))?;
                            }
                        }
                        // Nothing is built for a weak mention; only the lock file lists it.
                        Turns::Of { weak: true, .. } if self.only.is_some() => {}
                        Turns::Of { alias, feature, weak } => {
                            if !weak && alias != name.as_ref() && release.manifest.features.contains_key(alias) {
                                also(alias, &mut wants);
                            }
                            for dep in named(alias) {
                                let mut features = features::declared(dep);
                                features.insert(feature.to_owned());
                                self.require(&mut wants, &requirer, dep, &features)?;
                            }
                        }
                    }
                }
            }
            Pkg::Choice(name, req, features) => {
                let lines = self.matching(name, &parse(req)?)?;
                if let Some((line, set)) = lines.iter().find(|(line, _)| line_version(*line) == *version) {
                    wants.add_package(name, *line, set, features);
                }
            }
            Pkg::Links(_) => {}
            Pkg::Nothing(name, req) => return Ok(Dependencies::Unavailable(format!("nothing is {name} {req}"))),
        }
        Ok(wants.into_dependencies())
    }
}

/// A requirement is kept as text where it must be comparable.
fn parse(req: &str) -> Result<VersionReq, Failed> {
    VersionReq::parse(req).map_err(|error| Failed::Catalogue(format!("the requirement {req:?}: {error}")))
}
