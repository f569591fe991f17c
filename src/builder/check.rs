//! Checks the settings, and says what each accepts.

use super::settings::Settings;
use crate::rules::ahead::RefreshAhead;
use crate::words::error::{ConfigError, Given};
use std::time::Duration;

impl<K, V> Settings<K, V> {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("max_entries", self.max_entries.is_some()),
            ("max_weight", self.max_weight.is_some()),
            ("unbounded", self.unbounded),
        ];
        let mut given = bounds.iter().filter(|(_, given)| *given).map(|(name, _)| *name);
        let first = given.next();
        if let (Some(first), Some(second)) = (first, given.next()) {
            return Err(ConfigError::TwoBounds { first, second });
        }
        match (self.weigher.is_some(), self.max_weight.is_some()) {
            (true, false) => return Err(ConfigError::WeigherWithoutMaxWeight),
            (false, true) => return Err(ConfigError::MaxWeightWithoutWeigher),
            _ => {}
        }
        if first.is_none() {
            return Err(ConfigError::NoBound);
        }
        if self.tier.is_some() && self.idle.is_some() {
            return Err(ConfigError::TimeToIdleWithTier);
        }
        if let Some(jitter) = self.jitter {
            if !(0.0..=1.0).contains(&jitter) {
                return Err(ConfigError::OutOfRange {
                    setting: "jitter",
                    given: Given::Number(jitter),
                    accepts: "a share of the time to live from 0.0 to 1.0",
                });
            }
        }
        if self.max_loads == Some(0) {
            return Err(ConfigError::OutOfRange {
                setting: "max_concurrent_loads",
                given: Given::Count(0),
                accepts: "1 or more; leave it out for no limit",
            });
        }
        match self.breaker {
            Some((0, _)) => {
                return Err(ConfigError::OutOfRange {
                    setting: "circuit_breaker",
                    given: Given::Count(0),
                    accepts: "1 failure or more; leave it out for no breaker",
                });
            }
            Some((_, Duration::ZERO)) => {
                return Err(ConfigError::OutOfRange {
                    setting: "circuit_breaker",
                    given: Given::Duration(Duration::ZERO),
                    accepts: "any time above zero to stay open; leave it out for no breaker",
                });
            }
            _ => {}
        }
        let windows =
            [("stale_while_revalidate", self.revalidate), ("stale_if_error", self.on_error)];
        for (setting, window) in windows {
            if self.ttl.is_none() && !window.is_zero() {
                return Err(ConfigError::WindowWithoutTimeToLive { setting });
            }
        }
        if let Some((min, max)) = self.back_off {
            if min > max || min.is_zero() && !max.is_zero() {
                return Err(ConfigError::OutOfRange {
                    setting: "error_backoff",
                    given: Given::Duration(min),
                    accepts: "a first pause above zero and not above the longest one (or zero for \
                              both, which holds no load back)",
                });
            }
        }
        self.check_loading()?;
        let above_zero = [
            ("load_timeout", Some(self.load_timeout)),
            ("soft_timeout", self.soft_timeout),
            ("time_to_idle", self.idle),
        ];
        for (setting, given) in above_zero {
            if given == Some(Duration::ZERO) {
                return Err(ConfigError::OutOfRange {
                    setting,
                    given: Given::Duration(Duration::ZERO),
                    accepts: "any time above zero; leave it out for the default",
                });
            }
        }
        if self.soft_timeout.is_some() && windows.iter().all(|(_, window)| window.is_zero()) {
            return Err(ConfigError::SoftTimeoutWithoutWindow);
        }
        Ok(())
    }

    /// Checks the settings of a cache without a loader: those that would be ignored are refused.
    pub(super) fn check_without_loader(&self) -> Result<(), ConfigError> {
        let given = [("batch", self.batch.is_some()), ("detached_loads", self.detached_loads)];
        match given.iter().find(|(_, given)| *given) {
            Some((setting, _)) => Err(ConfigError::NeedsLoader { setting }),
            None => Ok(()),
        }
    }

    /// Checks the settings for refreshes and batches.
    fn check_loading(&self) -> Result<(), ConfigError> {
        if let Some((keys, wait)) = self.batch {
            let refused = match (keys, wait) {
                (0, _) => {
                    Some((Given::Count(0), "1 key or more; leave it out to load each by itself"))
                }
                (_, Duration::ZERO) => Some((
                    Given::Duration(wait),
                    "any time above zero to wait for more keys; leave it out to load each by itself",
                )),
                _ => None,
            };
            if let Some((given, accepts)) = refused {
                return Err(ConfigError::OutOfRange { setting: "batch", given, accepts });
            }
        }
        let refused = match self.refresh_ahead {
            RefreshAhead::At(share) if !(share > 0.0 && share < 1.0) => {
                Some((share, "a share of a value's life, above 0.0 and below 1.0"))
            }
            RefreshAhead::CostAware { beta } if !(beta >= 0.0 && beta.is_finite()) => {
                Some((beta, "as `beta` a factor from 0.0, which is 1.0 unless there is a reason"))
            }
            _ => None,
        };
        if let Some((number, accepts)) = refused {
            let given = Given::Number(number);
            return Err(ConfigError::OutOfRange { setting: "refresh_ahead", given, accepts });
        }
        Ok(())
    }
}
