//! What a package says about itself, read from the `Cargo.toml` in its archive.

use std::collections::{BTreeMap, BTreeSet};

use protocol::text::shortened;
use semver::{Version, VersionReq};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};

/// The longest package name. The public registry's limit.
const NAME_MAX_BYTES: usize = 64;

/// Why a manifest is of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the manifest cannot be used: {0}")]
pub struct BadManifest(pub String);

/// The longest reason: readers put the line at fault in it, and a line can be the whole manifest.
const WHY_MAX_BYTES: usize = 1_024;

fn bad(why: impl AsRef<str>) -> BadManifest {
    BadManifest(shortened(why.as_ref(), WHY_MAX_BYTES).into_owned())
}

/// When a dependency is needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// By the code itself.
    Normal,
    /// By its build script.
    Build,
    /// By its tests; of interest for the project at the top alone.
    Dev,
}

/// One dependency as declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The name it has in the manifest; features speak of it by this name.
    pub alias: String,
    /// The package it means.
    pub package: String,
    /// The versions it accepts.
    pub req: VersionReq,
    /// When it is needed.
    pub kind: Kind,
    /// Needed only when a feature asks for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
    /// Whether it wants the package's default features.
    pub default_features: bool,
    /// The features it wants besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// A target triple or a `cfg(..)` it is limited to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// A path, for the packages of a project that are not in any catalogue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// It comes from a place that is neither the catalogue nor a path.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub foreign: bool,
}

/// A manifest, as far as an installation is concerned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// The package's name.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// SPDX, as the author wrote it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    /// The lowest compiler it claims to work with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rust_version: Option<Version>,
    /// The edition it is written in.
    pub edition: String,
    /// The native library of which there may be only one in a build.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub links: Option<String>,
    /// Its features and what each turns on.
    #[serde(default)]
    pub features: BTreeMap<String, Vec<String>>,
    /// Its dependencies.
    #[serde(default)]
    pub dependencies: Vec<Dependency>,
}

impl Manifest {
    /// Reads `text`.
    pub fn read(text: &str) -> Result<Self, BadManifest> {
        let table: Table = text.parse().map_err(|error| bad(format!("{error}")))?;
        let package = table
            .get("package")
            .or_else(|| table.get("project"))
            .and_then(Value::as_table)
            .ok_or_else(|| BadManifest("it has no [package]".into()))?;
        let name = string(package, "name").ok_or_else(|| BadManifest("it has no name".into()))?;
        check_name(&name)?;
        let version = match string(package, "version") {
            None => Version::new(0, 0, 0),
            Some(text) => Version::parse(&text).map_err(|error| bad(format!("version {text:?}: {error}")))?,
        };
        let mut manifest = Self {
            name,
            version,
            license: string(package, "license"),
            rust_version: string(package, "rust-version").as_deref().map(rust_version).transpose()?,
            edition: string(package, "edition").unwrap_or_else(|| "2015".into()),
            links: string(package, "links"),
            features: features(&table)?,
            dependencies: Vec::new(),
        };
        manifest.read_dependencies(&table, None)?;
        if let Some(targets) = table.get("target").and_then(Value::as_table) {
            for (target, section) in targets {
                let section = section.as_table().ok_or_else(|| bad(format!("[target.{target}] is not a table")))?;
                manifest.read_dependencies(section, Some(target))?;
            }
        }
        manifest.add_implicit_features();
        Ok(manifest)
    }

    fn read_dependencies(&mut self, table: &Table, target: Option<&str>) -> Result<(), BadManifest> {
        let sections = [
            ("dependencies", Kind::Normal),
            ("build-dependencies", Kind::Build),
            ("build_dependencies", Kind::Build),
            ("dev-dependencies", Kind::Dev),
            ("dev_dependencies", Kind::Dev),
        ];
        for (section, kind) in sections {
            let Some(entries) = table.get(section).and_then(Value::as_table) else { continue };
            for (alias, value) in entries {
                self.dependencies.push(dependency(alias, value, kind, target)?);
            }
        }
        Ok(())
    }

    /// An optional dependency is a feature of its own name, unless some feature speaks of it as
    /// `dep:name`.
    fn add_implicit_features(&mut self) {
        let explicit: BTreeSet<&str> =
            self.features.values().flatten().filter_map(|value| value.strip_prefix("dep:")).collect();
        let implicit: Vec<String> = self
            .dependencies
            .iter()
            .filter(|dep| dep.optional && dep.kind != Kind::Dev)
            .map(|dep| &dep.alias)
            .filter(|alias| !explicit.contains(alias.as_str()) && !self.features.contains_key(*alias))
            .cloned()
            .collect();
        for alias in implicit {
            let value = vec![format!("dep:{alias}")];
            self.features.insert(alias, value);
        }
    }

