//! The project's own files with the asset in them: as text in, as text out.

use std::collections::BTreeMap;
use std::fmt::Write;

use semver::VersionReq;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, Value};

use super::manifest::Dependency;
use super::reference::{Graph, Origin};

/// How cargo writes in a lock file that a package comes from the public registry.
const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";
/// The name of our source in cargo's configuration: the one that `cargo vendor` proposes.
const SOURCE: &str = "vendored-sources";

/// Why a file cannot be edited.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CannotEdit(pub String);

fn parse(what: &str, text: &str) -> Result<DocumentMut, CannotEdit> {
    text.parse().map_err(|error| CannotEdit(format!("{what} cannot be read: {error}")))
}

/// `.cargo/config.toml` with the registry replaced by the directory `vendor`. Everything else in
/// it stays as it was; a configuration that does so already is not touched.
pub fn config(text: Option<&str>, vendor: &str) -> Result<String, CannotEdit> {
    let text = text.unwrap_or_default();
    let mut doc = parse(".cargo/config.toml", text)?;
    let replaced = doc.get("source").and_then(|source| source.get("crates-io")).and_then(|io| io.get("replace-with"));
    if replaced.is_some() {
        return Ok(text.to_owned());
    }
    let sources = section(&mut doc, "source", ".cargo/config.toml")?;
    let mut set = |name: &str, key: &str, value: &str| {
        let source = sources.entry(name).or_insert_with(|| Item::Table(Table::new()));
        let table = source.as_table_like_mut().ok_or_else(|| CannotEdit(format!("[source.{name}] is not a table")))?;
        table.insert(key, toml_edit::value(value));
        Ok::<(), CannotEdit>(())
    };
    set("crates-io", "replace-with", SOURCE)?;
    set(SOURCE, "directory", vendor)?;
    Ok(doc.to_string())
}

fn section<'a>(doc: &'a mut DocumentMut, name: &str, what: &str) -> Result<&'a mut Table, CannotEdit> {
    let item = doc.entry(name).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    item.as_table_mut()
        .ok_or_else(|| CannotEdit(format!("[{name}] in {what} is not a table of its own; write it as one")))
}

/// `Cargo.toml` with `asset` among its dependencies. What the project requires already stays as it
/// is, apart from features that are missing.
pub fn manifest(
    text: &str,
    asset: &str,
    req: &VersionReq,
    features: &[String],
    known: Option<&Dependency>,
) -> Result<String, CannotEdit> {
    let mut doc = parse("Cargo.toml", text)?;
    let missing: Vec<&String> =
        features.iter().filter(|feature| known.is_none_or(|known| !known.features.contains(feature))).collect();
    if known.is_some() && missing.is_empty() {
        return Ok(text.to_owned());
    }
    let dependencies = section(&mut doc, "dependencies", "Cargo.toml")?;
    dependencies.set_implicit(false);
    match dependencies.get_mut(asset) {
        None => {
            let req = req.to_string();
            let value = if missing.is_empty() {
                Value::from(req)
            } else {
                let mut table = InlineTable::new();
                table.insert("version", req.into());
                table.insert("features", missing.into_iter().collect::<Array>().into());
                Value::from(table)
            };
            dependencies.insert(asset, Item::Value(value));
        }
        Some(item) => {
            if let Some(version) = item.as_str().map(str::to_owned) {
                let mut table = InlineTable::new();
                table.insert("version", version.into());
                *item = Item::Value(table.into());
            }
            let table = item.as_table_like_mut().ok_or_else(|| {
                CannotEdit(format!("the dependency {asset} in Cargo.toml is neither text nor a table"))
            })?;
            let list = table.entry("features").or_insert_with(|| toml_edit::value(Array::new()));
            let list = list
                .as_array_mut()
                .ok_or_else(|| CannotEdit(format!("the features of {asset} in Cargo.toml are not a list")))?;
            missing.into_iter().for_each(|feature| list.push(feature));
        }
    }
    Ok(doc.to_string())
}

/// `Cargo.lock` for `graph`, as cargo itself would write it.
pub fn lock(format: i64, graph: &Graph) -> String {
    let mut entries = BTreeMap::new();
    for local in &graph.locals {
        entries.insert((local.name.as_str(), &local.version), (None, &local.dependencies));
    }
    for package in &graph.packages {
        let checksum = package.checksum.as_deref().unwrap_or_default();
        entries.insert((package.name.as_str(), &package.version), (Some(checksum), &package.dependencies));
    }
    let alone = |name: &str| entries.keys().filter(|(other, _)| *other == name).count() == 1;
    let mut text = format!(
        "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = {format}\n"
    );
    for ((name, version), (checksum, dependencies)) in &entries {
        // Writing to a string does not fail.
        let _ = write!(text, "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n");
        if let Some(checksum) = checksum {
            let _ = writeln!(text, "source = \"{REGISTRY}\"");
            if !checksum.is_empty() {
                let _ = writeln!(text, "checksum = \"{checksum}\"");
            }
        }
        if !dependencies.is_empty() {
            text.push_str("dependencies = [\n");
            for dependency in *dependencies {
                let name = dependency.split(' ').next().unwrap_or(dependency);
                let _ = writeln!(text, " \"{}\",", if alone(name) { name } else { dependency });
            }
            text.push_str("]\n");
        }
    }
    text
}

/// The licences of a graph's packages, by `name version`.
pub fn licenses(graph: &Graph) -> BTreeMap<&str, Option<&str>> {
    let each = graph
        .licenses
        .iter()
        .flat_map(|licensed| licensed.packages.iter().map(|package| (package.as_str(), licensed.license.as_deref())));
    each.collect()
}

/// Whether anything of `graph` has to be laid out.
pub fn is_new(origin: Origin) -> bool {
    match origin {
        Origin::Catalogue | Origin::StandIn => true,
        Origin::Target => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_keeps_its_other_bytes() {
        let before = "# mine\n[build]\njobs = 2 # few\n";
        let after = config(Some(before), "vendor").unwrap();
        assert_eq!(
            after,
            "# mine\n[build]\njobs = 2 # few\n\n[source.crates-io]\nreplace-with = \"vendored-sources\"\n\n\
             [source.vendored-sources]\ndirectory = \"vendor\"\n"
        );
        assert_eq!(config(Some(&after), "vendor").unwrap(), after);
    }

    #[test]
    fn a_manifest_gets_one_line_more() {
        let req = VersionReq::parse("=1.2.3").unwrap();
        let before = "[package]\nname = \"p\"   # odd   spacing\n\n[dependencies]\nb = \"1\" # b\n\n[features]\n";
        let after = manifest(before, "a", &req, &[], None).unwrap();
        assert_eq!(
            after,
            "[package]\nname = \"p\"   # odd   spacing\n\n[dependencies]\nb = \"1\" # b\na = \"=1.2.3\"\n\n[features]\n"
        );
        let with = manifest("[package]\nname = \"p\"\n", "a", &req, &["x".into()], None).unwrap();
        assert_eq!(
            with,
            "[package]\nname = \"p\"\n\n[dependencies]\na = { version = \"=1.2.3\", features = [\"x\"] }\n"
        );
    }
}
