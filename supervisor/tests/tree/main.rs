//! The tree of actors over ports that live in memory.

mod broken;
mod children;
mod common;
mod ground;
mod journal;
mod life;
mod pages;
mod relay;
mod timers;
mod turns;
mod workers;
mod workers_common;
