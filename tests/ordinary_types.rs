//! Futures of the crate inside of tasks that may move between threads, with keys, values and errors
//! whose types hold a lifetime or a `dyn`. What is tested is that it compiles: a future that is `Send` for
//! `String` need not be for `&'static str`, unless its signature says that it is.

mod common;

use common::{Watchdog, ms};
use larder::{
    AsyncLoader, Cache, CacheBuilder, Change, LoadCx, Loaded, Loader, MemoryTier, SteppingRuntime,
    WriteBehind, Writer,
};
use std::borrow::Cow;
use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;

type Shown = Arc<dyn Debug + Send + Sync>;
type Call = fn(u32) -> u32;
type Failure = Box<dyn Error + Send + Sync>;

/// Runs it as a task of tokio's, which asks of a future that it is `Send`.
async fn spawned(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task).await.unwrap();
}

/// The same without a runtime: for futures that borrow.
async fn sent(future: impl Future<Output = ()> + Send) {
    future.await;
}

/// Everything that can be awaited, and everything that can be held meanwhile, with keys `$K`, values `$V` and
/// errors `$E`.
macro_rules! with_types {
    ($name:ident: $K:ty = $key:expr, $V:ty = $value:expr, $E:ty) => {
        mod $name {
            use super::*;

            type Key = $K;
            type Value = $V;
            type Failed = $E;

            fn key() -> Key {
                $key
            }

            fn value() -> Value {
                $value
            }

            fn builder() -> CacheBuilder<Key, Value> {
                Cache::builder().max_entries(100)
            }

            struct Source;

            impl Loader<Key, Value> for Source {
                type Error = Failed;

                fn load(&self, _: &Key, _: &LoadCx<Value>) -> Result<Loaded<Value>, Failed> {
                    Ok(Loaded::new(value()))
                }
            }

            impl AsyncLoader<Key, Value> for Source {
                type Error = Failed;

                async fn load(&self, _: &Key, _: &LoadCx<Value>) -> Result<Loaded<Value>, Failed> {
                    tokio::task::yield_now().await;
                    Ok(Loaded::new(value()))
                }
            }

            fn select_now(_: &Key) -> Result<Value, Failed> {
                Ok(value())
            }

            async fn select(_: Key) -> Result<Value, Failed> {
                tokio::task::yield_now().await;
                Ok(value())
            }

            fn write(_: &[Change<'_, Key, Value>]) -> Result<(), Failed> {
                Ok(())
            }

            impl Writer<Key, Value> for Source {
                type Error = Failed;

                fn write(&self, _: &[Change<'_, Key, Value>]) -> Result<(), Failed> {
                    Ok(())
                }
            }

            #[tokio::test]
            async fn a_cache_in_a_task() {
                let _watchdog = Watchdog::start();
                spawned(async {
                    let tier = MemoryTier::new();
                    let cache = builder().tier(tier).build().unwrap();
                    let (key, news) = (key(), cache.invalidator());
                    assert!(cache.get_or_load_async(&key, || select(key.clone())).await.is_ok());
                    cache.get_or_insert_with_async(&key, async || value()).await;
                    let optional = async || select(key.clone()).await.map(Some);
                    assert!(cache.get_or_load_optional_async(&key, optional).await.is_ok());
                    let many = |keys: Vec<Key>| async move {
                        Ok::<_, Failed>(keys.into_iter().map(|key| (key, value())))
                    };
                    let keys = [key.clone()];
                    assert!(cache.get_or_load_many_async(&keys, many).await.into_result().is_ok());
                    let at = cache.at(&key).tag("t").max_age(ms(10)).fallback(value());
                    assert!(at.load_async(async |_| select(key.clone()).await).await.is_ok());
                    let write = async |_, _| Ok::<_, Failed>(());
                    assert!(cache.write_through_async(key.clone(), value(), write).await.is_ok());
                    let write = async |_, _| Ok::<_, Failed>(());
                    assert!(cache.at(&key).write_through_async(value(), write).await.is_ok());
                    assert!(cache.remove_everywhere_async(&key).await.is_ok());
                    let fence = cache.writing(&key);
                    assert!(cache.tier_flush_async().await.is_ok());
                    drop(fence);
                    assert!(news.remove(&key));
                })
                .await;
            }

            #[tokio::test]
            async fn loading_caches_in_a_task() {
                let _watchdog = Watchdog::start();
                spawned(async {
                    let by_trait = builder().build_loading(Source).unwrap();
                    let by_fn = builder().build_loading_fn(select_now).unwrap();
                    let by_closure = builder().build_loading_fn(|_: &Key| select_now(&key()));
                    let by_closure = by_closure.unwrap();
                    by_trait.warm([key()]).await;
                    by_fn.warm([key()]).await;
                    by_closure.warm([key()]).await;
                    let loaded = (by_trait.load(&key()), by_fn.load(&key()));
                    assert!(loaded.0.is_ok() && loaded.1.is_ok());
                    assert!(by_closure.load(&key()).is_ok());
                })
                .await;
            }

            #[tokio::test]
            async fn async_loading_caches_in_a_task() {
                let _watchdog = Watchdog::start();
                spawned(async {
                    let stepping = || builder().runtime(SteppingRuntime::new());
                    let (key, keys) = (key(), [key()]);
                    let by_trait = stepping().build_loading_async(Source).unwrap();
                    assert!(by_trait.load(&key).await.is_ok());
                    assert!(by_trait.load_many(&keys).await.into_result().is_ok());
                    let shared = stepping().build_loading_async(Arc::new(Source)).unwrap();
                    assert!(shared.load(&key).await.is_ok());
                    let by_fn = stepping().build_loading_async_fn(select).unwrap();
                    assert!(by_fn.load(&key).await.is_ok());
                    assert!(by_fn.load_many(&keys).await.into_result().is_ok());
                    let select = |key: Key| async move { select(key).await };
                    let by_closure = stepping().build_loading_async_fn(select).unwrap();
                    assert!(by_closure.load(&key).await.is_ok());
                    assert!(by_closure.load_many(&keys).await.into_result().is_ok());
                    let at = by_closure.at(&key).force().fallback(value());
                    assert!(at.read_through().await.is_ok());
                    let own = async |cx| AsyncLoader::load(by_trait.loader(), &key, &cx).await;
                    assert!(by_trait.at(&key).force().load_async(own).await.is_ok());
                    let gathers = stepping().batch(1, ms(1)).build_loading_async(Source).unwrap();
                    assert!(gathers.load(&key).await.is_ok());
                })
                .await;
            }

            #[tokio::test]
            async fn a_write_behind_queue_in_a_task() {
                let _watchdog = Watchdog::start();
                spawned(async {
                    let cache = Cache::new(100);
                    let queue = WriteBehind::builder(cache, Source).build().unwrap();
                    assert!(queue.put(key(), value()).is_ok());
                    let by_fn = WriteBehind::builder(Cache::new(100), write).build().unwrap();
                    assert!(by_fn.put(key(), value()).is_ok());
                    tokio::task::yield_now().await;
                    assert!(queue.flush().is_ok() && by_fn.close().is_ok());
                })
                .await;
            }

            #[cfg(feature = "tokio")]
            #[tokio::test]
            async fn an_async_write_behind_queue_in_a_task() {
                use larder::{Altered, AsyncWriteBehind, AsyncWriter};

                struct Sink;

                impl AsyncWriter<Key, Value> for Sink {
                    type Error = Failed;

                    async fn write(&self, _: &[Change<'_, Key, Value>]) -> Result<(), Failed> {
                        tokio::task::yield_now().await;
                        Ok(())
                    }
                }

                let _watchdog = Watchdog::start();
                spawned(async {
                    let queue = AsyncWriteBehind::builder(Cache::new(100), Sink).build().unwrap();
                    assert!(queue.put(key(), value()).await.is_ok());
                    let change = |_| Altered::Put(value());
                    assert!(queue.alter(&key(), change).await.is_ok());
                    assert!(queue.delete(&key()).await.is_ok());
                    assert!(queue.flush().await.is_ok());
                    assert!(queue.clone().close().await.is_ok());
                })
                .await;
            }
        }
    };
}

with_types!(values_of_dyn: u64 = 1, Shown = Arc::new(7), std::io::Error);
with_types!(static_text: &'static str = "k", &'static str = "one", &'static str);
with_types!(errors_of_dyn: Cow<'static, str> = "k".into(), Cow<'static, str> = "one".into(), Failure);
with_types!(values_of_fn: String = "k".to_owned(), Call = |n| n + 1, String);

/// Keys that are looked up in a borrowed form.
#[tokio::test]
async fn borrowed_keys_in_a_task() {
    let _watchdog = Watchdog::start();
    spawned(async {
        let name = String::from("ada");
        let load = |name: String| async move { Ok::<_, &str>(name.len()) };
        let lengths = Cache::builder()
            .max_entries(100)
            .runtime(SteppingRuntime::new())
            .build_loading_async_fn(load)
            .unwrap();
        sent(async { assert!(lengths.load(name.as_str()).await.is_ok()) }).await;
    })
    .await;
}
