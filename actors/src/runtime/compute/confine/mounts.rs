//! The files that a program sees: a tree of its own, in memory, into which only what it needs is put.
//!
//! Each thing keeps the path that it has outside, so that what is said in settings and logs is true
//! inside too. Nothing else is there to be found: the node's settings and keys, other services'
//! artifacts and files do not have to be hidden one by one.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change,
    mount_remount, unmount,
};
use rustix::process::pivot_root;

use super::spec::Spec;

/// The directory on which the new tree is built; it is seen so by nobody else.
const STAGE: &str = "/tmp";
/// The machine's tree and the new one, while the latter is built.
const OLD: &str = "/old";
const NEW: &str = "/new";

/// What the tree itself may hold: directories and links.
const TREE_OPTIONS: &str = "mode=0755,size=1m";

/// Devices without an effect on anything else.
const DEVICES: &[&str] = &["null", "zero", "full", "random", "urandom"];
const LINKS: &[(&str, &str)] = &[
    ("/proc/self/fd", "dev/fd"),
    ("/proc/self/fd/0", "dev/stdin"),
    ("/proc/self/fd/1", "dev/stdout"),
    ("/proc/self/fd/2", "dev/stderr"),
    ("/tmp", "var/tmp"),
];

/// Gives this process its tree. It must have mounts of its own, and the right to change them.
pub fn enter(spec: &Spec) -> io::Result<()> {
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(said("closing the mounts"))?;
    let plain = MountFlags::NOSUID | MountFlags::NODEV;
    memory(STAGE, plain, TREE_OPTIONS)?;
    for dir in [OLD, NEW] {
        fs::create_dir(format!("{STAGE}{dir}"))?;
    }
    pivot_root(STAGE, format!("{STAGE}{OLD}")).map_err(said("entering the stage"))?;
    std::env::set_current_dir("/")?;
    // To be a root it has to be a mount.
    memory(NEW, plain, TREE_OPTIONS)?;
    devices(plain)?;
    let tmp = inside(Path::new("/tmp"));
    make(&tmp)?;
    memory(&tmp, plain, &format!("mode=1777,size={}", spec.tmp_bytes))?;
    make(&inside(Path::new("/run")))?;
    make(&inside(Path::new("/var")))?;
    for (to, at) in LINKS {
        symlink(to, Path::new(NEW).join(at))?;
    }
    let proc = inside(Path::new("/proc"));
    make(&proc)?;
    let quiet = plain | MountFlags::NOEXEC;
    mount("proc", &proc, "proc", quiet, None).map_err(said("showing its processes"))?;
    // After those above, for it may lie in one of them.
    for path in &spec.visible {
        show(path, true)?;
    }
    show(&spec.dir, true)?;
    if let Some(state) = &spec.state {
        show(state, false)?;
    }
    mount_remount(NEW, MountFlags::BIND | MountFlags::RDONLY | plain, "").map_err(said("closing the tree"))?;
    // The machine's tree leaves with its last name.
    std::env::set_current_dir(NEW)?;
    unmount(OLD, UnmountFlags::DETACH).map_err(said("leaving the machine's files"))?;
    pivot_root(".", ".").map_err(said("entering the tree"))?;
    unmount(".", UnmountFlags::DETACH).map_err(said("leaving the stage"))?;
    std::env::set_current_dir("/")
}

/// What went wrong, with what was being done.
fn said<E: std::fmt::Display>(doing: impl std::fmt::Display) -> impl FnOnce(E) -> io::Error {
    move |error| io::Error::other(format!("{doing}: {error}"))
}

fn memory(at: impl AsRef<Path>, flags: MountFlags, options: &str) -> io::Result<()> {
    let options = std::ffi::CString::new(options)?;
    mount("tmpfs", at.as_ref(), "tmpfs", flags, options.as_c_str()).map_err(said("making memory for files"))
}

fn outside(path: &Path) -> PathBuf {
    Path::new(OLD).join(path.strip_prefix("/").unwrap_or(path))
}

fn inside(path: &Path) -> PathBuf {
    Path::new(NEW).join(path.strip_prefix("/").unwrap_or(path))
}

fn make(dir: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

/// Puts `path` of the machine where it is there too. A link stays a link; what is missing is passed
/// over.
fn show(path: &Path, read_only: bool) -> io::Result<()> {
    let (from, to) = (outside(path), inside(path));
    let kind = match fs::symlink_metadata(&from) {
        Ok(meta) => meta.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    make(to.parent().unwrap_or(&to))?;
    if kind.is_symlink() {
        return match symlink(fs::read_link(&from)?, &to) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
    }
    if kind.is_dir() {
        make(&to)?;
    } else {
        fs::File::create(&to)?;
    }
    mount_bind_recursive(&from, &to).map_err(said(path.display()))?;
    for (at, held) in mounted_below(&to)? {
        let mut flags = MountFlags::BIND | MountFlags::NOSUID | MountFlags::NODEV | held;
        flags.set(MountFlags::RDONLY, read_only || held.contains(MountFlags::RDONLY));
        mount_remount(&at, flags, "").map_err(said(at.display()))?;
    }
    Ok(())
}

fn devices(plain: MountFlags) -> io::Result<()> {
    let dev = inside(Path::new("/dev"));
    make(&dev)?;
    memory(&dev, MountFlags::NOSUID, "mode=0755,size=64k")?;
    for name in DEVICES {
        let to = dev.join(name);
        fs::File::create(&to)?;
        mount_bind(Path::new(OLD).join("dev").join(name), &to).map_err(said(name))?;
    }
    let shm = dev.join("shm");
    make(&shm)?;
    memory(&shm, plain, "mode=1777,size=64m")?;
    fs::set_permissions(&dev, fs::Permissions::from_mode(0o755))
}

/// The mounts at and below `dir`, with what each is held to already: in a user namespace that may not
/// be taken away.
fn mounted_below(dir: &Path) -> io::Result<Vec<(PathBuf, MountFlags)>> {
    let table = fs::read_to_string(Path::new(OLD).join("proc/self/mountinfo"))?;
    let mut found = Vec::new();
    for line in table.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let (Some(at), Some(options)) = (fields.get(4), fields.get(5)) else { continue };
        let at = PathBuf::from(unescaped(at));
        if at.starts_with(dir) {
            found.push((at, flags(options)));
        }
    }
    Ok(found)
}

fn flags(options: &str) -> MountFlags {
    let mut flags = MountFlags::empty();
    for option in options.split(',') {
        flags |= match option {
            "ro" => MountFlags::RDONLY,
            "nosuid" => MountFlags::NOSUID,
            "nodev" => MountFlags::NODEV,
            "noexec" => MountFlags::NOEXEC,
            "noatime" => MountFlags::NOATIME,
            "nodiratime" => MountFlags::NODIRATIME,
            "relatime" => MountFlags::RELATIME,
            _ => MountFlags::empty(),
        };
    }
    flags
}

/// Blanks and their like stand in that table as `\040`.
fn unescaped(text: &str) -> String {
    let mut plain = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, others @ ..] = rest {
        let octal = others.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                plain.push(byte);
                rest = &others[3..];
            }
            None => {
                plain.push(*first);
                rest = others;
            }
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_table_is_read_as_it_is_written() {
        assert_eq!(unescaped("/a\\040b\\134c"), "/a b\\c");
        assert_eq!(unescaped("/plain\\"), "/plain\\");
        assert_eq!(
            flags("ro,nosuid,relatime,seclabel"),
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::RELATIME
        );
    }
}
