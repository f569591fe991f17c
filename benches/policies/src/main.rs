//! larder's eviction beside the textbook's: see benches/README.md.

use policies::page::{self, Block};
use policies::{show, trace};
use std::error::Error;
use std::process::ExitCode;

const USAGE: &str = "\
policies traces [--traces DIR]        the 29 rows of recorded traces
policies synthetic                    Zipf, scans, loops, drift
policies adaptivity [--traces DIR]    a change of habits and back
policies all [--traces DIR]
Each with --readme: writes its tables to benches/README.md too.";

fn run() -> Result<(), Box<dyn Error>> {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let readme = args.iter().position(|arg| arg == "--readme").map(|i| args.remove(i)).is_some();
    let named = match args.iter().position(|arg| arg == "--traces") {
        Some(i) if i + 1 < args.len() => args.drain(i..i + 2).nth(1),
        Some(_) => return Err("--traces needs a value".into()),
        None => None,
    };
    let [command] = args.as_slice() else {
        return Err(USAGE.into());
    };
    let traces = || -> Result<_, Box<dyn Error>> { Ok(trace::load(&trace::directory(named)?)?) };
    let blocks: Vec<Block> = match command.as_str() {
        "traces" => show::recorded(&traces()?),
        "synthetic" => show::synthetic(),
        "adaptivity" => show::adaptivity(&traces()?),
        "all" => {
            let traces = traces()?;
            let mut blocks = show::recorded(&traces);
            blocks.extend(show::synthetic());
            blocks.extend(show::adaptivity(&traces));
            blocks
        }
        other => return Err(format!("what is {other:?}?\n{USAGE}").into()),
    };
    for block in &blocks {
        println!("{}", block.text);
    }
    if readme {
        page::update(&blocks)?;
    }
    Ok(())
}

fn main() -> ExitCode {
    run().map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}
