//! Explains why there is no answer: which requirements meet, and how each came in (M108, F25).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;

use protocol::text::shortened;
use pubgrub::{DefaultStringReporter, DerivationTree, External, Reporter};
use semver::{Version, VersionReq};

use super::reference::{Finding, Ranged};
use super::solver::{Asked, Candidates, Compatible, Failed, Pkg, Requirer, Set};

/// Findings told in one answer. The first ones matter.
const FINDINGS_MAX: usize = 20;
/// The longest derivation that is told.
const DERIVATION_MAX_BYTES: usize = 4 << 10;

type Tree = DerivationTree<Pkg, Set, String>;

/// Turns the solver's proof into findings. `excluded` are versions that exist but may not be used
/// here, with the reason.
pub fn explain(
    tree: &Tree,
    asked: &BTreeMap<Requirer, BTreeSet<Asked>>,
    candidates: &Candidates<'_>,
    excluded: &dyn Fn(&str) -> Vec<(Version, String)>,
) -> Result<Vec<Finding>, Failed> {
    let paths = paths(asked);
    let mut requirers: BTreeMap<Rc<str>, BTreeSet<Requirer>> = BTreeMap::new();
    let mut others = Vec::new();
    collect(tree, asked, &mut requirers, &mut others);
    let mut findings = Vec::new();
    for (name, requirers) in &requirers {
        let mut ranges = BTreeSet::new();
        for requirer in requirers {
            let Some(path) = paths.get(requirer) else { continue };
            for asked in asked.get(requirer).into_iter().flatten().filter(|asked| asked.name == *name) {
                ranges.insert(Ranged { range: asked.range.clone(), path: path.clone() });
            }
        }
        findings.extend(judge(name, &ranges, candidates, excluded)?);
    }
    others.sort();
    others.dedup();
    // Causes that no range can show, as a feature that does not exist, matter when nothing else
    // was found.
    if findings.is_empty() {
        for message in others {
            findings.push(blocking("conflict", None, message));
        }
    }
    if findings.is_empty() {
        let text = DefaultStringReporter::report(tree);
        findings.push(blocking("conflict", None, shortened(&text, DERIVATION_MAX_BYTES).into_owned()));
    }
    if findings.len() > FINDINGS_MAX {
        let more = findings.split_off(FINDINGS_MAX - 1).len();
        findings.push(blocking("conflict", None, format!("{more} more conflicts are not listed; mend these first")));
    }
    Ok(findings)
}

fn blocking(code: &str, package: Option<&str>, message: String) -> Finding {
    Finding { code: code.into(), blocking: true, package: package.map(str::to_owned), message, ranges: Vec::new() }
}

/// Whether the requirements on one package exclude each other.
fn judge(
    name: &str,
    ranges: &BTreeSet<Ranged>,
    candidates: &Candidates<'_>,
    excluded: &dyn Fn(&str) -> Vec<(Version, String)>,
) -> Result<Vec<Finding>, Failed> {
    let known = candidates(name)?;
    let accepts = |ranged: &Ranged| {
        let req = VersionReq::parse(&ranged.range).unwrap_or(VersionReq::STAR);
        known.iter().map(|r| r.manifest.version.clone()).filter(|v| req.matches(v)).collect::<BTreeSet<_>>()
    };
    let accepted: Vec<(&Ranged, BTreeSet<Version>)> = ranges.iter().map(|ranged| (ranged, accepts(ranged))).collect();
    let mut findings = Vec::new();
    for (ranged, _) in accepted.iter().filter(|(_, versions)| versions.is_empty()) {
        let req = VersionReq::parse(&ranged.range).unwrap_or(VersionReq::STAR);
        let barred = excluded(name).into_iter().filter(|(version, _)| req.matches(version));
        let barred: Vec<String> = barred.map(|(version, why)| format!("{version} {why}")).collect();
        let there: Vec<String> = known.iter().map(|release| release.manifest.version.to_string()).collect();
        let message = match (barred.as_slice(), there.as_slice()) {
            ([], []) => format!("{name} is not in the catalogue; import it"),
            ([], there) => {
                format!("the catalogue has {name} {}, but not {}; import one", there.join(", "), ranged.range)
            }
            (barred, _) => format!(
                "{name} {}: {}; use a newer toolchain or import another version",
                ranged.range,
                barred.join(", ")
            ),
        };
        let mut finding = blocking("missing", Some(name), message);
        finding.ranges.push((*ranged).clone());
        findings.push(finding);
    }
    // Two ranges clash when they accept no version in common although they lie on one line; on
    // different lines they stand side by side.
    let lines = |versions: &BTreeSet<Version>| versions.iter().map(Compatible::of).collect::<BTreeSet<_>>();
    let mut clashing = BTreeSet::new();
    for (at, (one, versions)) in accepted.iter().enumerate() {
        for (other, others) in &accepted[at + 1..] {
            if versions.is_disjoint(others) && !lines(versions).is_disjoint(&lines(others)) {
                clashing.extend([(*one).clone(), (*other).clone()]);
            }
        }
    }
    // Three may clash although each two of them agree.
    let open = accepted.iter().filter(|(_, versions)| !versions.is_empty());
    let on: Vec<BTreeSet<Compatible>> = open.clone().map(|(_, versions)| lines(versions)).collect();
    let shared = open.clone().map(|(_, versions)| versions.clone()).reduce(|a, b| &a & &b);
    if clashing.is_empty()
        && shared.is_some_and(|shared| shared.is_empty())
        && on.windows(2).all(|two| two[0] == two[1])
    {
        clashing.extend(open.map(|(ranged, _)| (*ranged).clone()));
    }
    if !clashing.is_empty() {
        let told: Vec<String> =
            clashing.iter().map(|ranged| format!("{} (by {})", ranged.range, ranged.path.join(" > "))).collect();
        let message = format!("no version of {name} satisfies {}", told.join(" and "));
        let mut finding = blocking("conflict", Some(name), message);
        finding.ranges = clashing.into_iter().collect();
        findings.push(finding);
    }
    Ok(findings)
}

