//! Services on real clusters: real processes behind real gateways, deployed, looked after and changed
//! under real HTTP traffic. One binary, so that their waits overlap.

mod control;
mod deployment;
mod drift;
mod story;
