//! What a package needs when certain features of it are on, as cargo's lock file sees it.
//!
//! The lock file lists more than a build uses: the dependencies of every platform, and optional
//! ones that a feature mentions weakly (`name?/feature`). Cargo refuses to work offline when one
//! of them cannot be found, so they are counted in here.

use std::collections::{BTreeMap, BTreeSet};

use super::manifest::{Dependency, Kind, Manifest};

/// One value of a feature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turns<'a> {
    /// Another feature on.
    Feature(&'a str),
    /// An optional dependency on.
    Dependency(&'a str),
    /// A feature of a dependency on. `weak`: without turning the dependency itself on.
    Of {
        /// The dependency.
        alias: &'a str,
        /// Its feature.
        feature: &'a str,
        /// Whether the dependency stays as it is.
        weak: bool,
    },
}

impl<'a> Turns<'a> {
    /// Reads one value of a feature.
    pub fn read(value: &'a str) -> Self {
        if let Some(alias) = value.strip_prefix("dep:") {
            return Self::Dependency(alias);
        }
        match value.split_once('/') {
            None => Self::Feature(value),
            Some((alias, feature)) => match alias.strip_suffix('?') {
                Some(alias) => Self::Of { alias, feature, weak: true },
                None => Self::Of { alias, feature, weak: false },
            },
        }
    }
}

/// A dependency that is needed, with all features that are asked of it.
#[derive(Debug)]
pub struct Needed<'a> {
    /// As declared.
    pub dependency: &'a Dependency,
    /// `default` among them when it is wanted.
    pub features: BTreeSet<String>,
}

/// The features that a declaration asks for by itself.
pub fn declared(dependency: &Dependency) -> BTreeSet<String> {
    let mut features: BTreeSet<String> = dependency.features.iter().cloned().collect();
    if dependency.default_features {
        features.insert("default".into());
    }
    features
}

/// Who looks at a weak mention (`name?/feature`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weak {
    /// The lock file: the dependency is listed.
    Counts,
    /// The build: the feature is on if the dependency is needed anyway.
    Follows,
}

/// What `manifest` needs with `requested` features on. `dev` counts what its tests need.
pub fn needed<'a>(manifest: &'a Manifest, requested: &BTreeSet<String>, dev: bool, weakly: Weak) -> Vec<Needed<'a>> {
    let mut weak_asked: Vec<(&str, &str)> = Vec::new();
    let mut on: BTreeSet<&str> = BTreeSet::new();
    let mut asked: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut open: Vec<&str> = requested.iter().map(String::as_str).collect();
    while let Some(feature) = open.pop() {
        let Some((feature, values)) = manifest.features.get_key_value(feature) else { continue };
        if !on.insert(feature) {
            continue;
        }
        for value in values {
            match Turns::read(value) {
                Turns::Feature(other) => open.push(other),
                Turns::Dependency(alias) => {
                    asked.entry(alias).or_default();
                }
                Turns::Of { alias, feature, weak: true } if weakly == Weak::Follows => {
                    weak_asked.push((alias, feature));
                }
                Turns::Of { alias, feature, weak } => {
                    asked.entry(alias).or_default().insert(feature);
                    if !weak {
                        open.push(alias);
                    }
                }
            }
        }
    }
    let always = |alias: &str| manifest.dependencies.iter().any(|dep| dep.alias == alias && !dep.optional);
    for (alias, feature) in weak_asked {
        if asked.contains_key(alias) || always(alias) {
            asked.entry(alias).or_default().insert(feature);
        }
    }
    let counted = manifest.dependencies.iter().filter(|dep| dev || dep.kind != Kind::Dev);
    counted
        .filter(|dep| !dep.optional || asked.contains_key(dep.alias.as_str()))
        .map(|dependency| {
            let mut features = declared(dependency);
            features.extend(asked.get(dependency.alias.as_str()).into_iter().flatten().map(|f| (*f).to_owned()));
            Needed { dependency, features }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest::read(
            r#"
            [package]
            name = "a"
            version = "1.0.0"
            [features]
            default = ["std"]
            std = ["b/std", "c?/std"]
            net = ["dep:d", "default"]
            [dependencies]
            b = { version = "1", default-features = false }
            c = { version = "1", optional = true }
            d = { version = "1", optional = true }
            e = { version = "1", optional = true }
            [dev-dependencies]
            t = "1"
            "#,
        )
        .unwrap()
    }

    #[test]
    fn features_turn_on_what_they_say_and_nothing_else() {
        let manifest = manifest();
        for (on, expected) in [
            ("", "b[]"),
            ("std", "b[std] c[default,std]"),
            ("net", "b[std] c[default,std] d[default]"),
            ("e", "b[] e[default]"),
            ("e/x", "b[]"),
        ] {
            let on: BTreeSet<String> = on.split_whitespace().map(str::to_owned).collect();
            let needed: Vec<String> = needed(&manifest, &on, false, Weak::Counts)
                .iter()
                .map(|n| format!("{}[{}]", n.dependency.alias, Vec::from_iter(n.features.clone()).join(",")))
                .collect();
            assert_eq!(needed.join(" "), expected, "{on:?}");
        }
        assert_eq!(needed(&manifest, &BTreeSet::new(), true, Weak::Counts).len(), 2);
        let std = BTreeSet::from(["std".to_owned()]);
        assert_eq!(needed(&manifest, &std, false, Weak::Follows).len(), 1);
        let both = BTreeSet::from(["std".to_owned(), "c".to_owned()]);
        let needed = needed(&manifest, &both, false, Weak::Follows);
        assert!(needed[1].features.contains("std"), "{needed:?}");
    }
}
