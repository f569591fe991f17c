//! Running a model on many schedules.

/// Runs a model of two threads on every schedule there is.
#[cfg(larder_loom)]
pub(super) fn explore(model: impl Fn() + Send + Sync + 'static) {
    explore_up_to(None, model);
}

/// Runs a model on every schedule with at most so many preemptions; three threads at work have far
/// too many schedules without a bound. `LOOM_MAX_PREEMPTIONS` sets another one.
#[cfg(larder_loom)]
pub(super) fn explore_up_to(
    preemptions: impl Into<Option<usize>>,
    model: impl Fn() + Send + Sync + 'static,
) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(preemptions.into());
    // a look-up, a load and a removal take some hundred steps together
    builder.max_branches = 20_000;
    builder.check(model);
}

#[cfg(larder_shuttle)]
pub(super) use random::{draw, explore};

#[cfg(larder_shuttle)]
mod random {
    use shuttle::rand::Rng;
    use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
    use shuttle::{Config, MaxSteps, Runner};
    use std::sync::Arc;

    /// So many schedules of each kind, unless `LARDER_SCHEDULES` says otherwise.
    const SCHEDULES: usize = 1_000;

    /// Where the schedules start, unless `SHUTTLE_RANDOM_SEED` says otherwise: a test that fails,
    /// fails every time.
    const SEED: u64 = 20_260_101;

    /// Most bugs of concurrency need no more than two or three preemptions at the right places.
    const DEPTH: usize = 3;

    /// What no model comes near, unless somebody spins for ever.
    const STEPS: usize = 100_000;

    /// Runs a model on random schedules.
    pub(in crate::models) fn explore(model: impl Fn() + Send + Sync + 'static) {
        let model = Arc::new(model);
        if let Ok(file) = std::env::var("LARDER_REPLAY") {
            let schedule =
                ReplayScheduler::new_from_file(file).expect("a schedule that was printed");
            return run(schedule, model);
        }
        let schedules = std::env::var("LARDER_SCHEDULES").map_or(SCHEDULES, |n| {
            n.parse().expect("LARDER_SCHEDULES is how many schedules to run")
        });
        run(RandomScheduler::new_from_seed(SEED, schedules), Arc::clone(&model));
        run(PctScheduler::new_from_seed(SEED, DEPTH, schedules), model);
    }

    fn run(scheduler: impl Scheduler + 'static, model: Arc<impl Fn() + Send + Sync + 'static>) {
        let mut config = Config::new();
        // deep enough for a load inside of a listener inside of a load
        config.stack_size = 1 << 18;
        config.max_steps = MaxSteps::FailAfter(STEPS);
        // that its atomics are sequentially consistent is known: loom looks at those
        config.silence_warnings = true;
        Runner::new(scheduler, config).run(move || model());
    }

    /// A number below `n` that is part of the schedule: replayed with it.
    pub(in crate::models) fn draw(n: usize) -> usize {
        shuttle::rand::thread_rng().gen_range(0..n)
    }
}
