//! What befalls a cluster: nodes and servers that die, freeze, are cut off or have no room. One
//! program, because each of these stories mostly waits, and so they do it together.

mod deployment_kills;
mod full_disk;
mod kills;
mod lost;
mod real_faults;
mod takeover;
mod up;
