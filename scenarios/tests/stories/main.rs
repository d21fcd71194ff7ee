//! Stories on clusters of their own, one a file. That of traces stands beside: it sets the subscriber of
//! its whole process.

mod circle;
mod installation;
mod promises;
mod remote_worker;
mod workers;
