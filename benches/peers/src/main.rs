//! larder beside the caches a Rust program would otherwise use: see README.md.

mod contender;
mod hits;
mod memory;
mod stampede;
mod table;
mod throughput;
mod workload;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;
use std::{env, error};

use contender::{Kind, Numbers, Strings};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

const USAGE: &str = "\
peers throughput [--rounds N] [--millis M] [--only NAME,..] [--rows a,b,..] [--threads 1,2] [--strings]
peers memory
peers hits [--traces DIR] [--only NAME,..] [--csv FILE]
peers stampede [--rounds N]
peers all [--traces DIR]";

type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

/// What is left of the command line.
struct Args(Vec<String>);

impl Args {
    fn flag(&mut self, name: &str) -> bool {
        let found = self.0.iter().position(|arg| arg == name);
        found.map(|i| self.0.remove(i)).is_some()
    }

    fn value(&mut self, name: &str) -> Result<Option<String>> {
        let Some(i) = self.0.iter().position(|arg| arg == name) else {
            return Ok(None);
        };
        if i + 1 == self.0.len() {
            return Err(format!("{name} needs a value").into());
        }
        self.0.remove(i);
        Ok(Some(self.0.remove(i)))
    }

    fn number(&mut self, name: &str, default: usize) -> Result<usize> {
        self.value(name)?.map_or(Ok(default), |value| parse(name, &value))
    }

    fn list<T: FromStr>(&mut self, name: &str) -> Result<Vec<T>> {
        let value = self.value(name)?.unwrap_or_default();
        value.split(',').filter(|item| !item.is_empty()).map(|item| parse(name, item)).collect()
    }

    fn end(self) -> Result<()> {
        self.0.first().map_or(Ok(()), |arg| Err(format!("what is {arg:?}?\n{USAGE}").into()))
    }
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| format!("{name} does not take {value:?}").into())
}

fn throughput<K: Kind>(options: &throughput::Options) -> Result<()> {
    println!(
        "Mops/s, median (least..most) of {} rounds of {} ms, and the median ratio to quick_cache\n",
        options.rounds,
        options.time.as_millis(),
    );
    println!("{}", throughput::table::<K>(options)?);
    Ok(())
}

fn memory() {
    fn of<K: Kind>() {
        println!("{}", memory::table::<K>());
    }
    of::<Numbers>();
    of::<Strings>();
}

fn hits(traces: Option<String>, only: Vec<String>, csv: Option<String>) -> Result<()> {
    let traces = traces
        .map(PathBuf::from)
        .or_else(|| env::var_os("LARDER_TRACES").map(Into::into))
        .ok_or("where are the traces? Say --traces DIR, or set LARDER_TRACES")?;
    let options = hits::Options { traces, only, csv: csv.map(Into::into) };
    println!("{}", hits::table(&options)?);
    Ok(())
}

fn run() -> Result<()> {
    let mut args = Args(env::args().skip(1).collect());
    if args.0.is_empty() || args.flag("--help") {
        println!("{USAGE}");
        return Ok(());
    }
    match args.0.remove(0).as_str() {
        "throughput" => {
            let options = throughput::Options {
                rounds: args.number("--rounds", 5)?,
                time: Duration::from_millis(args.number("--millis", 300)? as u64),
                only: args.list("--only")?,
                rows: args.list("--rows")?,
                threads: args.list("--threads")?,
            };
            let strings = args.flag("--strings");
            args.end()?;
            if strings {
                throughput::<Strings>(&options)?;
            } else {
                throughput::<Numbers>(&options)?;
            }
        }
        "memory" => {
            args.end()?;
            memory();
        }
        "hits" => {
            let (traces, only) = (args.value("--traces")?, args.list("--only")?);
            let csv = args.value("--csv")?;
            args.end()?;
            hits(traces, only, csv)?;
        }
        "stampede" => {
            let rounds = args.number("--rounds", 9)?;
            args.end()?;
            println!("{}", stampede::table(rounds));
        }
        "all" => {
            let traces = args.value("--traces")?;
            args.end()?;
            let options = throughput::Options {
                rounds: 3,
                time: Duration::from_millis(100),
                only: vec![],
                rows: vec![],
                threads: vec![],
            };
            throughput::<Numbers>(&options)?;
            throughput::<Strings>(&options)?;
            memory();
            println!("{}", stampede::table(5));
            hits(traces, vec![], None)?;
        }
        other => return Err(format!("what is {other:?}?\n{USAGE}").into()),
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
