//! The work: activities, built-in definitions and the ports they need.
