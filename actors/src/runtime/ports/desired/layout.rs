//! Which files of a commit are an environment.

use std::collections::BTreeMap;

use supervisor::activity::Failure;

use super::{Commit, Desired, Empty, Limits, file};
use crate::runtime::model::ids::label;
use crate::runtime::model::{EnvironmentId, ServiceId};

/// The most faults of one reading that are told; nobody reads more at once.
const FAULTS_MAX: usize = 20;

/// What stands in the directory of an environment.
pub struct Entry {
    /// Its name in the directory.
    pub name: String,
    /// What it is.
    pub kind: Kind,
}

/// What an entry is.
pub enum Kind {
    /// A file, with its size in bytes and what it is read by.
    File {
        /// In bytes.
        size: u64,
        /// Names its content.
        object: String,
    },
    /// A directory, a link or another repository.
    Other,
}

/// A file that is read as a service.
pub struct Chosen {
    /// The service that it should be about.
    pub service: ServiceId,
    /// Where it stands in the repository.
    pub path: String,
    /// Names its content.
    pub object: String,
}

/// The directory of `environment`, with the slash at its end.
pub fn directory(environment: &EnvironmentId) -> Result<String, Failure> {
    match environment.as_str() {
        name @ ("." | "..") => Err(Failure::named("DesiredStateInvalid", format!("{name:?} names no environment"))),
        name => Ok(format!("environments/{name}/")),
    }
}

/// Of `entries` in `directory`, the ones to read. What looks like a service and is none is refused:
/// passing over it would end the service. Anything else may stand there.
pub fn choose(directory: &str, entries: Vec<Entry>, limits: &Limits) -> Result<Vec<Chosen>, Failure> {
    let (mut chosen, mut faults, mut total) = (Vec::new(), Vec::new(), 0u64);
    for Entry { name, kind } in entries {
        let path = format!("{directory}{name}");
        if name.ends_with(".yml") {
            faults.push(format!("{path}: it is not read; let its name end in .yaml"));
        }
        let Some(stem) = name.strip_suffix(".yaml") else { continue };
        let (size, object) = match kind {
            Kind::File { size, object } => (size, object),
            Kind::Other => {
                faults.push(format!("{path}: it is no file; put the file itself there"));
                continue;
            }
        };
        match label("service", stem).and_then(|()| ServiceId::new(stem)) {
            Ok(service) => chosen.push(Chosen { service, path: path.clone(), object }),
            Err(fault) => {
                faults.push(format!("{path}: its name is that of no service: {}; {}", fault.fault, fault.mend))
            }
        }
        if size > limits.file_bytes {
            return large(format!("{path} has {size} bytes; at most {} are read", limits.file_bytes));
        }
        total = total.saturating_add(size);
    }
    if chosen.len() > limits.files {
        return large(format!("{directory} has {} services; at most {} are read", chosen.len(), limits.files));
    }
    if total > limits.total_bytes {
        return large(format!("{directory} has {total} bytes; at most {} are read", limits.total_bytes));
    }
    if faults.is_empty() { Ok(chosen) } else { Err(invalid(faults)) }
}

fn large<T>(why: String) -> Result<T, Failure> {
    Err(Failure::named("DesiredStateTooLarge", why))
}

/// Reads the `texts` of what was chosen, in the same order.
pub fn understand(
    commit: Commit,
    environment: &EnvironmentId,
    empty: Empty,
    chosen: Vec<Chosen>,
    texts: Vec<Vec<u8>>,
) -> Result<Desired, Failure> {
    let (mut services, mut faults) = (BTreeMap::new(), Vec::new());
    for (Chosen { service, path, object: _ }, bytes) in chosen.into_iter().zip(texts) {
        let Ok(text) = String::from_utf8(bytes) else {
            faults.push(format!("{path}: it is not UTF-8; save it as UTF-8"));
            continue;
        };
        match file::read(&path, &text, environment, &service) {
            Ok(spec) => drop(services.insert(service, spec)),
            Err(more) => faults.extend(more),
        }
    }
    if !faults.is_empty() {
        return Err(invalid(faults));
    }
    if services.is_empty() && empty == Empty::Refused {
        let why = format!(
            "commit {commit} wants nothing in {environment}, which would end every service there; \
             add services below environments/{environment}, or allow it to be empty"
        );
        return Err(Failure::named("DesiredStateEmpty", why));
    }
    Ok(Desired { commit, services })
}

fn invalid(mut faults: Vec<String>) -> Failure {
    let more = faults.len().saturating_sub(FAULTS_MAX);
    faults.truncate(FAULTS_MAX);
    if more > 0 {
        faults.push(format!("and {more} more"));
    }
    Failure::named("DesiredStateInvalid", faults.join("\n"))
}
