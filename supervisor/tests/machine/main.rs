//! The machine by itself: what a definition means, what a decision costs, what a step leaves behind.

mod amounts;
mod bounds;
mod busy;
mod common;
mod definition_bounds;
mod edges;
mod expression_bounds;
mod expression_numbers;
mod language;
mod page;
mod properties;
mod speed;
mod stories;
mod turns;
