//! larder beside the caches a Rust program would otherwise use: see ../README.md.

mod contender;
mod growth;
mod hits;
mod hop;
mod instructions;
mod latency;
mod load;
mod memory;
mod rows;
mod stampede;
mod throughput;
mod weights;
mod workload;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::str::FromStr;
use std::time::{Duration, Instant};
use std::{env, error, fs, thread};

use contender::{Kind, Numbers, Strings};
use policies::page::{self, Block};
use policies::table::{Table, figure};
use policies::{show, trace};

#[global_allocator]
static ALLOCATOR: memory::Counting = memory::Counting;

const USAGE: &str = "\
peers throughput [--rounds N] [--millis M] [--only NAME,..] [--rows a,b,..] [--threads 1,2] [--strings]
peers latency [--rounds N] [--only NAME,..] [--strings]
peers load [--rounds N] [--only NAME,..] [--strings]
peers memory [--only NAME,..] [--strings]
peers growth [--rounds N] [--only NAME,..] [--most ENTRIES]
peers instructions [--only NAME,..]            needs valgrind
peers stampede [--rounds N]
peers hits [--traces DIR] [--only NAME,..] [--csv FILE]
peers weights [--traces DIR]
peers plots [--traces DIR]                     writes benches/plots
peers readme [--traces DIR] [--only TABLE,..]  all tables, into benches/README.md; about 20 minutes";

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

/// A function of a kind, for numbers or for strings.
macro_rules! of_kind {
    ($strings:expr, $function:ident, $($arg:expr),*) => {
        if $strings { $function::<Strings>($($arg),*) } else { $function::<Numbers>($($arg),*) }
    };
}

fn throughput<K: Kind>(options: &throughput::Options) -> Result<Vec<Block>> {
    let tables = throughput::tables::<K>(options)?;
    let mut method = format!(
        "Mops/s of all threads, median (least..most) of {} rounds of {} ms.",
        options.rounds,
        options.time.as_millis(),
    );
    if let Some(hops) = &tables.hops {
        let hops = format!(" A cache line went from core to core in {hops} ns meanwhile.");
        method.push_str(&hops);
    }
    let kind = kind::<K>();
    let mut blocks = vec![
        Block::new(format!("throughput-{kind}"), &format!("{method}\n\n{}", tables.aims)),
        Block::new(format!("throughput-{kind}-all"), &tables.all),
    ];
    if let (true, Some(one), Some(two)) =
        (K::IS_NUMBERS, tables.larder.get(&("a", 1)), tables.larder.get(&("a", 2)))
    {
        let line = format!(
            "{} million hits a second on one thread and {} on two ({:.1} and {:.1} of quick_cache's \
             rate)",
            figure(one.0),
            figure(two.0),
            one.1,
            two.1,
        );
        blocks.push(Block::new("line-throughput", &line));
    }
    Ok(blocks)
}

fn kind<K: Kind>() -> &'static str {
    if K::IS_NUMBERS { "u64" } else { "string" }
}

fn latency<K: Kind>(rounds: usize, only: &[String]) -> Result<Vec<Block>> {
    Ok(vec![Block::new(format!("latency-{}", kind::<K>()), &latency::table::<K>(rounds, only)?)])
}

fn load<K: Kind>(rounds: usize, only: &[String]) -> Result<Vec<Block>> {
    Ok(vec![Block::new(format!("load-{}", kind::<K>()), &load::table::<K>(rounds, only)?)])
}

fn memory<K: Kind>(only: &[String]) -> Result<Vec<Block>> {
    let measured = memory::table::<K>(only)?;
    let mut blocks = vec![Block::new(format!("memory-{}", kind::<K>()), &measured.table)];
    if let (true, Some((filled, evicting))) = (K::IS_NUMBERS, measured.larder) {
        let line = format!(
            "{filled:.1} heap bytes an entry of `u64` to `u64` when just filled, {evicting:.1} \
             once it evicts"
        );
        blocks.push(Block::new("line-memory", &line));
    }
    Ok(blocks)
}

fn hits(traces: &[trace::Trace], options: &hits::Options) -> Result<Vec<Block>> {
    let shown = hits::table(traces, options)?;
    let mut blocks = vec![Block::new("hits", &format!("{}\n{}", shown.table, shown.reading))];
    if shown.gaps.0.is_finite() {
        let line = format!(
            "{:.1} points below the best that is possible, in the mean of 29 rows (quick_cache: \
             {:.1})",
            shown.gaps.0, shown.gaps.1,
        );
        blocks.push(Block::new("line-hits", &line));
    }
    Ok(blocks)
}

/// The machine, in a line.
fn machine() -> Block {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let told = |program: &str, args: &[&str]| {
        let told = Command::new(program).args(args).output().map(|out| out.stdout);
        String::from_utf8_lossy(&told.unwrap_or_default()).trim().to_owned()
    };
    let after_colon = |text: &str, key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| Some(line.split_once(':')?.1.trim().to_owned())).unwrap_or_default()
    };
    let line = format!(
        "{} cores of {}, {}, Linux {}, {}, {}.",
        thread::available_parallelism().map_or(1, usize::from),
        after_colon(&read("/proc/cpuinfo"), "model name"),
        after_colon(&read("/proc/meminfo"), "MemTotal"),
        read("/proc/sys/kernel/osrelease").trim().split('-').next().unwrap_or_default(),
        told("rustc", &["--version"]).split(" (").next().unwrap_or_default(),
        told("date", &["+%B %Y"]),
    );
    Block::new("machine", &line)
}

fn plots(traces: &[trace::Trace], rounds: usize) -> Result<()> {
    page::plot("hits", &hits::plot(traces))?;
    let time = Duration::from_millis(100);
    Ok(page::plot("throughput", &throughput::plot::<Numbers>(rounds, time)?)?)
}

