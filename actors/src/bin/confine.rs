//! The launcher of tenants' processes as a program of its own, for programs that run nodes and are
//! not `skald`.

fn main() -> std::process::ExitCode {
    actors::runtime::compute::confine::main(std::env::args().skip(2))
}
