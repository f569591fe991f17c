//! How larder is built, and why: to be read before the code.
//!
//! Nothing is defined here. Names in `code` that are not links are private; each is followed by its file. The
//! figures come from the comments of those files. They were measured on two virtual cores (Zen 4), and are
//! good for comparing two rows and for nothing else.
//!
//! 1. [The life of one call](#the-life-of-one-call)
//! 2. [Terms](#terms)
//! 3. [Floors, and which file is which](#floors-and-which-file-is-which)
//! 4. [A shard, and the states of a slot](#a-shard-and-the-states-of-a-slot)
//! 5. [Locks, and their order](#locks-and-their-order)
//! 6. [Invariants](#invariants)
//! 7. [How the bound holds at every moment](#how-the-bound-holds-at-every-moment)
//! 8. [Flights, and what is fenced](#flights-and-what-is-fenced)
//! 9. [Stale windows](#stale-windows)
//! 10. [Guarding the source: slots and the breaker](#guarding-the-source-slots-and-the-breaker)
//! 11. [A second tier](#a-second-tier)
//! 12. [Background loads](#background-loads)
//! 13. [Eviction](#eviction)
//! 14. [Time](#time)
//! 15. [The lock, and a hit on many cores](#the-lock-and-a-hit-on-many-cores)
//! 16. [Counting](#counting)
//! 17. [Decisions, with their figures](#decisions-with-their-figures)
//! 18. [Tried and rejected](#tried-and-rejected)
//! 19. [Sources](#sources)
//!
//! # The life of one call
//!
//! ```text
//! cache.get_or_load(&key, load)                front/cache.rs
//! │
//! │  hash once; the high half picks the shard, the low half the place in it
//! ▼
//! get                    shared lock           engine/look.rs, shard/look.rs
//! │  tag, key, life ─────── fresh ───────────► one mark in the slot, clone, return
//! │  nothing to serve
//! ▼
//! join                   exclusive lock        front/attempt.rs, engine/join.rs, shard/join.rs
//! │  one decision, one critical section:
//! ├── somebody stored meanwhile ─────────────► look again
//! ├── a flight is on the board ──────────────► follow it
//! │      is it this very thread's own? ──────► Recursive
//! │      wait: park, or Poll::Pending          parts/waiter.rs
//! │      landed ─────────────────────────────► its outcome
//! │      landed with another error type,
//! │      or its leader went away ────────────► join again
//! │      load_timeout came ──────────────────► the flight loses its key, TimedOut
//! └── nobody loads: a seat or a flight on the board, and this caller leads
//!        │  where there is a second tier:        engine/tier.rs
//!        │  it has the value ────────────────► land that
//!        │  where the cache guards its source:   engine/guard.rs
//!        │  breaker open ────────────────────► CircuitOpen; no slot ──► in line
//!        │
//!        ▼
//!        load()          no lock               the user's code
//!        │
//!        ▼
//!        land                                  engine/solo.rs, engine/lead/land.rs
//!        │  clone the value (of a flight, the key too), weigh: no lock
//!        ├── put         exclusive lock        engine/put.rs, shard/store.rs
//!        │     take it off the board; if it was not on it: fenced, not stored
//!        │     make room first, by evicting; then store the entry
//!        │     whatever has to leave goes into an outbox
//!        ├── the followers are woken           parts/flight.rs
//!        └── the outbox is reported and dropped, no lock
//! ```
//!
//! The blocking front and the async one differ only in how they wait: a flight keeps wakers, and a blocked
//! thread is a waker that unparks. (Besides, only a blocking load may begin in a seat.) What a caller does next,
//! and what each outcome means for it, is decided by one type, `Attempt`, that both drive. So there is one
//! engine, not two, and both kinds of callers can share a flight.
//!
//! Four choices carry the rest:
//!
//! * *The role is decided where the look-up is repeated.* `join` looks again under the exclusive lock and, in
//!   the same critical section, finds the flight or posts a new one. So it sees a load that landed between
//!   `get` and `join`, and no load is done twice.
//! * *A load gets a flight when somebody else comes for its key.* Until then it has a seat (`shard/seat.rs`):
//!   its key and its number, nothing that is allocated, reference-counted or locked. Most loads are over
//!   before anybody comes, and never have a flight.
//! * *Flights are kept beside the entries, not in their place.* The board (`shard/board.rs`) is a small table
//!   under the same lock. An entry stays where it is while its successor loads, so that it can be served
//!   meanwhile, and the table of entries knows nothing of loads.
//! * *Only a load on the board may store.* Every value goes through `put`, which turns away a flight that is
//!   not on the board any more; a load without a flight stores only while it is still in its seat. (`insert`
//!   has a shortcut of its own for when nothing is under way in its shard.)
//!
//! # Terms
//!
//! The code and its comments use these words throughout:
//!
//! | term | meaning |
//! |---|---|
//! | *flight* | one load of one key in progress, shared by all callers who want the key (the call record of single-flight) |
//! | *lead*, *follow* | to run the load; to wait for the load of another caller. A *lead* is also the guard that its leader holds |
//! | *board* | the table of a shard's loads in progress |
//! | *seat*, *solo* | a load on the board without a flight, as long as nobody else wants its key |
//! | to *land* | to end a flight with its outcome (the *landing*): store the value, if that is still allowed, and wake the followers |
//! | to *ground* | to take a flight off the board: nobody joins it any more, and its result is not stored |
//! | *fence* | whatever keeps the result of a load that overlaps a write from being stored |
//! | *calm* | of a shard: no load and no write is in progress, so that a write only has to store |
//! | *bare*, *notes* | an entry without side data; the side data that few entries have (validator, tags) |
//! | *glance* | the shortest path of a look-up, in which most hits end |
//! | *stamp*, *tick* | expiry and drawn life, packed into eight bytes; a millisecond of the cache's clock |
//! | *outbox* | keys and values that left under a lock, to be reported and dropped after it |
//! | *credit* | units of the bound that an insert in progress holds |
//! | *heat*, *ghost* | the small counter of hits beside an entry; the fingerprint that is left of an evicted key |
//! | *away*, *sent out* | of a load: run in the background, by the cache's own loader on its runtime |
//! | *line*, *place*, *slot* | the queue of `max_concurrent_loads`, a position in it, and the permission that it gives |
//! | *ticket*, *news*, *outgoing* | of a second tier: the version that a load saw there, changes by other processes, changes on their way there |
//! | *keeper* | the one timer thread of the process |
//!
//! # Floors, and which file is which
//!
//! A file uses the floors below its own, and on its own floor only its own parts.
//!
//! | floor | | |
//! |---|---|---|
//! | 6 | `builder/` | what can be set: `bounds`, `lives`, `loads` · `settings` and their defaults · `check` refuses bad settings · `plan` what the engine is built from, with the number of shards · `tier` what a second tier needs |
//! | 5 | `front/` | `cache` the plain calls · `at` one call with all its options · `many` many keys · `attempt` what a call that loads does next · `blocking`, `future` the two ways to wait · `behind/` the write-behind queue, with its handles for `threads` and `tasks`, their `writers`, and `at` one change with options · `snapshot/` warm restarts · `http/` header fields · `call` the options of one call, and how long it waits · `loader`, `loading`, `loading_async` caches that own their loader, `background`, `gather`, `warm` what they do with it · `outcome` from a landing to a follower's result · `guard` the wait for a slot · `writing`, `invalidator` the calls of a writer · `entries` the iterator · `try_alter` a change that may fail · `inspect` hidden methods for tests · `tier/` the second tier: `ask` for many keys, `calls` its other calls, `worker` the thread that sends it changes, `memory` a test double, `redis/` one over a server |
//! | 4 | `engine/` | `store` all shards with what they share · `look` reading · `join` who loads · `lead` from the decision to lead to the end of the loader, `lead/land` what becomes of its result, `solo` the same for a load that nobody else knows of, `batch` several keys at once, `away` without a caller, and what its job does next, `background` what runs those, `ahead` of need · `put` storing, `insert` its shortcut, `alter` depending on the current value, `heavy` with room from other shards · `guard` the way to the source, `guard/pass` the permit to call it, `guard/line` the line for loads without a caller · `explain` the state of one key, `handlers` the user's, and what the one of removals is told, `events` what the one of events is · `counts` what is counted · `take` removing · `writing` writes at the source, `writing/holds` fences that stay after them · `behind` changes ahead of the source, `behind/alter` those that depend on the current value · `restore` entries of an earlier process · `tier` the second tier, asked before the source: `tier/lead` by one load, `tier/inquiry` by many, `tier/news` what other processes did · `sweeper` frees what expired, and what the keeper does for it · `unreported` reports what left even if user code panics |
//! | 3 | `shard/` | `look`, `join`, `store`, `leave`, `walk` what can be done to one shard · `calm` storing where nothing is under way, `under_way` loads and writes that are · `choose` asks the policy, with the weights of entries · `ahead` taking a key for its refresh · `ask` what one caller accepts · `grow` its table · `entry` · `aside` what few entries have · `board` flights · `seat` loads without a flight · `failures` keys whose load failed lately · `fences` writes in progress · `outbox` what left · `explain` the state of one key · `validate` |
//! | 2 | `parts/` | `group`, `table` where entries are kept · `eviction/` which entry goes · `flight`, `waiter`, `stack` loads and their waiters · `slots`, `turn`, `breaker` what spares the source · `ledger` who is told of what happens to keys: `moments` when they were written, for batches, `written` which were, for a restore, `reservation` the key that an `alter` changes, `kept` values that kept the life of those before them, for a `remove_if`, `watches` a list of those who are told · `tags` what happened to groups of entries · `budget` the bound, `weights` what entries take of it, `credit` room on its way to an entry · `backlog` what is to be written to the source, `outgoing` what a second tier is to be told · `notifier` the handler of events |
//! | 1 | `rules/` | `expiry` lives, stamps, windows · `ahead` when to refresh · `backoff` pauses · `timeouts` for how long a load is waited for · `counted` which errors are the source's · `altered`, `got`, `loaded`, `many`, `tag`, `tier`, `explain`, `event`, `stats` the types that go in and out |
//! | 0 | `words/` | `clock` (`system`, `manual`, `explored`), `tick`, `alarms`, `keeper`, `aside` time · `unpark` a thread as a waker, `block_on` for a future, `wakers` those who are woken together · `tier_key` a key's name outside of the process · `to_key` an owned key for a look-up that stores · `positional` postcard's bytes, of no value that they would garble · `error`, `removal` · `optional` "not found" as a `None` · `contain` catches panics of user code · `prefetch` · `weak_list` who is to be told of an end · `runtime`, `pool`, `stepping` where background work runs · `thread_number`, `striped` counting · `raw_lock`, `lock` the lock of a shard · `sync` locks, or the doubles of loom and shuttle |
//!
//! The engine owns locks, hasher and clock and knows nothing of waiting. A shard owns neither a lock nor a
//! clock: it is given the time, fills an outbox, and calls nobody, so it can be tested and explored as plain
//! data. The eviction rule implements one trait, `Policy`, and sees the table through another, `Slots`:
//! either side can be replaced without the other.
//!
//! # A shard, and the states of a slot
//!
//! ```text
//! shard ── table ── group  group  group ..          16 slots each, entries inline
//!       │             │
//!       │             ├ tags  [u8; 16]     8 bits of each hash ┐ in one cache line
//!       │             ├ marks [u8; 16]     heat, queue, state  ┘
//!       │             ├ seen  [u8; 16]     when the policy last looked
//!       │             ├ overflow [u8; 16]  entries that found the group full, by their hash
//!       │             ├ high  [u16; 16]    16 more bits of each hash
//!       │             └ slots [Option<(K, V, stamp)>; 16]
//!       ├─ policy ─── two rings of slot ids, a table of ghosts
//!       ├─ aside ──── cached "not found"; weights and times of use, where the cache has them
//!       └─ board ──── loads in flight
//! ```
//!
//! A key's home is a group, and its entry may be in any of the sixteen slots. A look-up compares all tags at
//! once, then the key of the slot whose tag matches, and so touches two places in memory. If the group is
//! full, a newcomer walks on to the next one with room, and every group that it passes counts it in
//! `overflow`, in one of sixteen classes by its hash. A look-up that finds nothing at home goes on only while
//! the count of its class says that an entry passed. The walk is bounded (128 groups) so that a flood of keys
//! of one hash cannot make every look-up long: a newcomer that finds no room within that reach evicts the
//! coldest entry of its home.
//!
//! The table begins empty and grows, at 11 taken slots of 16, in steps that are repeated halves of the size
//! that it will have when the shard is full; the last table may fill up further, since the luck of the hash
//! gives some shards more than their share. Growing moves every entry, and needs neither the user's `Hash`
//! nor `Eq`: tag and `high` hold the 24 bits of the hash that the table works with. The home is computed by
//! multiplication, which keeps the order of the hashes whatever the number of groups, so both tables are
//! traversed from front to back; then the ids in the rings are replaced. Most of the cost of growing, though,
//! is the kernel's first touch of fresh memory, so the newcomers before the move prepare the next table, four
//! groups each (`shard/grow.rs`).
//!
//! A slot is in one of three states:
//!
//! ```text
//!            a newcomer takes it                removed, or expired
//!    free ──────────────────────────► live ──────────────────────────► dead
//!     ▲                              │   ▲                            │   │
//!     └────────── evicted ───────────┘   └──── a newcomer of the ─────┘   │
//!     ▲                                        same group takes it over   │
//!     └────────────── the policy's hand meets its id ─────────────────────┘
//! ```
//!
//! *Dead* is a tombstone: the id of a removed entry is still in the middle of a ring, and cannot be taken out
//! of there in constant time. The slot waits until the hand gets there, or until a newcomer to its group
//! inherits the position. No id is in the rings twice, and no slot is freed while its id is in one.
//!
//! Data that few caches use is kept aside, so that the others pay one test for it: a cached "not found" has a
//! slot without an entry, and its key in a map; weights and times of last use are arrays that exist only with
//! a weigher and a time to idle.
//!
//! # Locks, and their order
//!
//! ```text
//! heavy turn ──► one shard's lock ──► a write-behind queue's mutex
//!            │                    └─► that of what a second tier is to be told
//!            └─► the keeper's mutex
//!
//! and under one of these two, a flight's, the keeper's or a manual clock's: no other
//! ```
//!
//! * Nobody holds more than one shard's lock at a time. Calls that concern all shards (`clear`, `remove_if`,
//!   `sweep`, `stats`) lock one after the other.
//! * The *heavy turn* is a mutex, held by the one insert at a time that has to take its room from other
//!   shards. Its holder locks shards one by one; nobody waits for the turn while holding a shard's lock.
//! * A flight's mutex guards its outcome and its list of wakers. It is never taken under a shard's lock: what
//!   the shard has to know of a flight (whether it has followers, whether it is grounded) is in atomics.
//! * The mutex of a write-behind queue guards its state, which is plain data (`parts/backlog.rs`). It is
//!   taken under a shard's lock where a change enters, and where a load asks for what the source does not
//!   know yet: so changes fence loads in the order in which they are accepted.
//! * The same holds for the mutex of what a second tier is to be told (`parts/outgoing.rs`): a key is changed
//!   there in the order in which it is changed here.
//! * The mutexes of the slots and of the breaker are taken on their own, under no other lock; the clock is
//!   read under them.
//! * Also taken under none of the above are the mutexes of a gathering and of the place where callers find it
//!   (the latter first), of the pool, of work on its way to a runtime, of a warm-up, of the list of loads without
//!   a caller, of the fences that are held after their write, and of the sweeps that wait for a thread.
//! * The ledger's lists of restores, of reservations and of `remove_if`s (`parts/watches.rs`) each have a mutex
//!   that whoever tells them something takes under a shard's lock while the list is not empty: each write those
//!   of the first two, each change that of the third. Under that one a `remove_if`'s own record has a mutex,
//!   which the `remove_if` also takes, under a shard's lock.
//! * The registry of tags has a mutex, under which each tag's own is taken; a tag's own is also taken under a
//!   shard's lock, to ask what has happened to an entry's tags. The list of write-behind queues is read under
//!   a shard's lock. Under these no other lock is taken.
//! * The keeper's mutex guards its list. Wakers and jobs are taken out under it and run after it is released.
//!   So it is with every list of wakers. Those who all look again when they are woken are in a `Wakers`
//!   (`words/wakers.rs`); a flight's list also forgets who goes away, and the line for slots wakes one at a time,
//!   in order.
//!
//! The only user code that runs under a shard's lock is `Eq` of keys (and their `Hash`, when news from a
//! second tier is about one of them), and, under the shared lock or a lone reader's, `Clone` of keys and values.
//! Everything else is arranged around the lock: keys are made owned before it is taken, hashes are stored, and
//! values that leave are gathered in an outbox and dropped after it is released. A panic under a lock strikes
//! between two steps that each leave the shard consistent; the locks do not poison, so the cache goes on.
//!
//! # Invariants
//!
//! `Cache::validate`, hidden and for tests, checks those invariants that are visible between calls.
//!
//! 1. The shards never hold more than the bound. (See the next chapter.)
//! 2. While no insert is in progress, `len` and `weight` are exactly what the shards hold.
//! 3. A key has one slot, where a search from its home finds it.
//! 4. `overflow` of a group counts, for each of sixteen classes of hashes, the taken slots (dead ones included)
//!    whose entries passed that group, up to 255: from then on it stays at that.
//! 5. The id of every taken slot is in one ring, once, and the slot knows in which; ids of free slots are in
//!    none.
//! 6. A cached "not found" has a live slot without an entry, and no entry is without a live slot.
//! 7. A key has at most one flight or seat on the board.
//! 8. Only a load on the board stores; whatever stores or removes a key takes its load off the board, in the
//!    same critical section.
//! 9. A flight that has a follower lands; the first landing is the only one.
//! 10. A life never grows: it is drawn once, at most the TTL, and only ever cut.
//! 11. Once a clock has told any thread a time, it tells no thread an earlier one.
//! 12. A value that leaves is in exactly one outbox, or held by the insert that it made room for, and is
//!     delivered with no lock held.
//!
//! # How the bound holds at every moment
//!
//! The bound is one number for the whole cache (`parts/budget.rs`): entries, or units of weight. An insert
//! first gets the units that its entry needs, as *credit*, and then stores; an evicted entry gives its units
//! to the credit of the insert that evicted it, not back to the budget. Hence
//!
//! ```text
//! stored + credit of inserts in progress = used ≤ max        at every instant
//! ```
//!
//! and nobody can see more than the bound, since more is never there. In a full cache this costs next to
//! nothing: an eviction pays for the entry that asked for it, and the one word that all shards share is read
//! and not written. Unspent credit returns to the budget when the credit is dropped, on a panic too.
//!
//! The units of a replaced value count towards its successor. If the successor needs more, the old value goes
//! first and the new one is admitted like any newcomer.
//!
//! A shard evicts its own entries until the credit is enough. If it has nothing left, or clearly less weight
//! than its share, the room is in other shards: the insert releases its shard, takes the heavy turn, evicts one
//! entry after another, in turn from each shard that has more than its share, or else from any, and tries again
//! from the start. (What an eviction leaves over goes to whichever insert asks next. If entries have weights,
//! the shards' parts of the bound would thus take a random walk: a Zipf of 100,000 keys, 64 bytes to 256 KiB
//! each, in a hundredth of that, had 39 per cent of hits in three shards and 44 in one. Entries heavier than an
//! eighth of a shard's part are not balanced, and only the room beside them is shared: otherwise an entry
//! heavier than that part would be evicted, however hot it is.) Only one insert at a time does so; two that held
//! half of the room each would wait for each other. That is how an entry as heavy as the whole budget gets in,
//! though the cache has many shards.
//!
//! A value that weighs more than the budget is refused: the key's old entry goes, the value is reported as
//! rejected, and the caller that loaded it still gets it.
//!
//! # Flights, and what is fenced
//!
//! A flight is a key, the time it began, an outcome that is written once, and its waiters. On the board of
//! its shard it *has its key*: others may join it, and it may store. Off the board it is *grounded*: those
//! who joined get its result, and nobody else does.
//!
//! | takes the flight off | because |
//! |---|---|
//! | its own landing | it is done |
//! | `write_through` and `writing`, when they begin and when they end | it may have read before the write |
//! | `insert`, of its key | what was inserted was written after the load began |
//! | `WriteBehind`'s `put`, `delete` and `alter` | the same; and while the change is unwritten no load begins, it is answered from the queue |
//! | `remove`, `expire` | the load may have read the very value that was to go |
//! | `clear` | the same, for every key |
//! | `remove_if` | nobody knows whether the predicate would match what the loads will bring |
//! | a caller with `force`, or with a `max_age` shorter than the flight's age | it may have read what that caller must not see |
//! | `load_timeout` | it may never come back, and must not block its key for ever |
//! | its leader's end by drop or panic | there will be no landing |
//!
//! A blocking load of a key of which nothing is known begins in a *seat*, if the cache asks nothing of its
//! loads but their values: no windows, no weigher, no guards, no loader of its own, no
//! refreshes, no second tier. Its caller identifies it by an
//! alias, an address on the caller's own stack. Whoever needs the load of that key, to follow it, to ground
//! it or only to look at it, *meets* it: the seat becomes a flight, on the board as if it had begun there.
//! The flight is also kept for the caller, who finds it by the alias when its loader returns, whether it is
//! still on the board or not. So there is one kind of follower and one way to be fenced, and a seat itself
//! handles one outcome only: a value that is stored. Any other (an error, "not found", a panic, a timeout, a
//! write in progress, no room in the shard) turns the seat into a flight too, which lands as any other.
//!
//! What counts is whether the load *started* before the write, since from its start on it may have read. The
//! board tells that, not a comparison of times: a flight that started earlier is no longer on it, so no clock
//! can be wrong about it. The price is that a load which in fact read after the write is sometimes not
//! stored, and done again.
//!
//! An error ends the flight for all followers. With a lock instead of a flight, and a source that is down,
//! the waiters would take the lock one by one, each try and fail, and the last would wait for the sum. The
//! error is kept type-erased, as `Arc<dyn Any>`, because calls for one key may have different error types; a
//! follower that cannot downcast it looks again.
//!
//! Keys whose load failed are remembered for a while beside the board (`shard/failures.rs`), with the number
//! of failures in a row and the tick until which the source is left alone; the failed flight itself is kept
//! only if `error_backoff` makes its error an answer. There is room for 128 keys a shard. Every write to a
//! key, and every successful load of it, forgets its failures: an error is as old as the load that met it.
//!
//! If a leader goes away without an outcome, its flight lands `Abandoned`: all waiters join again, and the
//! first of them leads. If its thread unwinds, the flight lands `Panicked`. A leader may also be alive and
//! never polled, so waiters watch the clock themselves: the first to see `load_timeout` pass takes the flight
//! off the board and lands `TimedOut` for everybody, and a caller that comes later does the same before it
//! leads. A blocking leader that is too late finds that out when it lands.
//!
//! A loader that asks for its own key would wait for itself. So each thread keeps a short list of the flights
//! whose loader it is running (`parts/stack.rs`); for a task, the list is set during each poll. A caller
//! about to follow a flight on its own list gets `Recursive`.
//!
//! The handler of events (`parts/notifier.rs`) is called in the middle of things: by a caller that notices on
//! its way to a load that the previous one has timed out, or by one of a hundred leads that fail together. A
//! load inside the handler could wait for something that its own thread is holding up, and would have to know
//! about all such things. So the handler starts no load: it is on its thread's list too, and a miss inside it
//! is `Recursive`. It is called when everything that landed together has landed and the slot is back; so the
//! breaker does not call it, but keeps its transitions until then.
//!
//! A tag does not know its entries (`parts/tags.rs`). It remembers the version at which it was last removed
//! or expired, and an entry remembers the version at which its load started; a look-up compares the two. So a
//! removal writes a few words, and also applies to whatever loads now in flight will store, without knowing
//! them. One version counter serves all tags, since a load need not know its tags when it starts. A bit in
//! the mark of a slot says that the entry has tags to check; entries without tags pay only the test of that
//! bit. The caller's tags (`At::tag`) are known to the flight from its start, and a caller that comes after a
//! removal takes the key from it. The loader's tags are known only when it is done; followers that joined
//! after the removal are then sent to look again. A tag that no entry has any more is dropped, and what
//! happened to it is kept by the hash of its name, for loads that began before.
//!
//! A write at the source takes time, so it is not enough to ground what is in flight at one moment: a load
//! that begins during the write may read before it takes effect. So while the write lasts, its key is among
//! the shard's *fences* (`shard/fences.rs`); a flight that lands and finds its key fenced is not stored, and
//! the end of the write grounds the flights that began meanwhile. A fence is *disputed* as soon as something
//! else happens to its key, above all another write: nobody knows in which order the source saw the two, so
//! none of them leaves its value in the cache. A fence costs its writers an entry in a small table, and
//! without any a landing pays one comparison. A fence that is held for lagging replicas stays up until an
//! alarm ends it.
//!
//! `alter` (`engine/alter.rs`) is optimistic: it looks, runs the user's closure, and writes only if nothing
//! has happened to the key since the look; else it starts again. So it holds nobody up, and the closure may
//! take its time, use the cache, or panic. Meanwhile the key is *reserved* (`parts/reservation.rs`), by all
//! 64 bits of its hash. Every write, landing and removal of the key revokes the reservation, under the same
//! shard's lock under which `alter` will check it. What the closure's own thread does to the key while the
//! closure runs does not revoke it: the next round would only do it again. What happens to a tag of the value
//! that was shown is reported to no shard, so `alter` keeps these tags and checks them with its reservation.
//! If it needs room from other shards it releases its lock, and so checks both again when it has the lock
//! back.
//!
//! With a write-behind queue (`engine/behind/alter.rs`) the look asks the queue first: a change that is
//! accepted but not cached yet, or no longer cached, is the current value. The queue is asked without the
//! shard's lock. That is safe, because whatever can make the queue and the cache disagree is noted or
//! resolved before the look can see it: a change revokes reservations when it is accepted, in the critical
//! section in which it enters the queue, and a deletion removes the older value there; a change that is
//! written to the source before its caller has stored it in the cache removes the older value before it
//! leaves the queue; and a change that is given up on leaves the queue and the cache in one step. The write
//! to the source itself does not revoke a reservation: the key's value is the same.
//!
//! A batch has a flight for each key that it leads, all landed by one loader. It waits for the flights of
//! others only when its own have landed, so nobody waits for a batch that itself waits. A value in its reply
//! that was not asked for has no flight that could tell whether it is still the newest. So while a batch is
//! under way all writes, landings included, note their moment in a small table by hash (`parts/moments.rs`);
//! such a value is stored only if the table says that nothing has happened to its key since the batch began,
//! and nobody is loading the key. Without a batch the price of this is one test a write.
//!
//! # Stale windows
//!
//! If a cache has stale windows, an expired entry stays where it is until the last of them ends, and nothing
//! is written to it: its stamp has the expiry, and the time since then is one subtraction
//! (`rules/expiry.rs`). So no use of a value can move the end of a window. The look-up of a hit only
//! distinguishes fresh from not fresh.
//!
//! Everything else is one decision, `judge` (`shard/join.rs`), which looks at the entry, the flight and the
//! failure of a key and changes none of them. It is asked twice: under the shared lock, where it may answer
//! "serve it" (to all callers but one), and under the exclusive lock, where it makes that one caller the
//! leader. A stale value is cloned under the shared lock only.
//!
//! | | nobody loads | somebody loads | held back |
//! |---|---|---|---|
//! | fresh | look again | look again | look again |
//! | revalidate | lead (`Next::Revalidate`) | stale, at once | stale, at once |
//! | error only | lead | wait | stale, at once |
//! | gone, or never there | lead | wait | the last error, if `error_backoff` is set, else lead |
//!
//! When a load fails, every caller, leader and followers alike, looks once more for a value that may be served
//! now (`front/attempt.rs`): a value that was removed during the load, or whose window has ended, is not found
//! then.
//!
//! A look-up that finds nothing fresh is not counted until it is known what its caller was served; an RAII
//! guard counts a miss if that is never known.
//!
//! # Guarding the source: slots and the breaker
//!
//! If the cache guards its source, a leader asks for a permit before it runs its loader (`engine/guard.rs`);
//! else that is one test. The permit is a slot and a trial, each from a part that knows nothing of caches:
//! the line for slots (`parts/slots.rs`) and the breaker (`parts/breaker.rs`). Both are given back when the
//! loader is done, before its result is stored, or by a drop if the leader goes away.
//!
//! *Stale before waiting.* A leader that finds no slot gives up its key and is served a stale value, if there
//! is one for it. One that cannot be served stale, because of its caller's `max_age`, say, gets in line with
//! the key. Callers that come for the key meanwhile look for something stale first, and those that had joined
//! the flight earlier are woken to do the same.
//!
//! *A slot is handed over directly.* Whoever gives a slot back gives it to the first in line, under the lock;
//! there is no moment in which a newcomer could snatch it, and none in which it is free while somebody waits.
//! A load that is called but has gone away passes the slot on.
//!
//! *A slot is a lease.* It ends with `load_timeout`, as a load's right to its key does; otherwise as many
//! hung loads as there are slots would stop all keys for ever. No thread watches for that: whoever comes by
//! takes the overdue slots, and those in line wake themselves when the first lease ends. All leases have one
//! length, so they end in the order in which they began, and only the first has to be checked. Trials that
//! are not reported fail in the same way, as of the end of their lease and not when somebody notices.
//!
//! *In line a load's own time does not run.* Until the load is called, the start time of its flight is the
//! end of all ticks; whoever calls it sets the true tick and wakes the followers, which then compute their
//! deadline anew. So a leader that is called and never polled holds up its followers no longer than one that
//! never had to wait. A write to the key meanwhile is noticed: a load that leaves the line without its key
//! looks again, and keeps its slot.
//!
//! *Loads inside loads.* Beside flights, a thread's list of what it runs has the slots and the breaker that
//! let its load through; a load that begins inside uses its parent's. If a load that has a slot waits, inside
//! its loader, for a flight in line, it would wait for itself: so that flight is called at once, one above
//! the limit, or, if it is only on its way to the line, it need not get in. (Both sides take the flight's
//! lock, so one of them sees the other.) A load inside the breaker's probe is a part of the probe.
//!
//! *A place is inherited.* If the leader goes away in line, one of its followers leads, and takes over its
//! place.
//!
//! *The breaker counts* only loads that began since it opened last; the outcome of an earlier one is ignored,
//! be it a late failure or a late success.
//!
//! # A second tier
//!
//! A second tier, which several processes share, is asked between a flight and its source. Three things
//! follow from that place, and need nothing new: a process asks once for a key, however many callers wait;
//! what the tier has lands through the flight, which a removal takes off the board; and if the tier fails,
//! the flight goes on to the source. The tier is asked before the slots and the breaker, which are about the
//! source.
//!
//! ```text
//! lead ──► settled?  ── no ──────────────────────────► the source       engine/tier.rs
//!            │ yes
//!            ▼
//!          get ──── fresh, and not too old ───────────► land: min(own life, what is left there)
//!            │ ──── past its life, in a window ───────► cached as that, shown to the loader
//!            │ a ticket: what was seen there
//!            ▼
//!          the source ──► land ──► told to the tier, with the ticket
//! ```
//!
//! What can go wrong is that an old value comes back. It has five ways to do so:
//!
//! | from | to | what stands in its way |
//! |---|---|---|
//! | a load that began before another process's removal | the tier | the *ticket*: a loaded value comes with what was seen under its name when the load began, and the tier stores it only if that is still there. A removal leaves a mark that stays for longer than loads take |
//! | a value written here, still on its way when another process writes | the tier | the news of the other's: a removal is sent after it, and after all that waits if news may have been lost |
//! | the tier's reply, overtaken by news | this process | news counts as a removal here, and grounds the flight |
//! | the tier, which has not heard of a removal yet | this process | changes made here and not confirmed there are in `parts/outgoing.rs`, and the tier is not asked for their keys |
//! | news that was lost | this process | when the connection is back, nothing here is served until the tier was asked for it again, and what the tier does not have then goes |
//!
//! One thread of the cache's own sends its changes (`front/tier/worker.rs`), in the order in which they were
//! made, since they are noted under the lock of their shard; of each key only the last, and a change that
//! fails is tried again. A written value whose transfer failed is retried as a removal: it may have arrived
//! after all, and another process's value after it. More than 65,536 changes become one, "everything".
//!
//! A removal may name its key in a borrowed form, a `&str` for a `String`, of which no key can be made, and
//! news that comes back has no key either. So a key's name outside of the process is what it feeds to a
//! hasher (`words/tier_key.rs`), which by the contract of `Equivalent` is the same for both forms. It is
//! written as text, and fed to this process's hasher when it comes back. Two keys may have one name; the
//! entry says which key it belongs to.
//!
//! The bytes of the usual codec have no field names, and serde has attributes with which such bytes are read as
//! another value. What can be seen of that while a value is written is refused there (`words/positional.rs`,
//! which snapshots use as well); for the rest, a tier on a server decodes some of what it has encoded before
//! it stores it (`front/tier/redis/trial.rs`). The cache is told of what is left out, and tells its handler.
//!
//! No two clocks are compared: an entry carries its age and what is left of its life, both as of the moment
//! at which it is handed over. Jitter is drawn for a copy as for a value, so that the copies in many
//! processes do not expire at once; it never adds. An entry past its life says for how long it has been so,
//! and is stamped with an expiry in the past, so that its windows end when they would have.
//!
//! # Background loads
//!
//! A refresh is a lead without a caller (`engine/away.rs`). It goes through the same decision, the same
//! flight and the same landing as any load, so it is fenced, joined, timed out and guarded like one. The
//! difference is that it holds the cache weakly while the loader runs: dropping the last handle to the cache
//! drops all entries at once and lands every remaining flight as `Abandoned`, and a task that loads drops its
//! loader's future when it hears of that. A blocking loader cannot be stopped; `is_abandoned` tells it, and
//! its result is dropped. A key with a change in a write-behind queue is not refreshed: what the source has
//! is older.
//!
//! As `Attempt` does for a call, `Away` decides what its job does next: ask the second tier, stand in line, run
//! the loader, or nothing. The thread and the task that drive it (`front/background.rs`) differ in how they wait:
//! a thread blocks, in the loader for as long as that takes; a task also hears that the load is over, or its time.
//!
//! *A caller that `soft_timeout` may free* cannot run the loader itself: a thread cannot be interrupted, and
//! a caller's future cannot go on without its caller. So if the cache owns its loader and something stale may
//! be served, a miss is such a lead as well. Its caller is the first follower, and has joined before the
//! runtime hears of the load (`send_out`, `engine/away.rs`): so the flight does not give way, its time runs,
//! and what frees followers frees this caller. The caller leads itself where that would be worse: inside
//! another load, whose slot it uses and where recursion on its own key is detected; where no slot is free,
//! for then it is served at once; and after a runtime refused the load, or took it once and dropped it.
//!
//! *A detached load* (`detached_loads`) is the same with nothing stale to serve, for callers that may be
//! dropped. The count of followers never falls, so a flight that all of them have left can still be joined,
//! and still stands in line as a miss. Two things are different. If no slot is free there is as a rule
//! nothing to serve, so the load is sent out all the same, and stands in line by itself (`Line`,
//! `engine/guard/line.rs`). An attached load leaves the line with its caller, so the line is never longer
//! than there are callers; a detached one would stay, and in front of a source that is too slow ever more of
//! them would pile up. So it leaves after `load_timeout`, unless somebody waits for it at that moment: then
//! it stays as long again, in its place. And if the breaker is open, the caller leads itself, to be told so
//! without a task; with a second tier, the tier is asked first, in the background.
//!
//! *Which hit is the first past the point* is answered by the board: a hit that finds its value due checks,
//! under the shared lock that it holds anyway, whether the key has a flight or a failure that holds it back
//! (both tables are mostly empty). Only a hit that finds neither takes the exclusive lock. A bit beside the
//! entry would have to be cleared when a refresh fails, times out, or is dropped by its runtime, and kept in
//! step with readers that write marks without a lock. If refresh-ahead is not set, the look-up takes another
//! path from the first test on.
//!
//! *The point* is a share of the drawn life, a little arithmetic on the stamp; or it is drawn
//! (`rules/ahead.rs`) from the entry's own load time, which caches that ask for it keep aside, two bytes a
//! slot: a mean over the cache would refresh the slow keys too late and the others too early. The draw is a
//! hash of the time, the key and the seed, so it needs no state that threads would share. A hit that is
//! farther from the end than even the slowest load asks for needs only the clock's cheapest reading.
//!
//! *A runtime may refuse.* The work is put into a cell that both sides can take it from
//! (`front/background.rs`). If it is refused, or dropped on the spot as by a runtime that is shut down, the
//! caller takes it back, and does it or lets the key go; it does not wait for a slot with it. A runtime that
//! is only full says that it is busy. A hit asks for that before it takes the key, so that a caller that has
//! an answer does not pay for a load while a slow source keeps the pool's threads.
//!
//! *Refreshes stand in line behind all misses*, and a caller that misses the key of a refresh in line does
//! not wait with it: it takes the key, and the refresh finds that out when it is called. So a refresh that
//! never has its turn holds up nobody.
//!
//! *Gathering* (`front/gather.rs`) runs on the time of the first caller that missed, not in the background:
//! the others follow their own flights, and if the first caller goes away, all keys are abandoned, looked up
//! again, and gathered anew. The first caller also goes if there is no slot and it can be served stale. Of
//! those who look again then, none that can be served stale gathers once more: a hundred of them would wait
//! for a gathering each.
//!
//! # Eviction
//!
//! The rule (`parts/eviction/window.rs`) has one constraint: a hit may do no more than raise a small counter
//! beside the entry, its *heat*, with the shard's lock shared. Lists that are reordered on every hit need the
//! exclusive lock, or a queue of hits to be worked off later, and then the bound is a promise for later too.
//! So all the work is done on a miss.
//!
//! ```text
//!               hot enough                            ┌───────┐ hit since: again, one cooler
//!            ┌───────────────────────────────────►    │ main  │◄─┐
//!            │                                        │       │──┘
//! newcomer ──┴─► window ── not hit ──► gone, leaving  └───┬───┘
//!     │            ▲ │ hit once or twice:  a ghost        └── not hit ──► gone, leaving a ghost
//!     │            └─┘ a second look         │
//!     └── its ghost is younger than main's next victim: to main at once
//! ```
//!
//! *Two rings and ghosts.* Most keys are asked for once. They pass through the window, a small part of the
//! shard, and do not disturb the rest. An entry that was hit there three times (twice where the window is
//! small) moves to the main ring; one that was hit less often gets one more round. A ghost is what is left of an evicted key: 15 bits of its
//! hash and two dates of a byte each.
//!
//! *A returning key has to beat somebody.* A newcomer with a ghost goes straight to the main ring only if it
//! was last used later than the main ring's next victim was last looked at. That is LIRS's idea (an entry's
//! worth is the time between its uses) in terms of a clock. It keeps a loop or a scan from turning the main
//! ring over for nothing: without the test the mean hit ratio over the tuning traces is 45.8 instead of 50.1.
//!
//! *The window finds its size.* A key whose ghost is from the window and that comes back soon says that a
//! somewhat larger window would have kept it; a ghost from the main ring says the same of that ring. One
//! makes the window's target grow, the other shrink, between 1 % and 90 % of the shard. Without this, the
//! mean is 48.6. Only ghosts that pass the test above may make the window grow; else, in a loop slightly
//! longer than the shard, the window eats the main ring: in a loop of 1,000, 33 instead of 96.6.
//!
//! *The stale valve.* After a change to a loop longer than the ghosts reach, no newcomer can pass the test,
//! and a main ring full of yesterday's keys would stay for ever. If its next victim has not been looked at
//! for very long, one eviction in four takes it instead of the window's.
//!
//! *Lighter entries stay longer.* If entries have weights, a look of the hand costs an entry heat in
//! proportion to its weight relative to the mean, from an eighth to twice, and the test above scales the time
//! since the last use by the same proportion: worth is hits per unit of room. So a cache bounded by bytes has
//! more hits, at the price of one or two points of the byte hit ratio.
//!
//! *Popularity may pass.* A turn of the main ring takes one of an entry's heat, so one that was hit seven times
//! stays for eight turns. That is right while popularity lasts. Where the window has become large, it does not
//! last, and a turn leaves a heat of one at most.
//!
//! *A removal is no verdict.* If an entry of the main ring is removed or expires, it leaves a ghost that brings
//! its key back to the main ring when it is stored again.
//!
//! *Until the shard is full* there are no ghosts, and no memory is spent on them: newcomers fill the main
//! ring, and the window gets what is left over.
//!
//! Every loop in the rule is bounded: an eviction looks at 64 live entries at most, and frees each dead one
//! in between once. Ages are clamped before a byte could wrap. Both rings together cost four bytes an entry
//! (chunks of ids out of one pool), ghosts four more.
//!
//! The rule loses to LRU where no entry is worth keeping for its frequency: a working set that is replaced as
//! a whole, or keys that come twice and never again. The table of hit ratios is at the top of the file.
//!
//! # Time
//!
//! *A life in eight bytes.* A stamp packs the tick of expiry (42 bits of milliseconds) and the drawn life (22
//! bits of floating point) into a word that is never zero, so that `Option<Entry>` needs no byte of its own.
//! Whether a value is fresh is one shift and one comparison; its age, which few ask for, is the difference of
//! the two. Lives up to 131 s are exact, and so are the ones that people write down; others are exact to one
//! part in 65,536.
//!
//! *Jitter* is drawn when a value is stored, and only ever shortens a life: the TTL is the longest that a
//! value is served.
//!
//! *The clock.* With an expiry to compare, reading the time is the most expensive part of a hit. The exact
//! clock takes 26 ns, the kernel's coarse one 5.5, a load of a word that somebody keeps up to date 0.9. So
//! one cell holds the time of the whole process (`words/clock/system.rs`). While reads are frequent, the
//! clock is *wound*: a thread updates the cell every 2 ms (in the format of stamps, so that a hit compares
//! the two words as they are). While they are not, the clock is *still*: readers look at the coarse clock
//! themselves, and write what they saw into the cell. Since every time ever told went through that one word,
//! which only grows, nobody sees time step back. A reader does not trust the thread blindly: every 64th read
//! compares with the coarse clock, because a scheduler may not run the thread for a tenth of a second when
//! all cores are busy. With that, 99.9 % of the readings are less than 7 ms late, with 1 to 32 spinning
//! threads on two cores.
//!
//! *The keeper* (`words/keeper.rs`) is that thread, and the only one that stays: it also rings the alarms of
//! waiting tasks, and has caches swept that nobody uses. It is started when first needed, sleeps until
//! something is due, holds what it serves by weak references, and ends with the last of that. A manual clock
//! never involves it. The only user code that runs on it is wakers: a sweep, in which listeners run, gets
//! another thread for as long as it takes (`words/aside.rs`), because a listener may wait for something that
//! only an alarm ends.
//!
//! *Expired entries leave in four ways.* A look-up does not serve them. Every insert looks at the next four
//! entries, round and round, and frees those whose life is over; while nothing can have expired yet, that is
//! one comparison. `sweep` looks at all. And a cache that nobody uses is swept in the background when its
//! earliest expiry has come, at the soonest a second after the last look, at the latest a minute after it.
//!
//! # The lock, and a hit on many cores
//!
//! A reader-writer lock counts its readers in one word, and every read pulls the cache line of that word from
//! core to core: with two threads on one key, `parking_lot`'s lock and any other of its kind gave 32 million
//! hits a second where one thread alone had 90. The lock of a shard (`words/raw_lock.rs`) is therefore
//! *biased* towards readers while it is only read: a reader writes the lock's name into a cache line of its
//! own thread's, and checks that the bias is still on. A writer takes the bias away and then waits until no
//! thread's line has the name any more. After 256 reads without a write the bias comes back. While it is on,
//! a hit writes its thread's line, its thread's line of the statistics, and the entry's heat until that is at
//! its highest. With two threads that is 200 million hits a second on one key, and 120 to 190 million on
//! 1,000 to 64,000 keys.
//!
//! What is written to is locked and unlocked for every call, and there another thing counts. An atomic addition
//! has to wait until everything that its thread wrote before has arrived in the core's cache, and a newcomer
//! writes to a dozen lines. So whoever is in a shard alone leaves it by a plain store, and those lines arrive
//! while the thread goes on. A reader of one entry does the same if it finds nobody inside; only readers that meet
//! are counted, and share the shard. (Values whose `Clone` takes 20 ms, and two to eight readers of one shard: the
//! longest `get` takes two of these instead of one.) The other price: a thread that says that it parks before the
//! store of the one who leaves has arrived is not seen. So it watches for that, and looks again after a millisecond.
//!
//! No lock of the standard library or of `parking_lot` can do this, so `words/lock.rs` has the crate's only
//! `unsafe`: a cell, and the guards that reach into it. The protocol itself is safe code, and loom runs it on
//! every schedule with a cell that detects conflicting accesses (`models/lock.rs`).
//!
//! A thread that has to wait for the lock parks, and a thread has only one park token. An executor that has
//! polled one task, and then waits for a shard in another, may be unparked for the first meanwhile, and the
//! lock takes that for its own wake-up. So a thread that parked for the lock leaves it with its token set.
//!
//! # Counting
//!
//! Hits and misses are counted in striped lines (`words/striped.rs`): in every cache's counter a thread has a
//! line of its own, which only it writes, with a load and a store. One shared counter would be a line that
//! all cores pull from each other, and even without contention an atomic addition is a fifth of a hit. Events
//! under the exclusive lock are counted there, as plain numbers; rare ones in shared atomics; loads are not
//! rare, and are counted in the striped lines.
//!
//! # Decisions, with their figures
//!
//! | decided | because |
//! |---|---|
//! | an own table, entries inline | hashbrown with a slab: 1.3 to 1.7 times slower hits |
//! | 11 of 16 slots taken when a shard is full | at 13 an entry takes 6 bytes less, but every fourth group is full and searches walk on: hits in 64k entries are 10 % slower, `get_or_insert_with` over a Zipf of 1M keys in 100k entries 25 %; the hit ratio is the same from 11 to 14 |
//! | sixteen classes of a byte for the entries that passed a group, and a short path for keys beyond their homes | eight of two bytes, and the path that handles every case: `get_or_insert_with` over a Zipf of 1M keys in 100k entries a twentieth slower, gets and inserts mixed a thirtieth |
//! | a seat for a load that nobody else knows of | a flight for each, 265 ns a load of a new key in 100,000 entries; with seats 157 |
//! | one test for everything kept beside entries | six tests, and one function for all writes: an update 33 ns, now 21 |
//! | the slot of the next victim but one, and the ghosts of the next, prefetched (`safe_arch`) | fetched by the insert that needs them: `get_or_insert_with` over a Zipf of 1M keys in 100k entries 50 ns, now 42 |
//! | an insert's conditions that never change decided once, those of a calm shard in one comparison, and the earliest expiry written only when it changes | each asked: 39 instructions more a newcomer (of 600), 25 more an update (of 240); inserts 4 to 6 % slower |
//! | lives drawn in their encoded form | by two multiplications and a logarithm: 30 instructions more a write |
//! | a removed or expired entry of the main ring leaves a ghost | without it, its key begins in the window like a new one: Zipf 0.9 in 1,000 entries, a fifth of the calls removals, 32.1 per cent of hits, now 33.8; half of the keys with a life of 20,000 accesses 42.6, now 43.5 |
//! | an entry of a large window's main ring keeps a heat of one at most | of up to seven: a set of 1,000 keys of which one is replaced every five accesses, 1,000 entries, 76.6 per cent of hits, now 78.9 (LRU 80.6); keys with some ten uses, 1,000 accesses apart, 74.4, now 77.8 (80.0); OLTP at 250 loses 0.1 points, other traces nothing |
//! | two hits move an entry out of a small window, three out of others | always three: popularity that drifts, 1,000 entries, 37.0 per cent of hits, now 38.2; P3 at 25 % loses 0.1 points |
//! | a look at an entry costs heat in proportion to its weight | all alike: with sizes from 64 bytes to 256 KiB 45.5 per cent of hits and 45.5 of bytes that are hits, now 52.1 and 44.2; with one size in ten 200 times the others 46.6 and 43.4, now 55.5 and 41.4; with sizes from 100 to 800 bytes 46.2 and 46.1, now 46.9 and 44.7. A newcomer takes 200 ns instead of 145, for the looks that the light ones survive |
//! | a shard that has an eighth less weight than its share takes room from others | each from its own: 19 rows with sizes from 64 bytes to 256 KiB, in the default shards, 51.7 per cent of hits and 42.2 of bytes that are hits; now 53.4 and 43.7 |
//! | at least 512 entries a shard | the hit ratio is within 0.1 points of one shard's from 1,000 entries up; with 256 a loop that just fits loses 3.3 points |
//! | a window that nothing speaks for shrinks back | a loop after a phase that wanted a large window: 48.8 % hits instead of 43.6 |
//! | the next table made ready by the newcomers before it, and entries moved as they lie | made when it is needed, and moved in the order of the rings: a shard of 72,000 entries stands still for 6.7 ms when it grows, now for 1.6; without a bound the longest of 10 million inserts took 9 to 14 ms, now 1.3 to 1.8 |
//! | at most 8,192 entries a shard, if the bound is known | a shard that grows stands still: the longest of 10 million inserts took 0.6 ms, with 65,536 entries a shard 3.6 ms |
//! | sixteen shards a core | with eight, two threads' writes are an eighth slower, for they meet twice as often; with 32 they are a twentieth faster, and one thread's a twentieth slower |
//! | who is alone in a shard leaves it by a plain store, and a reader of a shard that is written to is alone if it can | an atomic subtraction, and readers who are counted: `get_or_insert_with` over a Zipf of 1M keys in 100k entries took 1.18 times as long, a scan 1.19, loads of new keys 1.31 (two threads 1.09, 1.23 and 1.18), updates 1.14 in 2,000 entries; gets and inserts mixed no difference |
//! | shards aligned to 128 bytes | processors fetch lines in pairs |
//! | 1,024 ghosts a shard at least | OLTP at 250 entries gains 2 points |
//! | ghosts in lines of 16 | sixteen cost nothing against a perfect table; eight let loops fall to 0 |
//! | ghosts of the main ring dated when they go | with their own date they are replaced before they tell anything: 2 points on OLTP at 500 and 1,000 |
//! | dates of a byte, fingerprints of 15 bits | 0.1 points against exact ones |
//! | 64 steps an eviction at most | with 8, 0.35 points less; with more, nothing |
//! | a wound clock that shows the time in the format of stamps, and marks that store the maximum heat minus the slot's | a shift and a test for lives without end, and a mask and a comparison: 119 instructions a hit, now 114, and in 1,000 entries 1.3 times `quick_cache`'s rate, now 1.5 (one thread, three runs by turns) |
//! | a wound clock, compared every 64th read | 0.9 ns a read (0.6 without comparing; but then, with four threads and more, 99.9 % within 63 to 133 ms instead of 7) |
//! | a beat of 2 ms | with 1 ms, readings were no less late under load, and the thread wakes twice as often |
//!
//! # Tried and rejected
//!
//! | tried | instead of | outcome |
//! |---|---|---|
//! | `membarrier` by the writer that takes the bias away, so that readers need no exchange | an exchange by each biased reader | hits 0 to 2 % faster: the exchange overlaps with the look-up; and 9 us for each such writer |
//! | a still clock looked at within the look-up of most hits | a look-up of its own for that | hits on a wound clock a seventh slower |
//! | asking whether the clock is wound before the first glance | a glance in vain while it is not | hits in 1,000 entries on a wound clock 9.1 ns instead of 8.8; on a still one 18 instead of 23 |
//! | the look-up of most hits inlined where it is called, by force | a call | hits in 1,000 entries and on one key 10 % slower, in 64k entries 5 % |
//! | tags matched by a plain loop | `wide`'s compare and mask: nine instructions | 40 instructions |
//! | tags matched by arithmetic on two words | the same | 24 instructions |
//! | the window measured by weight | by entries | hits 0.3 per cent more, and a second account of which entry is in which ring |
//! | small entries moved on to the main ring when they leave the window, in exchange for something larger | left to their ghosts | of sizes from 64 bytes to 256 KiB one point fewer hits, and 6 fewer bytes that are hits |
//! | weight beyond twice the mean counted up to eight times | up to twice | hits the same, and 3 points fewer bytes that are hits |
//! | a heavy newcomer without a ghost is the first to go, unless it is hit before | all begin in the window alike | 39 rows with sizes from 64 bytes to 256 KiB: hits 57.8 instead of 57.7, bytes that are hits 51.1 instead of 51.4; with one size in ten 200 times the others 62.3 and 46.9 instead of 61.8 and 47.3 |
//! | heat of at most two after a look, whatever the window | only where the window is large | popularity that is exchanged key by key gains 1 point; Zipf loses 0.2, P3 at 10 % 0.8, web12 at 300 0.5 |
//! | heat halved by a look | less one | the same; Zipf loses 0.6 points, OLTP at 250 1.1 |
//! | sixteen hot entries a turn set to no heat, to measure how many of them are not hit again (Zipf 10 to 20 %, exchanged sets 40 to 99 %); little heat is kept where it is more than 40 % | asking whether the window is large | swapped popularity gains 1 point more; but web12 at 300 also has 42 %, and loses 0.8 |
//! | two hits move an entry to the main ring whatever the window | three in a large one | keys with few uses each, and sets that are exchanged, lose 1 to 2 points |
//! | one hit moves an entry out of a small window | two | drift gains 1 point more; web12 at 300 loses 0.4, OLTP at 2,000 0.5 |
//! | a key that the main ring let go lately goes back there | to the window | loops fall from 97 to 3 |
//! | ghosts that come back soon but do not pass make the window grow by half an entry | only those that pass | loops fall from 97 to 21; if only as many count as passed before them, sets that slide gain 0.3 points and loops lose 1.2 |
//! | the window shrinks by one for a ghost of the main ring | by one and a half | sliding sets and short-lived keys gain 0.3 to 1 points, Zipf loses 0.3, loops at 1,000 3.5 |
//! | "soon" is within a fifth of the shard's departures | a tenth | Zipf 0.7 in 1,000 entries loses 3.8 points, OLTP 1 |
//! | 256 ghosts where the shard has 100 entries or fewer | 1,024 | Zipf gains 0.5 points, OLTP at 250 0.3; with nine one-hit wonders in ten accesses 2.7 falls to 1.7 |
//! | 4,096 ghosts at least | 1,024 | loops in turn gain 10 points; Zipf 0.9 in 1,000 entries loses 0.9, loops at 1,000 4 |
//! | a tie passes the ghosts' test | the newcomer must be younger | loops lose up to 7 points, in four shards up to 20 |
//! | dates twice as fine, or half | 128 ticks a turn | a stamp comes round before its line is visited, and small loops fall to 0; or loops at 1,000 entries lose 3 points |
//! | a stale valve that spares what was hot | one that cools it | P3 at 1 %: 5.1 against 5.0, but it does nothing after a change of loops: 10.2 against 13.8 |
//! | the oldest of a line of ghosts found one by one | all sixteen at once | a sixth of an insert |
//! | hits counted beside the shard's lock | a line of each thread's own | a fifth of a hit |
//! | the load timed by two exact clock readings | two coarse ones | a fifth of a load that returns at once |
//! | tables made for 13 of 16 slots | 11 of 16 | 6 bytes an entry less; hits in 64k entries 10 % slower, `get_or_insert_with` over a Zipf of 1M keys in 100k entries 25 % |
//! | three victims and the ghosts asked for where they are needed | one victim and the ghosts | no difference; what is worth a tenth is to ask an eviction earlier |
//! | a home group worked out before the lock is taken | after | hits in 1,000 entries 8 % slower: it is instructions that count, not the wait |
//! | removed entries handed on by value | left where they were written, and dropped there | inserts slower: what was written eight bytes at a time and is read sixteen at a time waits for the store |
//! | a hit's mark written without a branch in shards that are written to: to the slot, or to a spare byte if it is at its highest | a branch | no difference |
//! | a newcomer's key, value and stamp written to its slot one by one | put together first, and copied | loads and `get_or_insert_with` 3 to 7 % slower, inserts no different |
//! | what an insert needs is made only under the lock | before it is taken | no difference |
//! | the look-up of most hits also detects misses | a second, shorter look for misses | hits in 1,000 entries 15 % slower: two registers more to save |
//! | a load begun without a look under the shared lock, after four misses in a row in its shard | a look first | loads of new keys a tenth faster, `get_or_insert_with` over a Zipf of 1M keys in 100k entries 7 % slower |
//! | a newcomer in the lane that its hash names, if that is free, and its line asked for while its tag is looked for | in the first free lane | hits in 64k entries 4 % faster, in 1,000 entries 3 % slower, in 1M entries no difference |
//! | what every eviction writes laid out in four cache lines of a shard | in seven | no difference, with one thread or two |
//! | a brief look at a taken lock before getting in its line | the line at once | no difference: two threads' inserts, and the 99.9 % of gets beside them |
//! | the loads in flight in a hash table alone | the first eight in a row | a twentieth of a load that returns at once |
//! | shards of up to 65,536 entries | of up to 8,192 | the longest of 10 million inserts 3.6 ms instead of 0.6 |
//! | the first glance inlined where the compiler likes | never | hits in 1,000 entries a tenth slower in a program with one call of `get` in a part; `get_or_insert_with` over a Zipf of 1M keys in 100k entries 3 % faster |
//! | asking whether a lock is biased before the first glance, and one glance for each case | a glance that is in vain where it is not | hits in what is written to 13.4 ns, now 10.9; but too long to be inlined where it is called, and hits in 1,000 entries a tenth slower |
//! | the first glance enters by the word where the lock is not biased | a glance in vain, and then a function of its own | 18 instructions more a hit in what is only read, 28 more a miss; 12 fewer a call where a quarter of them writes |
//! | the shared lock of a look-up that found nothing made exclusive, if there is no other reader | left, taken again, and the key looked up again | loads of new keys a twentieth faster, `get_or_insert_with` over a Zipf of 1M keys in 100k entries no difference |
//! | the lines of a shard, of a newcomer's group and of its ghosts prefetched for writing (`prefetchw`, by assembler: the compiler turns a prefetch for writing into one for reading), before the lock or under it | as they come | two threads' inserts up to a tenth slower, one thread's no different |
//! | a seated load landed without what only others need (outbox, credit) | with it | 6 instructions of 1,200 |
//! | the shard's lines prefetched for writing before the lock is taken | as it is | no difference, with one thread or two |
//! | a look-up that asks first whether its shard is written to, and jumps to one of two look-ups | one that is in vain there, and then the other | no difference |
//! | the home of a key worked out before the lock of a shard that is written to | after | no difference |
//! | a draw for every hit (`XFetch` as in the paper) | one for a 64th of the load time | 62 loads in an hour instead of 61 (1,000 hits a second, 60 s, 200 ms), more the hotter the key, and a counter that threads share |
//! | two arrays of fixed size for the rings | chunks out of one pool | eight bytes an entry instead of four |
//!
//! # Sources
//!
//! * **Single flight**: groupcache's `singleflight` (Go, 2013), now
//!   `golang.org/x/sync/singleflight`.
//! * **The table**: *F14*, N. Bronson and X. Shi, "Open-sourcing F14 for faster, more memory-efficient hash
//!   tables" (2019): groups, tags, and an overflow count instead of tombstones.
//! * **A write on condition that nothing came in between**: load-linked and store-conditional, E. H. Jensen,
//!   G. W. Hagensen and J. M. Broughton, "A new approach to exclusive data access in shared memory
//!   multiprocessors", Lawrence Livermore National Laboratory (1987).
//! * **Clock, or second chance**: F. J. Corbató, "A Paging Experiment with the Multics System"
//!   (1968): a bit that a hit sets and a hand that clears it.
//! * **LIRS**: S. Jiang and X. Zhang, "LIRS: an efficient low inter-reference recency set
//!   replacement policy", SIGMETRICS 2002: the test by which a returning key is let in.
//! * **ARC**: N. Megiddo and D. S. Modha, "ARC: a self-tuning, low overhead replacement cache",
//!   FAST 2003: ghosts that move the border between two lists.
//! * **S3-FIFO**: J. Yang, Y. Zhang, Z. Qiu, Y. Yue and R. Vinayak, "FIFO queues are all you need
//!   for cache eviction", SOSP 2023: a small queue in front that most keys do not survive.
//! * **Circuit breaker**: M. Nygard, *Release It!* (2007).
//! * **The optimum** that all are compared with: L. A. Belady, "A study of replacement algorithms
//!   for a virtual-storage computer", IBM Systems Journal 5(2), 1966.
//! * **The draw of lives**: wyrand, from Wang Yi's wyhash (2019): one multiplication a number.
//! * **`XFetch`**: A. Vattani, F. Chierichetti and K. Lowenstein, "Optimal probabilistic cache stampede
//!   prevention", VLDB 2015: when to refresh what is slow to load.
//! * **RFC 5861**, M. Nottingham, "HTTP Cache-Control Extensions for Stale Content" (2010): the two
//!   windows in which a stale value is served, counted from the expiry.
