//! Decides everything an installation will change, and makes it durable before anything changes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use semver::Version;
use sha2::{Digest, Sha256};

use super::apply::{Context, Fault, Input, Steps, requirement};
use super::edits;
use super::journal::{FileStep, JOURNALS, Journal, PackageStep, RollbackToken, sync_dir, write_durably};
use super::manifest::check_name;
use super::project::{INSTALLED, Project, RECORDS, read_text};
use super::reference::{GraphPackage, InstalledArtifactRef, Origin};
use super::targets::Allowed;
use super::tree::{self, FileState, Found};

/// The mode of files that were not there before.
const NEW_FILE_MODE: u32 = 0o644;

/// A fingerprint of what is asked for.
pub fn asked(input: &Input) -> String {
    let text = serde_json::to_string(input).unwrap_or_default();
    hex::encode(Sha256::digest(text.as_bytes()))
}

/// Plans the installation and publishes the plan.
pub fn make(
    journal: &Journal,
    context: &Context,
    input: &Input,
    asked: String,
    allowed: &Allowed,
    steps: &dyn Steps,
) -> Result<RollbackToken, Fault> {
    let draft = journal.draft();
    // A draft without a token changed nothing yet.
    super::journal::remove_all(&draft).map_err(Fault::io("removing an unfinished journal"))?;
    let project = Project::look(&journal.target, allowed)?;
    let packages = packages(&project, input)?;
    let installed = installed(context, input, &project.vendor)?;
    let texts = texts(journal, &project, input, &installed)?;

    fs::create_dir(&draft).map_err(Fault::io("making the installation's journal in the target"))?;
    steps.done("draft").map_err(Fault::Interrupted)?;
    let mut files = Vec::new();
    let writing = || Fault::io("writing the installation's journal");
    for (path, text) in texts {
        let n = files.len();
        let before = match tree::look(&journal.target.join(&path)).map_err(Fault::io(format!("looking at {path}")))? {
            Found::Nothing => None,
            Found::File(state) => Some(state),
            Found::Other => {
                return Err(Fault::Unusable(format!("{path} in the target is a link or a directory; make it a file")));
            }
        };
        let mode = before.as_ref().map_or(NEW_FILE_MODE, |state| state.mode);
        let after = FileState { sha256: hex::encode(Sha256::digest(text.as_bytes())), mode };
        if before.as_ref() == Some(&after) {
            continue;
        }
        if before.is_some() {
            keep(&journal.target.join(&path), &draft.join("before"), n).map_err(writing())?;
        }
        let new = draft.join("after").join(n.to_string());
        write_durably(&new, text.as_bytes()).map_err(writing())?;
        fs::set_permissions(&new, fs::Permissions::from_mode(mode)).map_err(writing())?;
        own_like(&journal.target.join(&path), &new);
        files.push(FileStep { path, before, after });
    }
    steps.done("kept files").map_err(Fault::Interrupted)?;
    let token = RollbackToken {
        id: journal.id.clone(),
        key: context.key.clone(),
        saga: context.saga.clone(),
        asked,
        created: created(journal, &project)?,
        vendor: project.vendor,
        packages,
        files,
        installed,
    };
    let bytes = serde_json::to_vec_pretty(&token).map_err(|error| Fault::Refused(error.to_string()))?;
    write_durably(&draft.join("token.json"), &bytes).map_err(writing())?;
    sync_dir(&journal.target).map_err(writing())?;
    steps.done("token").map_err(Fault::Interrupted)?;
    publish(journal, token, steps)
}

/// Gives a complete draft its place.
pub fn publish(journal: &Journal, token: RollbackToken, steps: &dyn Steps) -> Result<RollbackToken, Fault> {
    let publishing = || Fault::io("publishing the installation's journal");
    let dir = journal.dir();
    let parent = journal.target.join(RECORDS).join(JOURNALS);
    fs::create_dir_all(&parent).map_err(publishing())?;
    steps.done("records").map_err(Fault::Interrupted)?;
    fs::rename(journal.draft(), &dir).map_err(publishing())?;
    sync_dir(&parent).map_err(publishing())?;
    sync_dir(&journal.target).map_err(publishing())?;
    steps.done("journal").map_err(Fault::Interrupted)?;
    Ok(token)
}

/// The packages to lay out, when nothing stands in their way.
fn packages(project: &Project, input: &Input) -> Result<Vec<PackageStep>, Fault> {
    let mut packages = Vec::new();
    for package in &input.graph.packages {
        check_name(&package.name).map_err(|error| Fault::Refused(error.to_string()))?;
        let same =
            |manifest: &super::manifest::Manifest| manifest.name == package.name && manifest.version == package.version;
        let there = project.vendored.iter().find(|vendored| same(&vendored.release.manifest));
        if let Some(there) = there {
            let checksum = there.release.checksum.as_str();
            let serves = match package.origin {
                Origin::Catalogue | Origin::Target => Some(checksum) == package.checksum.as_deref(),
                // Any package serves as a stand-in that has the features.
                Origin::StandIn => {
                    package.features.iter().all(|feature| there.release.manifest.features.contains_key(feature))
                }
            };
            if serves {
                continue;
            }
            return Err(Fault::Unusable(format!(
                "{}/{} in the target holds another {} {}; remove it or vendor the project anew",
                project.vendor, there.dir, package.name, package.version
            )));
        }
        if !edits::is_new(package.origin) {
            return Err(Fault::Changed(format!("{} {} was in the target and is gone", package.name, package.version)));
        }
        let dir = directory(&package.name, &package.version);
        let stands = tree::look(&project.dir.join(&project.vendor).join(&dir));
        if stands.map_err(Fault::io(format!("looking for {dir}")))? != Found::Nothing {
            return Err(Fault::Unusable(format!("{}/{dir} in the target is in the way; remove it", project.vendor)));
        }
        packages.push(PackageStep { dir, package: package.clone() });
    }
    Ok(packages)
}

