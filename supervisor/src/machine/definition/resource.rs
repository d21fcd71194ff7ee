//! What a Task does: the kinds of `Resource`.

use std::sync::Arc;

use super::fault::meant;

/// What a Task does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resource {
    /// `activity:NAME`: work, in this node or on the bus.
    Activity(Arc<str>),
    /// `task:human`: a person decides.
    Human,
    /// `signal:NAME`: waits for a signal.
    Signal(Arc<str>),
    /// `saga:NAME`: runs a child, of the version that was there when this definition was deployed.
    Saga {
        /// What it runs.
        definition: Arc<str>,
        /// `saga:NAME@latest`: of the newest version there is when it is started.
        latest: bool,
    },
    /// `event:NAME`: publishes an event and goes on.
    Event(Arc<str>),
}

const KINDS: [&str; 5] = ["activity", "task", "signal", "saga", "event"];
/// What stands behind the name of a child that is to be the newest.
const LATEST: &str = "latest";
/// The longest name after the colon: it stands in subjects and headers.
const NAME_MAX_BYTES: usize = 80;

impl Resource {
    /// Reads `kind:NAME` or the full form. The error says what is wrong and what would be right.
    pub fn read(text: &str) -> Result<Self, (String, String)> {
        let short = match text.strip_prefix("arn:") {
            // arn:PARTITION:states:REGION:ACCOUNT:KIND:NAME
            Some(rest) => match rest.splitn(5, ':').collect::<Vec<_>>().as_slice() {
                [_, "states", _, _, short] => short,
                _ => text,
            },
            None => text,
        };
        let Some((kind, name)) = short.split_once(':') else {
            return Err((format!("{text:?} names no kind of resource"), format!("write it as activity:{text}")));
        };
        let (name, version) = match (kind, name.split_once('@')) {
            ("saga", Some((name, version))) => (name, Some(version)),
            (_, Some(_) | None) => (name, None),
        };
        if let Some(version) = version.filter(|version| *version != LATEST) {
            return Err((
                format!("{version:?} is no version that can be asked for"),
                format!(
                    "write saga:{name} for the version that is there when this is deployed, or saga:{name}@{LATEST} \
                     for the newest when it is started"
                ),
            ));
        }
        let usable = !name.is_empty()
            && name.len() <= NAME_MAX_BYTES
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
            && !name.starts_with('.')
            && !name.ends_with('.')
            && !name.contains("..");
        if KINDS.contains(&kind) && !usable {
            return Err((
                format!("{name:?} is not a usable name"),
                format!("use letters, digits and any of \"-_.\", at most {NAME_MAX_BYTES} of them"),
            ));
        }
        match kind {
            "activity" => Ok(Self::Activity(name.into())),
            "signal" => Ok(Self::Signal(name.into())),
            "saga" => Ok(Self::Saga { definition: name.into(), latest: version.is_some() }),
            "event" => Ok(Self::Event(name.into())),
            "task" if name == "human" => Ok(Self::Human),
            "task" => Err((format!("there is no task:{name}"), "the one kind of task is task:human".into())),
            "arn" => Err((
                format!("{text:?} is a service that Skald does not call"),
                "write an activity that calls it, and name it: activity:NAME".into(),
            )),
            other => Err((
                format!("{other:?} is not a kind of resource"),
                meant(other, KINDS).map_or_else(
                    || "use activity:NAME, task:human, signal:NAME, saga:NAME or event:NAME".into(),
                    |kind| format!("did you mean {kind}:{name}?"),
                ),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_names_map_onto_the_same_things() {
        let full = "arn:aws:states:eu-west-1:123456789012:activity:license.grant";
        assert_eq!(Resource::read(full), Resource::read("activity:license.grant"));
        assert!(Resource::read("arn:aws:states:::lambda:invoke").is_err());
        assert_eq!(Resource::read("task:human"), Ok(Resource::Human));
    }

    #[test]
    fn a_child_is_of_the_version_at_hand_unless_it_says_otherwise() {
        for (text, latest) in [("saga:pack", false), ("saga:pack@latest", true)] {
            assert_eq!(Resource::read(text), Ok(Resource::Saga { definition: "pack".into(), latest }));
        }
        let (what, mend) = Resource::read("saga:pack@2").unwrap_err();
        assert!(what.contains("\"2\"") && mend.contains("saga:pack@latest"), "{what}; {mend}");
        assert!(Resource::read("activity:pack@latest").is_err(), "activities have no versions");
    }

    #[test]
    fn a_misspelt_kind_is_recognised() {
        assert_eq!(Resource::read("activty:x").unwrap_err().1, "did you mean activity:x?");
        assert_eq!(Resource::read("license.grant").unwrap_err().1, "write it as activity:license.grant");
    }
}
