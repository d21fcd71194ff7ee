//! Reads settings from a file and the environment, and refuses what it does not know.

use std::path::{Path, PathBuf};

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};

use super::{CLI_VARIABLES, Config};

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    /// The file named is not there or cannot be read.
    #[error("settings file {file}: {why}")]
    File {
        /// Which file.
        file: PathBuf,
        /// What the system said.
        why: std::io::Error,
    },
    /// A name that is no setting.
    #[error("{source_name}: there is no setting {path:?}{}", .meant.as_ref().map(|name| format!("; did you mean {name:?}?")).unwrap_or_default())]
    Unknown {
        /// The name as written, with its section.
        path: String,
        /// A setting that looks like it.
        meant: Option<String>,
        /// The file or the variable it stands in.
        source_name: String,
    },
    /// A value of the wrong kind, or a file that is not TOML.
    #[error("{0}")]
    Value(Box<figment::Error>),
    /// Values that are readable and not usable.
    #[error("{}", .0.join("\n"))]
    Unusable(Vec<String>),
}

/// The settings: defaults, then `file`, then variables `SKALD_…`. Not yet checked, so that flags can
/// still be laid over them; call [`Config::check`] after that.
pub fn load(file: Option<&Path>) -> Result<Config, Fault> {
    let mut given = Figment::new();
    if let Some(file) = file {
        std::fs::metadata(file).map_err(|why| Fault::File { file: file.to_owned(), why })?;
        given = given.merge(Toml::file_exact(file));
    }
    given = given.merge(Env::prefixed("SKALD_").ignore(CLI_VARIABLES).split("__"));
    read(&given)
}

pub(super) fn read(given: &Figment) -> Result<Config, Fault> {
    let value: figment::value::Dict = given.extract().map_err(|error| Fault::Value(Box::new(error)))?;
    for (name, inner) in &value {
        let section = Config::SECTIONS.iter().find(|(section, _)| section == name && !section.is_empty());
        match (section, inner.as_dict()) {
            (Some((_, settings)), Some(inner)) => {
                let mut keys = inner.keys();
                if let Some(key) = keys.find(|key| !settings.iter().any(|(known, _)| known == key)) {
                    return Err(unknown(given, &format!("{name}.{key}")));
                }
            }
            _ if Config::SETTINGS.iter().any(|(known, _)| known == name) => {}
            _ => return Err(unknown(given, name)),
        }
    }
    let whole = Figment::from(Serialized::defaults(Config::default())).merge(given);
    whole.extract().map_err(|error| Fault::Value(Box::new(error)))
}

fn unknown(given: &Figment, path: &str) -> Fault {
    let source_name = given.find_metadata(path).map_or_else(
        || "settings".to_owned(),
        |metadata| match metadata.source.as_ref().and_then(|source| source.file_path()) {
            Some(file) => file.display().to_string(),
            None => format!("variable SKALD_{}", path.to_ascii_uppercase().replace('.', "__")),
        },
    );
    Fault::Unknown { path: path.to_owned(), meant: meant(path), source_name }
}

/// The known setting that `path` most likely stands for: the same name in another section, or one
/// that differs by a slip of the finger.
fn meant(path: &str) -> Option<String> {
    let leaf = path.rsplit('.').next().unwrap_or(path);
    let known = Config::SECTIONS.iter().flat_map(|(section, settings)| {
        settings.iter().map(move |(name, _)| match *section {
            "" => (*name, (*name).to_owned()),
            section => (*name, format!("{section}.{name}")),
        })
    });
    known
        .map(|(name, full)| {
            // The section counts a little, so that of two equal names the one meant there wins.
            let section = full.strip_suffix(name) == path.strip_suffix(leaf);
            (strsim::jaro_winkler(name, leaf) + if section { 0.01 } else { 0.0 }, full)
        })
        .filter(|(near, _)| *near > 0.85)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, full)| full)
}