fn directory(name: &str, version: &Version) -> String {
    format!("{name}-{version}")
}

/// What the target will remember, one reference per package that is added.
fn installed(context: &Context, input: &Input, vendor: &str) -> Result<Vec<InstalledArtifactRef>, Fault> {
    let req = requirement(input)?;
    let licenses = edits::licenses(&input.graph);
    let is_asset = |package: &GraphPackage| package.name == input.asset && req.matches(&package.version);
    if !input.graph.packages.iter().any(is_asset) {
        return Err(Fault::Refused(format!("the graph has no {} {req}; resolve it again", input.asset)));
    }
    let added = input.graph.packages.iter().filter(|package| edits::is_new(package.origin) || is_asset(package));
    let refer = |package: &GraphPackage| InstalledArtifactRef {
        asset_id: input.asset.clone(),
        name: package.name.clone(),
        version: package.version.clone(),
        checksum: package.checksum.clone().filter(|_| package.origin != Origin::StandIn),
        path: format!("{vendor}/{}", directory(&package.name, &package.version)),
        license: licenses
            .get(format!("{} {}", package.name, package.version).as_str())
            .copied()
            .flatten()
            .map(str::to_owned),
        installed_at: context.now,
        saga: context.saga.clone(),
    };
    Ok(added.map(refer).collect())
}

/// The project's files as they will be, in the order in which they are put into place: cargo sees
/// the new dependency only when everything it needs is there.
fn texts(
    journal: &Journal,
    project: &Project,
    input: &Input,
    installed: &[InstalledArtifactRef],
) -> Result<Vec<(String, String)>, Fault> {
    let req = requirement(input)?;
    let known = project.requires(&input.asset);
    if let Some(known) = known {
        let mut chosen = input.graph.packages.iter().filter(|package| package.name == input.asset);
        if known.package != input.asset || !chosen.any(|package| known.req.matches(&package.version)) {
            return Err(Fault::Unusable(format!(
                "the project requires {} {} already, which excludes {req}; change one of them",
                known.package, known.req
            )));
        }
    }
    let editing = |error: edits::CannotEdit| Fault::Unusable(error.to_string());
    let config = read_text(&project.dir.join(".cargo/config.toml"))?;
    let manifest = read_text(&project.dir.join("Cargo.toml"))?.unwrap_or_default();
    let records = serde_json::to_string_pretty(installed).map_err(|error| Fault::Refused(error.to_string()))?;
    Ok(vec![
        (format!("{RECORDS}/{INSTALLED}/{}.json", journal.id), records),
        (".cargo/config.toml".into(), edits::config(config.as_deref(), &project.vendor).map_err(editing)?),
        ("Cargo.lock".into(), edits::lock(project.lock_format, &input.graph)),
        ("Cargo.toml".into(), edits::manifest(&manifest, &input.asset, &req, &input.features, known).map_err(editing)?),
    ])
}

/// The directories that will be made, the deepest first.
fn created(journal: &Journal, project: &Project) -> Result<Vec<String>, Fault> {
    let others = journal.made_by_others().map_err(Fault::io("reading the target's journals"))?;
    let mut vendor: Vec<String> =
        Path::new(&project.vendor).ancestors().map(|path| path.to_string_lossy().into_owned()).collect();
    vendor.retain(|path| !path.is_empty());
    let ours = [format!("{RECORDS}/{INSTALLED}"), format!("{RECORDS}/{JOURNALS}"), RECORDS.into(), ".cargo".into()];
    let mut created = Vec::new();
    for dir in ours.into_iter().chain(vendor) {
        match fs::symlink_metadata(journal.target.join(&dir)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => created.push(dir),
            Err(source) => return Err(Fault::Io { doing: format!("looking at {dir}"), source }),
            Ok(about) if !about.is_dir() => {
                return Err(Fault::Unusable(format!("{dir} in the target is not a directory of its own; make it one")));
            }
            Ok(_) if others.contains(&dir) => created.push(dir),
            Ok(_) => {}
        }
    }
    Ok(created)
}

/// Keeps the very file, where the disk can give one file two names: restoring then brings back
/// its owner and times too.
fn keep(file: &Path, to: &Path, n: usize) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let copy = to.join(n.to_string());
    if fs::hard_link(file, &copy).is_err() {
        fs::copy(file, &copy)?;
    }
    File::open(&copy)?.sync_all()?;
    sync_dir(to)
}

/// The new file belongs to whom the old one belonged. Where that is not allowed it stays ours.
fn own_like(old: &Path, new: &Path) {
    use std::os::unix::fs::MetadataExt;
    if let Ok(about) = fs::symlink_metadata(old) {
        let _ = std::os::unix::fs::chown(new, Some(about.uid()), Some(about.gid()));
    }
}
