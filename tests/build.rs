//! What `build` refuses, by name, and what errors and names look like.

mod common;

use common::{checked, ms};
use larder::{Cache, CacheBuilder, ConfigError, LoadError, SteppingRuntime};
use std::convert::Infallible;
use std::error::Error;
use std::time::Duration;

fn builder() -> CacheBuilder<u64, u64> {
    Cache::builder()
}

/// What `build` says of it, and whether it says each of `words`: what to do about it.
fn refused(builder: CacheBuilder<u64, u64>, words: &[&str]) -> ConfigError {
    let error = builder.build().expect_err("not a legal configuration");
    let message = error.to_string();
    for word in words {
        assert!(message.contains(word), "{message:?} does not speak of {word}");
    }
    error
}

#[test]
fn a_cache_without_a_bound_is_refused() {
    let error = refused(builder(), &["`max_entries(n)`", "`max_weight(w)`", "`unbounded()`"]);
    assert_eq!(error, ConfigError::NoBound);
}

#[test]
fn two_bounds_are_refused() {
    let entries = || builder().max_entries(1);
    for (builder, first, second) in [
        (entries().max_weight(1).weigher(|_, _| 1), "max_entries", "max_weight"),
        (entries().unbounded(), "max_entries", "unbounded"),
        (builder().max_weight(1).weigher(|_, _| 1).unbounded(), "max_weight", "unbounded"),
    ] {
        let error = refused(builder, &[first, second, "keep one"]);
        assert_eq!(error, ConfigError::TwoBounds { first, second });
    }
}

#[test]
fn a_weigher_and_a_weight_need_each_other() {
    let error = refused(builder().max_entries(1).weigher(|_, _| 1), &["weigher", "max_weight(w)"]);
    assert_eq!(error, ConfigError::WeigherWithoutMaxWeight);
    let error = refused(builder().weigher(|_, _| 1), &["weigher", "max_weight(w)"]);
    assert_eq!(error, ConfigError::WeigherWithoutMaxWeight);
    let error = refused(builder().max_weight(1), &["max_weight", "weigher("]);
    assert_eq!(error, ConfigError::MaxWeightWithoutWeigher);
}

#[test]
fn a_jitter_beyond_its_range_is_refused() {
    for jitter in [-0.1, 1.1, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let builder = builder().max_entries(1).time_to_live(ms(1)).jitter(jitter);
        let error = refused(builder, &["`jitter`", "from 0.0 to 1.0", &jitter.to_string()]);
        assert!(matches!(error, ConfigError::OutOfRange { setting: "jitter", .. }));
    }
    for jitter in [0.0, -0.0, 1.0] {
        checked(builder().max_entries(1).time_to_live(ms(1)).jitter(jitter));
    }
}

#[test]
fn times_of_zero_are_refused_where_zero_means_nothing() {
    let entries = || builder().max_entries(1);
    for (builder, name) in [
        (entries().load_timeout(Duration::ZERO), "load_timeout"),
        (entries().time_to_idle(Duration::ZERO), "time_to_idle"),
        (entries().soft_timeout(Duration::ZERO), "soft_timeout"),
    ] {
        let error = refused(builder, &[&format!("`{name}` is 0ns"), "above zero"]);
        assert!(matches!(error, ConfigError::OutOfRange { setting, .. } if setting == name));
    }
    checked(entries().time_to_live(Duration::ZERO).negative_ttl(Duration::ZERO));
    checked(entries().load_timeout(Duration::MAX).time_to_idle(Duration::MAX));
}

#[test]
fn a_window_without_a_time_to_live_is_refused() {
    let entries = || builder().max_entries(1);
    for (window, setting) in [
        (entries().stale_while_revalidate(ms(1)), "stale_while_revalidate"),
        (entries().stale_if_error(ms(1)), "stale_if_error"),
        (entries().time_to_idle(ms(1)).stale_if_error(Duration::MAX), "stale_if_error"),
    ] {
        let error = refused(window, &[&format!("`{setting}`"), "`time_to_live(d)`"]);
        assert_eq!(error, ConfigError::WindowWithoutTimeToLive { setting });
    }
    checked(entries().stale_while_revalidate(Duration::ZERO).stale_if_error(Duration::ZERO));
    let lives = || entries().time_to_live(ms(1));
    checked(lives().stale_while_revalidate(Duration::MAX).stale_if_error(Duration::MAX));
    checked(lives().stale_while_revalidate(ms(9)).stale_if_error(ms(1)).soft_timeout(ms(1)));
}

