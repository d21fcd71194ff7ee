//! The binary `skald`.

/// An actor for every saga and attempt means many small allocations that other threads free.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    node::cli::main()
}
