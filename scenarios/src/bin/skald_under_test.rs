//! The product's command line with the activities of the stories added.

fn main() -> std::process::ExitCode {
    scenarios::under_test::main()
}