    /// The lowest compiler this needs: what it says, or else what its edition needs.
    pub fn needs_rust(&self) -> Option<Version> {
        let edition = match self.edition.as_str() {
            "2018" => Some(Version::new(1, 31, 0)),
            "2021" => Some(Version::new(1, 56, 0)),
            "2024" => Some(Version::new(1, 85, 0)),
            _ => None,
        };
        self.rust_version.clone().max(edition)
    }
}

fn dependency(alias: &str, value: &Value, kind: Kind, target: Option<&str>) -> Result<Dependency, BadManifest> {
    let empty = Table::new();
    let (req, table) = match value {
        Value::String(req) => (Some(req.clone()), &empty),
        Value::Table(table) => (string(table, "version"), table),
        _ => return Err(bad(format!("the dependency {alias} is neither text nor a table"))),
    };
    let package = string(table, "package").unwrap_or_else(|| alias.to_owned());
    check_name(&package)?;
    let text = req.unwrap_or_else(|| "*".into());
    let req =
        VersionReq::parse(&text).map_err(|error| bad(format!("the dependency {alias} asks for {text:?}: {error}")))?;
    let flag = |name: &str| table.get(name).and_then(Value::as_bool);
    Ok(Dependency {
        alias: alias.to_owned(),
        package,
        req,
        kind,
        optional: flag("optional").unwrap_or(false),
        default_features: flag("default-features").or_else(|| flag("default_features")).unwrap_or(true),
        features: strings(table.get("features")),
        target: target.map(str::to_owned),
        path: string(table, "path"),
        foreign: ["git", "registry", "workspace"].iter().any(|key| table.contains_key(*key)),
    })
}

fn features(table: &Table) -> Result<BTreeMap<String, Vec<String>>, BadManifest> {
    let Some(features) = table.get("features") else { return Ok(BTreeMap::new()) };
    let features = features.as_table().ok_or_else(|| BadManifest("[features] is not a table".into()))?;
    Ok(features.iter().map(|(name, value)| (name.clone(), strings(Some(value)))).collect())
}

fn string(table: &Table, key: &str) -> Option<String> {
    table.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Names become file names here, so nothing else than a registry accepts is let in.
pub fn check_name(name: &str) -> Result<(), BadManifest> {
    let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
    if name.is_empty() || name.len() > NAME_MAX_BYTES || !plain {
        let shown: String = name.chars().take(NAME_MAX_BYTES).collect();
        return Err(bad(format!("{shown:?} is not a package name")));
    }
    Ok(())
}

/// A compiler version with one to three numbers, as in `1.95`.
pub fn rust_version(text: &str) -> Result<Version, BadManifest> {
    let wrong = || bad(format!("{text:?} is not a Rust version; write it like 1.95 or 1.95.0"));
    let core = text.trim().split(['-', '+', ' ']).next().unwrap_or_default();
    let mut numbers = core.split('.').map(|part| part.parse::<u64>().map_err(|_| wrong()));
    let major = numbers.next().ok_or_else(wrong)??;
    let minor = numbers.next().transpose()?.unwrap_or(0);
    let patch = numbers.next().transpose()?.unwrap_or(0);
    match numbers.next() {
        Some(_) => Err(wrong()),
        None => Ok(Version::new(major, minor, patch)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_optional_dependency_is_a_feature_unless_spoken_of_as_dep() {
        let manifest = Manifest::read(
            r#"
            [package]
            name = "a"
            version = "1.2.3"
            edition = "2021"
            [features]
            fast = ["dep:b"]
            [dependencies]
            b = { version = "1", optional = true }
            c = { version = "2", optional = true, package = "real-c", default-features = false }
            [target.'cfg(windows)'.build-dependencies]
            w = "0.5"
            "#,
        )
        .unwrap();
        assert_eq!(manifest.features.keys().collect::<Vec<_>>(), ["c", "fast"]);
        let c = &manifest.dependencies[1];
        assert_eq!((c.alias.as_str(), c.package.as_str(), c.default_features), ("c", "real-c", false));
        let w = &manifest.dependencies[2];
        assert_eq!((w.kind, w.target.as_deref()), (Kind::Build, Some("cfg(windows)")));
        assert_eq!(manifest.needs_rust(), Some(Version::new(1, 56, 0)));
    }

    #[test]
    fn names_and_compilers_that_cannot_be_are_refused() {
        for name in ["", "../a", "a/b", "a b", &"x".repeat(65)] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
        assert_eq!(rust_version("1.95").unwrap(), Version::new(1, 95, 0));
        assert_eq!(rust_version("1.97.0-nightly").unwrap(), Version::new(1, 97, 0));
        let long = Manifest::read(&format!("[package]\nname = \"a\"\nversion = \"{}\"", "9".repeat(100_000)));
        assert!(long.unwrap_err().to_string().len() < 1_200, "a reason does not repeat the manifest");
        assert!(rust_version("new").is_err() && rust_version("1.2.3.4").is_err());
    }
}
