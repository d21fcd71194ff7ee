//! What is put right by itself in an environment, and what a person decides (R069–R076).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::environment::Stage;
use super::fault::Fault;
use super::finding::DriftKind;
use super::ids::ServiceId;

/// What may be done about a kind of drift.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Remedy {
    /// It is corrected.
    Automatic,
    /// It is corrected when somebody approved it (R073).
    AfterApproval,
    /// Somebody must decide what to do (R074–R076).
    Review,
    /// Nothing: it is to stay as it is (H01).
    None,
}

/// What is corrected by itself in an environment. The default is that of the documents, by stage.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DriftPolicy {
    /// Kinds that somebody must look at although they could be corrected.
    #[serde(default)]
    pub review: BTreeSet<DriftKind>,
    /// What is done about a kind instead of what its stage says. It never lets anything be corrected
    /// by itself in production (R073).
    #[serde(default)]
    pub remedies: BTreeMap<DriftKind, Remedy>,
    /// Services and kinds that are not looked at (D204).
    #[serde(default)]
    pub ignore: BTreeSet<(ServiceId, DriftKind)>,
    /// Whether nothing at all may be wanted although something runs (D202).
    #[serde(default)]
    pub allow_empty: bool,
}

impl DriftPolicy {
    /// Every kind that something may be decided about.
    pub const KINDS: [DriftKind; 6] = [
        DriftKind::Image,
        DriftKind::Replicas,
        DriftKind::Configuration,
        DriftKind::Secret,
        DriftKind::Unmanaged,
        DriftKind::Missing,
    ];

    /// Whether it makes sense in `stage`.
    pub fn check(&self, stage: Stage) -> Result<(), Fault> {
        for (kind, remedy) in &self.remedies {
            let why = match (kind, remedy, stage) {
                (DriftKind::Held, _, _) => "what was rolled back stays away whatever a policy says",
                (DriftKind::Unmanaged, Remedy::Automatic | Remedy::AfterApproval, _) => {
                    "nobody wrote down how it should be, so nothing can put it right"
                }
                (_, Remedy::Automatic, Stage::Prod) => "in production nothing is put right without an approval",
                (
                    DriftKind::Image
                    | DriftKind::Replicas
                    | DriftKind::Configuration
                    | DriftKind::Secret
                    | DriftKind::Unmanaged
                    | DriftKind::Missing,
                    Remedy::Automatic | Remedy::AfterApproval | Remedy::Review | Remedy::None,
                    Stage::Dev | Stage::Test | Stage::Staging | Stage::Prod,
                ) => continue,
            };
            return Err(Fault::new(format!("remedies.{kind}"), why, "choose review or none"));
        }
        Ok(())
    }

    /// R069–R075: by kind and stage.
    pub fn remedy(&self, kind: DriftKind, stage: Stage) -> Remedy {
        match (kind, self.remedies.get(&kind)) {
            (DriftKind::Held, _) | (_, None) => self.by_stage(kind, stage),
            (_, Some(Remedy::Automatic)) if stage == Stage::Prod => Remedy::AfterApproval,
            (_, Some(remedy)) => *remedy,
        }
    }

    /// Whether it lets something be put right with less of a person's word than `other` does, or nothing
    /// at all be wanted.
    pub fn lets_more_than(&self, other: &Self, stage: Stage) -> bool {
        let more = |kind: DriftKind| self.remedy(kind, stage) < other.remedy(kind, stage);
        (self.allow_empty && !other.allow_empty) || Self::KINDS.into_iter().any(more)
    }

    fn by_stage(&self, kind: DriftKind, stage: Stage) -> Remedy {
        match kind {
            DriftKind::Held => Remedy::None,
            DriftKind::Unmanaged | DriftKind::Missing => Remedy::Review,
            DriftKind::Image | DriftKind::Replicas | DriftKind::Configuration | DriftKind::Secret
                if self.review.contains(&kind) =>
            {
                Remedy::Review
            }
            DriftKind::Image | DriftKind::Replicas | DriftKind::Configuration | DriftKind::Secret => match stage {
                Stage::Dev | Stage::Test | Stage::Staging => Remedy::Automatic,
                Stage::Prod => Remedy::AfterApproval,
            },
        }
    }
}
