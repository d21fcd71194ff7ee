//! Which platform an installation is for, and whether a dependency's `cfg(..)` speaks of it.

/// A platform, as the compiler describes it.
#[derive(Debug, Clone)]
pub struct Platform {
    triple: String,
    flags: Vec<String>,
    values: Vec<(String, String)>,
}

impl Platform {
    /// The platform this program was built for.
    pub fn host() -> Self {
        let (os, arch, family) = (std::env::consts::OS, std::env::consts::ARCH, std::env::consts::FAMILY);
        let env = if cfg!(target_env = "gnu") {
            "gnu"
        } else if cfg!(target_env = "musl") {
            "musl"
        } else {
            ""
        };
        let vendor = if cfg!(target_vendor = "apple") { "apple" } else { "unknown" };
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut values = vec![
            pair("target_os", os),
            pair("target_arch", arch),
            pair("target_family", family),
            pair("target_env", env),
            pair("target_vendor", vendor),
            pair("target_abi", ""),
            pair("target_endian", if cfg!(target_endian = "little") { "little" } else { "big" }),
            pair("target_pointer_width", &usize::BITS.to_string()),
            pair("panic", "unwind"),
        ];
        values.extend(["8", "16", "32", "64", "ptr"].map(|width| pair("target_has_atomic", width)));
        let triple = match env {
            "" => format!("{arch}-{vendor}-{os}"),
            env => format!("{arch}-{vendor}-{os}-{env}"),
        };
        Self { triple, flags: vec![family.to_owned(), "debug_assertions".to_owned()], values }
    }

    /// Whether a dependency limited to `target` is used here. What cannot be read counts as used:
    /// a package too many does no harm, one too few breaks the build.
    pub fn uses(&self, target: &str) -> bool {
        let target = target.trim();
        let Some(inner) = target.strip_prefix("cfg(").and_then(|rest| rest.strip_suffix(')')) else {
            return target == self.triple;
        };
        let mut rest = inner;
        self.expression(&mut rest).filter(|_| rest.trim().is_empty()).unwrap_or(true)
    }

    fn expression(&self, rest: &mut &str) -> Option<bool> {
        let word = take_word(rest);
        if word.is_empty() {
            return None;
        }
        if take(rest, "(") {
            let mut parts = Vec::new();
            while !take(rest, ")") {
                parts.push(self.expression(rest)?);
                if !take(rest, ",") && !rest.trim_start().starts_with(')') {
                    return None;
                }
            }
            return match (word, parts.as_slice()) {
                ("not", [part]) => Some(!part),
                ("all", parts) => Some(parts.iter().all(|part| *part)),
                ("any", parts) => Some(parts.iter().any(|part| *part)),
                _ => None,
            };
        }
        if take(rest, "=") {
            if !take(rest, "\"") {
                return None;
            }
            let (value, after) = rest.split_once('"')?;
            *rest = after;
            return Some(self.values.iter().any(|(key, known)| key == word && known == value));
        }
        Some(match word {
            "true" => true,
            "false" => false,
            flag => self.flags.iter().any(|known| known == flag),
        })
    }
}

fn take_word<'a>(rest: &mut &'a str) -> &'a str {
    let text = rest.trim_start();
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let (word, after) = text.split_at(end);
    *rest = after;
    word
}

fn take(rest: &mut &str, what: &str) -> bool {
    match rest.trim_start().strip_prefix(what) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}

#[cfg(all(test, target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
mod tests {
    use super::*;

    #[test]
    fn cfg_is_read_as_the_compiler_reads_it() {
        let host = Platform::host();
        for (target, used) in [
            ("cfg(unix)", true),
            ("cfg(windows)", false),
            ("cfg(not(windows))", true),
            ("cfg(any(windows, target_os = \"linux\"))", true),
            ("cfg(all(unix, not(target_os = \"linux\"),))", false),
            ("cfg(target_arch=\"wasm32\")", false),
            ("cfg(all())", true),
            ("cfg(any())", false),
            ("cfg(target_has_atomic = \"64\")", true),
            ("x86_64-unknown-linux-gnu", true),
            ("x86_64-pc-windows-msvc", false),
            ("cfg(this is not one)", true),
        ] {
            assert_eq!(host.uses(target), used, "{target}");
        }
    }
}
