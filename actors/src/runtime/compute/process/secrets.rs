//! Values of secrets, read when a process is started and forgotten when it runs.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::super::set::{SecretRef, Set};
use crate::runtime::ports::secrets::{Secret, SecretName, SecretStore, Which};

/// Where they are kept.
#[derive(Clone)]
pub struct Secrets(pub Arc<dyn SecretStore>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// What a process finds in its variables.
pub type Values = BTreeMap<String, Secret>;

/// The values that `set` needs, or why they are not at hand: without the values.
pub async fn values(secrets: Option<&Secrets>, set: &Set) -> Result<Values, String> {
    let mut values = Values::new();
    for (variable, SecretRef { name, version }) in &set.secrets {
        let Some(Secrets(store)) = secrets else { return Err("no secrets are kept here".to_owned()) };
        let at = SecretName::new(name).map_err(|fault| fault.to_string())?;
        let read = store.get(&at, Which::Number(*version)).await;
        let (_, value) =
            read.map_err(|failure| format!("version {version} of the secret {name}: {}", failure.cause))?;
        values.insert(variable.clone(), value);
    }
    Ok(values)
}
