//! Carries out a plan, from wherever it stands.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags};

use super::apply::{Fault, Steps, unpacking};
use super::catalog::{self, Catalog};
use super::journal::{FileStep, Journal, PackageStep, RollbackToken, remove_all, sync_dir, write_durably};
use super::reference::Origin;
use super::tree::{self, Found};
use super::unpack;

/// Does what of `token` is not done yet.
pub fn forwards(
    journal: &Journal,
    token: &RollbackToken,
    catalog: &Catalog,
    steps: &dyn Steps,
    alive: &dyn Fn(),
) -> Result<(), Fault> {
    let vendor = journal.target.join(&token.vendor);
    let stage = journal.dir().join("stage");
    // Asked again after all was done: the answer is the same, whatever happened to the target since.
    if journal.dir().join("applied").exists() {
        return Ok(());
    }
    let mut staged = Vec::new();
    for step in &token.packages {
        alive();
        if in_place(journal, &vendor, step)? {
            continue;
        }
        put_on_stage(&stage.join(&step.dir), step, catalog, alive)?;
        staged.push(step);
        steps.done(&format!("staged {}", step.dir)).map_err(Fault::Interrupted)?;
    }
    if !staged.is_empty() {
        sync_all(&stage)?;
        fs::create_dir_all(&vendor).map_err(Fault::io("making the vendor directory"))?;
    }
    for step in staged {
        alive();
        let from = stage.join(&step.dir);
        let fingerprint = tree::fingerprint(&from).map_err(Fault::io(format!("checking {}", step.dir)))?;
        journal.lay(&step.dir, &fingerprint).map_err(Fault::io("writing the installation's journal"))?;
        steps.done(&format!("noted {}", step.dir)).map_err(Fault::Interrupted)?;
        put_into_place(&from, &vendor.join(&step.dir), &format!("{}/{}", token.vendor, step.dir))?;
        steps.done(&format!("laid {}", step.dir)).map_err(Fault::Interrupted)?;
    }
    if !token.packages.is_empty() {
        sync_dir(&vendor).map_err(Fault::io("making the vendored packages durable"))?;
    }
    for (n, step) in token.files.iter().enumerate() {
        replace(journal, n, step, steps)?;
    }
    remove_all(&stage).map_err(Fault::io("clearing the stage"))?;
    write_durably(&journal.dir().join("applied"), b"").map_err(Fault::io("writing the installation's journal"))?;
    steps.done("applied").map_err(Fault::Interrupted)
}

/// Whether a package stands where it should, as we put it there.
fn in_place(journal: &Journal, vendor: &Path, step: &PackageStep) -> Result<bool, Fault> {
    let at = vendor.join(&step.dir);
    let looking = || Fault::io(format!("looking at {}", step.dir));
    if tree::look(&at).map_err(looking())? == Found::Nothing {
        return Ok(false);
    }
    let noted = journal.laid(&step.dir).map_err(looking())?;
    if noted.is_some() && noted == Some(tree::fingerprint(&at).map_err(looking())?) {
        return Ok(true);
    }
    Err(Fault::Changed(format!("{} is not as it was put there", step.dir)))
}

fn put_on_stage(to: &Path, step: &PackageStep, catalog: &Catalog, alive: &dyn Fn()) -> Result<(), Fault> {
    remove_all(to).map_err(Fault::io("clearing the stage"))?;
    let package = &step.package;
    let name = format!("{} {}", package.name, package.version);
    let checksum = match (package.origin, &package.checksum) {
        (Origin::StandIn, _) => {
            return unpack::stand_in(package, to).map_err(Fault::io(format!("making the stand-in for {name}")));
        }
        (Origin::Catalogue | Origin::Target, Some(checksum)) => checksum,
        (Origin::Catalogue | Origin::Target, None) => {
            return Err(Fault::Refused(format!("the graph has no checksum for {name}; resolve it again")));
        }
    };
    let packed = match catalog.open(checksum) {
        Ok(Some(packed)) => packed,
        Ok(None) => return Err(Fault::Tampered(format!("the catalogue lost the archive of {name}; import it again"))),
        Err(catalog::Error::Store { doing, source }) => {
            return Err(Fault::Io { doing, source: io::Error::other(source) });
        }
        Err(error) => return Err(Fault::Refused(error.to_string())),
    };
    unpack::unpack(packed, catalog.limits(), package, checksum, to, alive).map_err(|error| unpacking(&name, error))
}

/// Makes everything on the stage durable, before any of it gets a name that counts.
fn sync_all(stage: &Path) -> Result<(), Fault> {
    let dir = File::open(stage).map_err(Fault::io("making the packages durable"))?;
    rustix::fs::syncfs(&dir).map_err(|error| Fault::io("making the packages durable")(error.into()))
}

fn put_into_place(from: &Path, to: &Path, shown: &str) -> Result<(), Fault> {
    match rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(rustix::io::Errno::EXIST) => Err(Fault::Changed(format!("{shown} appeared meanwhile"))),
        Err(error) => Err(Fault::io(format!("putting {shown} into place"))(error.into())),
    }
}

/// Puts the new version of one file into place.
fn replace(journal: &Journal, n: usize, step: &FileStep, steps: &dyn Steps) -> Result<(), Fault> {
    let at = journal.target.join(&step.path);
    let replacing = || Fault::io(format!("replacing {}", step.path));
    let found = tree::look(&at).map_err(replacing())?;
    if journal.intended(n) && found == Found::File(step.after.clone()) {
        return Ok(());
    }
    if found != step.before.clone().map_or(Found::Nothing, Found::File) {
        return Err(Fault::Changed(format!("{} was changed while the installation was under way", step.path)));
    }
    journal.intend(n).map_err(Fault::io("writing the installation's journal"))?;
    steps.done(&format!("intends {}", step.path)).map_err(Fault::Interrupted)?;
    let parent = at.parent().unwrap_or(&journal.target);
    fs::create_dir_all(parent).map_err(replacing())?;
    let new = journal.version("after", n);
    if step.before.is_none() {
        put_into_place(&new, &at, &step.path)?;
    } else {
        fs::rename(&new, &at).map_err(replacing())?;
    }
    sync_dir(parent).map_err(replacing())?;
    steps.done(&format!("replaced {}", step.path)).map_err(Fault::Interrupted)
}
