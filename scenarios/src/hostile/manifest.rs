//! A package's own manifest.

use actors::marketplace::manifest::{Manifest, check_name, rust_version};

/// Names are names, everything is bounded by the text, and what was read is kept as it is.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    match Manifest::read(text) {
        Ok(manifest) => {
            check_name(&manifest.name).expect("the name was checked");
            for dependency in &manifest.dependencies {
                check_name(&dependency.package).expect("every package's name was checked");
            }
            assert!(manifest.dependencies.len() + manifest.features.len() <= text.len());
            let kept = serde_json::to_vec(&manifest).expect("a manifest is kept as JSON");
            assert_eq!(serde_json::from_slice::<Manifest>(&kept).expect("what was kept is readable"), manifest);
            let _ = manifest.needs_rust();
        }
        Err(error) => assert!(error.to_string().len() <= 4_096, "a refusal of {} bytes", error.to_string().len()),
    }
    if let Ok(version) = rust_version(text) {
        assert!(version.pre.is_empty() && version.build.is_empty());
    }
}