#[test]
fn a_setting_for_a_loader_is_refused_by_a_cache_without_one() {
    let entries = || builder().max_entries(1);
    // told to end with a call that does not ignore the setting
    for (given, setting, end) in [
        (entries().batch(2, ms(1)), "batch", "end with `build_loading(..)` or"),
        (entries().detached_loads(), "detached_loads", "end with `build_loading_async(..)` or"),
    ] {
        let error = refused(given, &[&format!("`{setting}`"), end]);
        assert_eq!(error, ConfigError::NeedsLoader { setting });
    }
    let loads = entries().batch(2, ms(1)).detached_loads();
    loads.build_loading_fn(|key: &u64| Ok::<_, Infallible>(*key)).unwrap();
    // one function may prepare the builders of both kinds
    checked(entries().runtime(SteppingRuntime::new()));
}

#[test]
fn a_soft_timeout_without_a_window_is_refused() {
    let lives = || builder().max_entries(1).time_to_live(ms(9)).soft_timeout(ms(1));
    for given in [lives(), lives().stale_if_error(Duration::ZERO)] {
        let error = refused(given, &["`soft_timeout`", "`stale_if_error(d)`", "`load_timeout`"]);
        assert_eq!(error, ConfigError::SoftTimeoutWithoutWindow);
    }
    checked(lives().stale_if_error(ms(1)));
    checked(lives().stale_while_revalidate(ms(1)));
}

#[test]
fn a_back_off_whose_first_pause_is_zero_or_the_longest_is_refused() {
    let entries = || builder().max_entries(1);
    for (min, max) in [(ms(2), ms(1)), (Duration::ZERO, ms(1))] {
        let words = ["`error_backoff`", &format!("{min:?}"), "above zero", "not above the longest"];
        let error = refused(entries().error_backoff(min, max), &words);
        assert!(matches!(error, ConfigError::OutOfRange { setting: "error_backoff", .. }));
    }
    checked(entries().error_backoff(Duration::ZERO, Duration::ZERO));
    checked(entries().error_backoff(ms(1), Duration::MAX));
    checked(entries().error_backoff(Duration::MAX, Duration::MAX));
}

#[test]
fn a_name_is_in_debug_and_no_key_or_value_is() {
    let cache = Cache::<&str, &str>::builder().max_entries(10).name("sessions").build().unwrap();
    cache.insert("a secret key", "a secret value");
    let told = format!("{cache:?} {:?} {:?}", cache.at("a secret key"), cache.entries());
    assert!(told.contains("sessions") && !told.contains("secret"), "{told}");
    assert_eq!(cache.name(), Some("sessions"));
    let builder = format!("{:?}", Cache::<u64, u64>::builder().max_entries(7).name("seven"));
    assert!(builder.contains("seven") && builder.contains('7'), "{builder}");
    cache.validate();
}

/// Neither printable nor clonable: nothing is asked of an error but to travel.
struct Mute;

#[test]
fn load_errors_go_where_errors_go() {
    fn questioned(cache: &Cache<u64, u64>) -> anyhow::Result<u64> {
        Ok(cache.get_or_load(&1, || Err(std::io::Error::other("the disk is away")))?)
    }
    fn boxed(cache: &Cache<u64, u64>) -> Result<u64, Box<dyn Error>> {
        Ok(cache.get_or_load(&1, || Err(anyhow::anyhow!("the network is away")))?)
    }
    let cache = checked(builder().max_entries(10));
    assert!(questioned(&cache).unwrap_err().to_string().contains("the disk is away"));
    assert!(boxed(&cache).unwrap_err().to_string().contains("the network is away"));

    let error = cache.get_or_load(&1, || Err::<u64, _>(Mute)).err().unwrap();
    assert!(error.clone().loader().is_some() && !error.is_timeout());
    let messages = [
        (LoadError::<String>::NotFound, "no value"),
        (LoadError::TimedOut, "load_timeout"),
        (LoadError::Panicked, "panicked"),
        (LoadError::Recursive, "the key that it is loading"),
        (LoadError::NothingToRenew, "LoadCx::stale"),
    ];
    for (error, words) in messages {
        assert!(error.to_string().contains(words), "{error}");
    }
}
