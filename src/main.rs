use std::process::ExitCode;

fn main() -> ExitCode {
    dockwright::cli::main()
}