/// The shortest way to each package that requires something.
fn paths(asked: &BTreeMap<Requirer, BTreeSet<Asked>>) -> BTreeMap<Requirer, Vec<String>> {
    let mut paths: BTreeMap<Requirer, Vec<String>> = BTreeMap::from([(None, vec!["project".to_owned()])]);
    let mut open = VecDeque::from([None]);
    while let Some(requirer) = open.pop_front() {
        let so_far = paths.get(&requirer).cloned().unwrap_or_default();
        for wanted in asked.get(&requirer).into_iter().flatten() {
            let req = VersionReq::parse(&wanted.range).unwrap_or(VersionReq::STAR);
            for next in asked.keys() {
                let Some((name, version)) = next else { continue };
                if *name == wanted.name && req.matches(version) && !paths.contains_key(next) {
                    let mut path = so_far.clone();
                    path.push(format!("{name} {version}"));
                    paths.insert(next.clone(), path);
                    open.push_back(next.clone());
                }
            }
        }
    }
    paths
}

/// Who, in the proof, requires what.
fn collect(
    tree: &Tree,
    asked: &BTreeMap<Requirer, BTreeSet<Asked>>,
    requirers: &mut BTreeMap<Rc<str>, BTreeSet<Requirer>>,
    others: &mut Vec<String>,
) {
    match tree {
        DerivationTree::Derived(derived) => {
            collect(&derived.cause1, asked, requirers, others);
            collect(&derived.cause2, asked, requirers, others);
        }
        DerivationTree::External(External::FromDependencyOf(from, _, Pkg::Links(library), _)) => {
            others.push(format!("{from} and another package both link to the native library {library}"));
        }
        DerivationTree::External(External::FromDependencyOf(from, set, to, _)) => {
            let Some(wanted) = to.name() else { return };
            for (requirer, wants) in asked {
                let speaks = match (from, requirer) {
                    // Needs that showed later start from the project as well.
                    (Pkg::Root, _) => true,
                    (Pkg::Package(name, line) | Pkg::Feature(name, line, _), Some((by, version))) => {
                        name == by && Compatible::of(version) == *line && set.contains(version)
                    }
                    // A choice speaks for everybody who made it.
                    (Pkg::Choice(name, range, _), _) => {
                        wants.iter().any(|asked| asked.name == *name && asked.range == *range)
                    }
                    (Pkg::Package(..) | Pkg::Feature(..) | Pkg::Links(_) | Pkg::Nothing(..), _) => false,
                };
                if speaks && wants.iter().any(|asked| &*asked.name == wanted) {
                    requirers.entry(wanted.into()).or_default().insert(requirer.clone());
                }
            }
        }
        DerivationTree::External(External::Custom(_, _, why)) => others.push(why.clone()),
        DerivationTree::External(External::NoVersions(..) | External::NotRoot(..)) => {}
    }
}
