//! What is kept in the store besides services themselves: what people publish, keep and set, what went wrong,
//! and whose all of it is.

pub mod configurations;
pub mod decisions;
pub mod deployments;
pub mod docket;
pub mod environments;
pub mod events;
pub mod findings;
pub mod forgetting;
pub mod incidents;
pub mod ownership;
pub mod place;
pub mod policies;
pub mod secrets;
pub mod tenancy;
