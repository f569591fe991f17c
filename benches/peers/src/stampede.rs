//! 64 callers miss one key at once: how often is it loaded, and how long do all of them take?

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use crate::contender::{Contender, Entrant, Kind, Numbers, entrants};
use policies::table::{Spread, Table, figure};

const CALLERS: usize = 64;
const LOAD: Duration = Duration::from_millis(20);

struct Trial {
    loads: usize,
    wall: Duration,
}

/// 64 threads, each through what the library has for it.
fn threads(cache: &dyn Contender<Numbers>) -> Trial {
    let loads = AtomicUsize::new(0);
    let start = Barrier::new(CALLERS);
    let key = Numbers::key(0);
    let caller = || {
        start.wait();
        let began = Instant::now();
        let value = cache.get_or_load(&key, &|| {
            loads.fetch_add(1, Ordering::Relaxed);
            thread::sleep(LOAD);
            7
        });
        assert_eq!(value, 7);
        began
    };
    let began = thread::scope(|scope| {
        let callers: Vec<_> = (0..CALLERS).map(|_| scope.spawn(caller)).collect();
        let began = callers.into_iter().map(|c| c.join().expect("a caller panicked"));
        began.min().expect("there are callers")
    });
    Trial { loads: loads.into_inner(), wall: began.elapsed() }
}

/// Half threads, half tasks, on the same cache and key; either may come to lead the flight.
fn threads_and_tasks(runtime: &tokio::runtime::Runtime, tasks_first: bool) -> Trial {
    use crate::contender::Larder;
    use std::convert::Infallible;

    let cache = Larder::<Numbers>::new(1_000).0;
    let loads = Arc::new(AtomicUsize::new(0));
    let start = Arc::new(Barrier::new(CALLERS / 2 + 1));
    let key = Numbers::key(0);
    let spawn_tasks = || -> Vec<_> {
        let spawn = |_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            runtime.spawn(async move {
                let got = cache.get_or_load_async(&key, || async move {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(LOAD).await;
                    Ok::<_, Infallible>(7)
                });
                got.await.expect("the loader cannot fail")
            })
        };
        (0..CALLERS / 2).map(spawn).collect()
    };
    let spawn_thread = |_| {
        let (cache, loads, start) = (cache.clone(), loads.clone(), start.clone());
        thread::spawn(move || {
            start.wait();
            let got = cache.get_or_load(&key, || {
                loads.fetch_add(1, Ordering::Relaxed);
                thread::sleep(LOAD);
                Ok::<_, Infallible>(7)
            });
            got.expect("the loader cannot fail")
        })
    };
    let threads: Vec<_> = (0..CALLERS / 2).map(spawn_thread).collect();
    let began = Instant::now();
    let mut tasks = if tasks_first { spawn_tasks() } else { Vec::new() };
    start.wait();
    if !tasks_first {
        tasks = spawn_tasks();
    }
    for task in tasks {
        assert_eq!(runtime.block_on(task).expect("a task panicked"), 7);
    }
    for thread in threads {
        assert_eq!(thread.join().expect("a thread panicked"), 7);
    }
    Trial { loads: loads.load(Ordering::Relaxed), wall: began.elapsed() }
}

/// foyer loads for tasks only.
fn foyer_tasks(runtime: &tokio::runtime::Runtime) -> Trial {
    let cache: foyer_memory::Cache<u64, u64> = foyer_memory::CacheBuilder::new(1_000).build();
    let loads = Arc::new(AtomicUsize::new(0));
    let key = Numbers::key(0);
    let began = Instant::now();
    let tasks: Vec<_> = (0..CALLERS)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            runtime.spawn(async move {
                let entry = cache.get_or_fetch(&key, || async move {
                    loads.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(LOAD).await;
                    Ok::<u64, std::io::Error>(7)
                });
                *entry.await.expect("the loader does not fail").value()
            })
        })
        .collect();
    for task in tasks {
        assert_eq!(runtime.block_on(task).expect("a task panicked"), 7);
    }
    Trial { loads: loads.load(Ordering::Relaxed), wall: began.elapsed() }
}

type Run<'a> = Box<dyn Fn(usize) -> Trial + 'a>;

pub fn table(rounds: usize) -> Table {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime starts");
    let runtime = &runtime;
    let mut trials: Vec<(String, Run)> = Vec::new();
    trials.push((
        "larder, 32 threads and 32 tasks".into(),
        Box::new(|round| threads_and_tasks(runtime, round % 2 == 1)),
    ));
    trials.push(("foyer, 64 tasks".into(), Box::new(|_| foyer_tasks(runtime))));
    for entrant in entrants::<Numbers>() {
        let is_map = entrant.is_map();
        let Entrant { name, build } = entrant;
        // its other face, above; and the same again with a deadline
        if !name.starts_with("foyer") && name != "quick_cache+deadline" && !is_map {
            trials
                .push((format!("{name}, 64 threads"), Box::new(move |_| threads(&*build(1_000)))));
        }
    }

    let mut results = vec![(Vec::new(), Vec::new()); trials.len()];
    for round in 0..rounds {
        for i in 0..trials.len() {
            let i = (i + round) % trials.len();
            let trial = trials[i].1(round);
            results[i].0.push(trial.loads as f64);
            results[i].1.push(trial.wall.as_secs_f64() * 1e3);
        }
        eprintln!("stampede: round {} of {rounds}", round + 1);
    }
    let mut table =
        Table::new(["64 callers, a load of 20 ms", "loads", "most", "ms until all have it"]);
    for ((name, _), (loads, wall)) in trials.iter().zip(&results) {
        if let (Some(loads), Some(wall)) = (Spread::of(loads), Spread::of(wall)) {
            let ms = [wall.median, wall.min, wall.max].map(figure);
            table.row([
                name.clone(),
                loads.median.to_string(),
                loads.max.to_string(),
                format!("{} ({}..{})", ms[0], ms[1], ms[2]),
            ]);
        }
    }
    table
}