/// A name, and what makes its blocks.
type Part<'a> = (&'static str, Box<dyn Fn() -> Result<Vec<Block>> + 'a>);

/// All tables, each written to the pages when it is done.
fn readme(named: Option<String>, only: &[String]) -> Result<()> {
    let traces = trace::load(&trace::directory(named)?)?;
    let timed = |rounds, millis| throughput::Options {
        rounds,
        time: Duration::from_millis(millis),
        only: vec![],
        rows: vec![],
        threads: vec![],
    };
    let all = hits::Options { only: vec![], csv: None };
    let table = |name: &str, table: &Table| vec![Block::new(name, table)];
    let parts: Vec<Part> = vec![
        ("machine", Box::new(|| Ok(vec![machine()]))),
        ("throughput-u64", Box::new(|| throughput::<Numbers>(&timed(5, 100)))),
        ("throughput-string", Box::new(|| throughput::<Strings>(&timed(3, 100)))),
        ("latency-u64", Box::new(|| latency::<Numbers>(5, &[]))),
        ("load-u64", Box::new(|| load::<Numbers>(7, &[]))),
        ("load-string", Box::new(|| load::<Strings>(5, &[]))),
        ("growth", Box::new(|| Ok(table("growth", &growth::table(2, &[], 10_000_000)?)))),
        ("stampede", Box::new(|| Ok(table("stampede", &stampede::table(7))))),
        ("memory-u64", Box::new(|| memory::<Numbers>(&[]))),
        ("memory-string", Box::new(|| memory::<Strings>(&[]))),
        ("instructions", Box::new(|| Ok(table("instructions", &instructions::table(&[])?)))),
        ("hits", Box::new(|| hits(&traces, &all))),
        ("weights", Box::new(|| Ok(weights::blocks(&traces)))),
        ("policies-traces", Box::new(|| Ok(show::recorded(&traces)))),
        ("policies-synthetic", Box::new(|| Ok(show::synthetic()))),
        ("policies-adaptivity", Box::new(|| Ok(show::adaptivity(&traces)))),
        ("plots", Box::new(|| plots(&traces, 3).map(|()| vec![]))),
    ];
    if let Some(unknown) = only.iter().find(|name| parts.iter().all(|part| part.0 != **name)) {
        let names: Vec<_> = parts.iter().map(|part| part.0).collect();
        return Err(format!("no table {unknown:?} among {}", names.join(", ")).into());
    }
    for (name, part) in parts {
        if only.is_empty() || only.iter().any(|wanted| wanted == name) {
            let began = Instant::now();
            // one that fails (no valgrind, say) leaves what the page has, and the others go on
            match part() {
                Ok(blocks) => page::update(&blocks)?,
                Err(error) => eprintln!("{name}: {error}"),
            }
            eprintln!("{name}: {:.0} s", began.elapsed().as_secs_f64());
        }
    }
    Ok(())
}

fn run() -> Result<()> {
    let mut args = Args(env::args().skip(1).collect());
    if args.0.is_empty() || args.flag("--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let command = args.0.remove(0);
    let strings = args.flag("--strings");
    let rounds = |args: &mut Args, default| args.number("--rounds", default);
    let traces = |args: &mut Args| -> Result<Vec<trace::Trace>> {
        Ok(trace::load(&trace::directory(args.value("--traces")?)?)?)
    };
    let only = args.list::<String>("--only")?;
    let blocks = match command.as_str() {
        "throughput" => {
            let options = throughput::Options {
                rounds: rounds(&mut args, 5)?,
                time: Duration::from_millis(args.number("--millis", 300)? as u64),
                only,
                rows: args.list("--rows")?,
                threads: args.list("--threads")?,
            };
            args.end()?;
            of_kind!(strings, throughput, &options)?
        }
        "latency" => {
            let rounds = rounds(&mut args, 5)?;
            args.end()?;
            of_kind!(strings, latency, rounds, &only)?
        }
        "load" => {
            let rounds = rounds(&mut args, 9)?;
            args.end()?;
            of_kind!(strings, load, rounds, &only)?
        }
        "memory" => {
            args.end()?;
            of_kind!(strings, memory, &only)?
        }
        "growth" => {
            let (rounds, most) = (rounds(&mut args, 3)?, args.number("--most", 10_000_000)?);
            args.end()?;
            vec![Block::new("growth", &growth::table(rounds, &only, most as u64)?)]
        }
        "instructions" => {
            args.end()?;
            vec![Block::new("instructions", &instructions::table(&only)?)]
        }
        // what `instructions` runs
        "spin" => match args.0.as_slice() {
            [name, hits] => {
                instructions::spin(name, strings, parse("spin", hits)?)?;
                vec![]
            }
            _ => return Err("peers spin NAME HITS [--strings]".into()),
        },
        "stampede" => {
            let rounds = rounds(&mut args, 9)?;
            args.end()?;
            vec![Block::new("stampede", &stampede::table(rounds))]
        }
        "hits" => {
            let traces = traces(&mut args)?;
            let options = hits::Options { only, csv: args.value("--csv")?.map(PathBuf::from) };
            args.end()?;
            hits(&traces, &options)?
        }
        "weights" => {
            let traces = traces(&mut args)?;
            args.end()?;
            weights::blocks(&traces)
        }
        "plots" => {
            let traces = traces(&mut args)?;
            args.end()?;
            plots(&traces, 5)?;
            vec![]
        }
        "readme" => {
            let traces = args.value("--traces")?;
            args.end()?;
            readme(traces, &only)?;
            vec![]
        }
        other => return Err(format!("what is {other:?}?\n{USAGE}").into()),
    };
    for block in blocks {
        println!("{}\n", block.text.trim_end());
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
