//! Our pager for the host transport.

use anyhow::Context;
use clap::Parser;
use conformance::hosted::{self, flaw::Flaw};

#[derive(Debug, Parser)]
#[command(about = "vmm-mm over standard input and output, as ipc-proto/SPEC.md has it in section 12")]
struct Args {
    /// Be wrong in this way, for the kit to find.
    #[arg(long, value_name = "NAME")]
    fault: Option<String>,
}

fn main() -> anyhow::Result<()> {
    let flaw = match Args::parse().fault {
        None => None,
        Some(name) => Some(Flaw::by_name(&name).with_context(|| {
            let names: Vec<&str> = Flaw::ALL.iter().map(|flaw| flaw.name()).collect();
            format!("no fault {name}; there are {}", names.join(", "))
        })?),
    };
    hosted::serve(flaw)
}
