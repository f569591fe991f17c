//! How larder is built, and why: a page to read before the code.
//!
//! Nothing is defined here. Names in `code` that are no links are private; the file where they
//! stand is said beside them. Figures are from the comments of those files: measured on two virtual
//! cores (Zen 4), good for comparing two rows and for nothing else.
//!
//! 1. [The life of one call](#the-life-of-one-call)
//! 2. [Floors, and which file is which](#floors-and-which-file-is-which)
//! 3. [A shard, and where an entry stands](#a-shard-and-where-an-entry-stands)
//! 4. [Locks, and their order](#locks-and-their-order)
//! 5. [What always holds](#what-always-holds)
//! 6. [How the bound holds at every moment](#how-the-bound-holds-at-every-moment)
//! 7. [Flights, and what is fenced](#flights-and-what-is-fenced)
//! 8. [Past its life](#past-its-life)
//! 9. [What stands before the source](#what-stands-before-the-source)
//! 10. [A second tier](#a-second-tier)
//! 11. [Loads that nobody waits for](#loads-that-nobody-waits-for)
//! 12. [Which entry goes](#which-entry-goes)
//! 13. [Time](#time)
//! 14. [Counting](#counting)
//! 15. [Decisions, with their figures](#decisions-with-their-figures)
//! 16. [Tried and lost](#tried-and-lost)
//! 17. [What it stands on](#what-it-stands-on)
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
//! join                   exclusive lock        engine/join.rs, shard/join.rs
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
//!        │     off the board; it was not there: fenced, nothing is stored
//!        │     room first, by evicting; then the entry
//!        │     whatever has to leave goes into an outbox
//!        ├── the followers are woken           parts/flight.rs
//!        └── the outbox is reported and dropped, no lock
//! ```
//!
//! The blocking front and the async one differ in how they wait: a flight keeps wakers, and a
//! blocked thread is a waker that unparks. (Besides, only a blocking load may begin in a seat.) So there is one engine, not two, and both
//! kinds of callers meet in one flight.
//!
//! Four choices carry the rest:
//!
//! * *The role is decided where the look-up is repeated.* `join` looks again under the exclusive
//!   lock and in the same breath finds the flight or posts a new one. A load that lands between
//!   `get` and `join` is seen, and none is done twice.
//! * *A load has a flight when somebody else comes for it.* Until then it has a seat (`shard/seat.rs`):
//!   its key and its number, nothing that is allocated, counted or locked. Most loads are over before
//!   that, and never have one.
//! * *Flights stand beside the entries, not in their place.* The board (`shard/board.rs`) is a
//!   small table under the same lock. An entry stays where it is while its successor loads, which
//!   is what serving it meanwhile will need, and the entries' table knows nothing of loads.
//! * *A load meets the map only from the board.* Whoever brings a value goes through `put`, where a
//!   flight that is not on the board any more gets no further; and what is stored from a seat was
//!   still in it. (`insert` has a short way of its own where nothing is under way in its shard.)
//!
//! # Floors, and which file is which
//!
//! A file uses what stands on floors below its own, and on its own floor only what it is made of.
//!
//! | floor | | |
//! |---|---|---|
//! | 6 | `builder/` | what can be said: `bounds`, `lives`, `loads` · `settings` and their defaults · `check` refusals · `plan` what the engine is built by, with the number of shards · `tier` what a second tier needs |
//! | 5 | `front/` | `cache` the plain calls · `at` one call said in full · `many` many keys · `blocking`, `future` the two ways to wait · `behind/` the queue of writes with its threads · `snapshot/` warm restarts · `http/` header fields · `call` what one caller says, and what it gets when its load comes to nothing · `loader`, `loading`, `loading_async` caches that own their loader, `background`, `gather`, `warm` what they do with it · `outcome` what a follower makes of a landing · `guard` the wait for a slot · `writing`, `invalidator` what a writer says · `entries` the walk · `inspect` what tests ask · `tier/` the second tier: `ask` for many keys, `calls` what it can be asked besides, `worker` the thread that tells it, `memory` a double, `redis/` one over a server |
//! | 4 | `engine/` | `store` all shards with hasher, clock, budget, listener · `look` reading · `join` who loads · `lead` from the decision to lead to the end of the loader, `lead/land` what becomes of what it brought, `solo` the same for a load that nobody else knows of, `batch` of several at once, `away` without a caller, `ahead` of need · `put` storing, `insert` by the short way, `alter` by what stands there, `heavy` with room of other shards · `guard` the way to the source, `guard/pass` the permit to call it, `guard/line` the line for loads without a caller · `explain` what there is to say of a key, `events` what its operator hears · `take` removing · `writing` writes at the source · `behind` changes ahead of the source, `behind/alter` by what stands there · `restore` entries of an earlier process · `tier` what is asked before the source, `tier/lead` by one load, `tier/inquiry` by many, `tier/news` what others did · `sweeper` what expired · `unreported` what left while user code may panic |
//! | 3 | `shard/` | `look`, `join`, `store`, `leave`, `walk` what can be done to one shard · `calm` storing where nothing is under way, `under_way` what is · `choose` asks the policy, with what entries weigh · `ahead` taking a key for its refresh · `ask` what one caller accepts · `grow` its table · `entry` · `aside` what few entries have · `board` flights · `seat` loads without one · `failures` what failed lately · `fences` writes in progress · `outbox` what left · `explain` what there is to say of a key · `validate` |
//! | 2 | `parts/` | `group`, `table` where entries stand · `eviction/` who goes · `flight`, `waiter`, `stack` loads and those who wait · `slots`, `turn`, `breaker` what spares the source · `ledger` what was written lately, `reservation` keys that are being changed by what stands there, `kept` those whose values were changed and not their lives, `tags` what happened to groups · `budget` the bound, `weights` what entries take of it, `credit` room on its way to an entry · `backlog` what is to be written, `outgoing` what a second tier is to be told · `notifier` the handler of events |
//! | 1 | `rules/` | `expiry` lives, stamps, windows · `ahead` when to refresh · `backoff` pauses · `altered`, `got`, `loaded`, `many`, `tag`, `tier`, `explain`, `event`, `stats` what goes in and out |
//! | 0 | `words/` | `clock` (`system`, `manual`, `explored`), `tick`, `alarms`, `keeper`, `aside` time · `unpark` a thread as a waker, `block_on` for a future · `tier_key` a key's name outside · `error`, `removal` · `contain` panics of the user's code · `prefetch` · `runtime`, `pool`, `stepping` where background work runs · `thread_number`, `striped` counting · `raw_lock`, `lock` the lock of a shard · `sync` locks, or the doubles of loom and shuttle |
//!
//! The engine owns locks, hasher and clock and knows nothing of waiting. A shard owns neither a
//! lock nor a clock: it is given the time, fills an outbox, and calls nobody, so it can be tested
//! and explored as plain data. The eviction rule stands behind a trait, `Policy`, and sees the
//! table through another, `Slots`: either can be replaced without the other.
//!
//! # A shard, and where an entry stands
//!
//! ```text
//! shard ── table ── group  group  group ..          16 slots each, entries inline
//!       │             │
//!       │             ├ tags  [u8; 16]     8 bits of each hash ┐ in one cache line
//!       │             ├ marks [u8; 16]     heat, queue, state  ┘
//!       │             ├ seen  [u8; 16]     when the policy last looked
//!       │             ├ overflow [u16; 8]  entries that found the group full, by their hash
//!       │             ├ high  [u16; 16]    16 more bits of each hash
//!       │             └ slots [Option<(K, V, stamp)>; 16]
//!       ├─ policy ─── two rings of slot ids, a table of ghosts
//!       ├─ aside ──── cached "not found"; weights and times of use, where the cache has them
//!       └─ board ──── loads in flight
//! ```
//!
//! A key's home is a group, and its slot any of the sixteen. A look-up compares all tags at once,
//! then the key of the one that matches, and so touches two places in memory. If the group is full,
//! a newcomer walks on to the next one with room, and every group that it passes counts it in
//! `overflow`, in one of eight classes by its hash; a look-up that fails at home goes on only while the count
//! of its class says that somebody passed.
//! The walk is bounded (128 groups) so that a flood of keys of one hash cannot make every look-up
//! long: what finds no room within that reach evicts the coldest of its home.
//!
//! The table begins empty and grows, at 11 taken slots of 16, in halves of the size that it will
//! have when the shard is full; the last one may fill up further, since the luck of the hash gives
//! some shards more than their share. Growing moves every entry, and needs neither the user's
//! `Hash` nor his `Eq`: tag and `high` hold the 24 bits of the hash that the table works with. A
//! home by multiplication keeps its place in the order whatever the number of groups, so both tables
//! are gone through from front to back; then the rings' ids are replaced. Most of what it takes to
//! grow, though, is the kernel's first look at fresh memory, so the newcomers before it make the next
//! table ready, four groups each (`shard/grow.rs`).
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
//! *Dead* is there because the id of what was removed still stands in the middle of a ring, where
//! nobody can take it out in constant time. The slot waits until the hand gets there, or a newcomer
//! of its group inherits the position. No id stands twice, and none is freed while it is queued.
//!
//! What few caches use is kept aside, so that the others pay one test for it: a cached "not found"
//! has a slot without an entry and its key in a map; a weight and a time of last use are arrays
//! that exist only with a weigher and a time to idle.
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
//! * One shard's lock at a time, by anybody. What concerns all of them (`clear`, `remove_if`,
//!   `sweep`, `stats`) takes one after the other.
//! * The *heavy turn* is held by the one insert at a time that has to take its room from other
//!   shards. While it is held, shards are locked one by one; while a shard is locked, nobody waits
//!   for the turn.
//! * A flight's mutex guards its outcome and its list of wakers. It is never taken under a shard's
//!   lock: what the shard has to know of a flight (who follows, whether it is grounded) are
//!   atomics.
//! * The mutex of a write-behind queue guards its state, which is plain data (`parts/backlog.rs`).
//!   It is taken under a shard's lock where a change enters, and where a load asks for what the
//!   source does not know yet: the order in which changes are accepted is that in which they fence.
//! * So does the mutex of what a second tier is to be told (`parts/outgoing.rs`): the order in which a
//!   key is changed here is that in which it is changed there.
//! * The mutexes of the slots and of the breaker are taken for themselves, under no other; the clock
//!   is read under them.
//! * So are those of a gathering and of the place where callers find it, the latter first, and those
//!   of the pool, of what is on its way to a runtime, of a warm-up, of the fences that are held after
//!   their write, and of the sweeps that wait for a thread.
//! * The list of what is reserved has one, taken under a shard's lock by each write while it is not empty.
//!   What is noted of kept lives has one, taken there by changes while a `remove_if` runs, and by that.
//! * The registry of tags has one, in which each tag's own is taken; a tag's own is also taken under a
//!   shard's lock, by who asks what has happened to an entry's tags. The list of write-behind queues is
//!   read under a shard's lock. Under these no other is taken.
//! * The keeper's mutex guards its list. Wakers and jobs are taken out under it and run after it.
//!
//! The user's code that runs under a shard's lock is `Eq` of keys (and their `Hash`, where news of a second
//! tier are about one of them), and `Clone` of keys and values under the shared one. Everything else is arranged around the lock: keys are made owned before it
//! is taken, hashes are stored, values that leave are gathered in an outbox and dropped after it. A
//! panic under a lock finds the shard between two steps that each leave it whole; the locks do not
//! poison, so the cache goes on.
//!
//! # What always holds
//!
//! `Cache::validate`, hidden and for tests, checks those that can be seen from outside of a call.
//!
//! 1. What the shards hold is never more than the bound. (See the next chapter.)
//! 2. `len` and `weight` are exactly what the shards hold, when no insert is in progress.
//! 3. A key stands in one slot, where a search from its home finds it.
//! 4. `overflow` of a group is the number of taken slots, dead ones included, that passed it, for each of
//!    eight classes of hashes.
//! 5. Every taken slot's id stands in one ring, once, and the slot knows in which; free ones in
//!    none.
//! 6. A cached "not found" has a live slot without an entry, and no entry is without a live slot.
//! 7. A key has at most one flight or seat on the board.
//! 8. Only a load on the board stores; whatever stores or removes a key takes its load off, in the
//!    same critical section.
//! 9. A flight that has a follower lands; the first landing is the only one.
//! 10. A life never grows: it is drawn once, at most the TTL, and only ever cut.
//! 11. What one clock has told one thread, it tells no thread an earlier time than that.
//! 12. A value that leaves is in exactly one outbox, or in the hands of the insert that it made room
//!     for, and is delivered with no lock held.
//!
//! # How the bound holds at every moment
//!
//! The bound is one number for the whole cache (`parts/budget.rs`): entries, or units of weight. An
//! insert first gets the units that its entry needs, as *credit*, and then stores; entries that go
//! give their units to the credit of whoever evicted them, not back to the budget. Hence
//!
//! ```text
//! stored + credit of inserts in progress = used ≤ max        at every instant
//! ```
//!
//! and nobody can see more than the bound, since more is never there. In a full cache this is next
//! to free: what an eviction yields pays for the entry that asked for it, and the one word that all
//! shards share is read and not written. What is left of a credit goes back when it is dropped, on
//! a panic too.
//!
//! A replaced value's units count for its successor. If that needs more, the old value goes first
//! and the newcomer stands in line like everybody.
//!
//! A shard evicts from its own until the credit is enough. Where it has nothing left, or clearly less
//! weight than falls to it, the room is in the others: the insert lets go of its shard, takes the heavy
//! turn, evicts a little from each in turn that has more than falls to it, or else from any, and tries
//! again from the start. (What an eviction leaves over goes to whoever asks next. Where entries have
//! weights that is a step of a random walk for the shards' parts of the bound, and nothing brought them
//! back: a Zipf of 100,000 keys, 64 bytes to 256 KiB each, in a hundredth of that, had 39 per cent of
//! hits in three shards and 44 in one. Entries heavier than an eighth of a shard's part are not balanced,
//! and only what they leave is shared: else one that is heavier than that part would be thrown out,
//! however hot it is.) Only one at a time does so; two that held half of the
//! room each would wait for each other. That is how an entry as heavy as the whole budget gets in,
//! though the cache has many shards.
//!
//! What weighs more than the budget is refused: what stood under its key goes, the value is
//! reported as rejected, and the caller who loaded it has it.
//!
//! # Flights, and what is fenced
//!
//! A flight is a key, the time it began, an outcome that is written once, and those who wait. On
//! the board of its shard it has its key: others may join it, and it may store. Off the board it is
//! *grounded*: those who joined get what it brings, and nobody else does.
//!
//! | takes the flight off | because |
//! |---|---|
//! | its own landing | it is done |
//! | `write_through`, `writing`, their beginning and their end | it may have read before the write |
//! | `insert`, of its key | what was inserted was written after the load began |
//! | `WriteBehind`'s `put`, `delete` and `alter` | the same; and while the change is unwritten no load begins, it is answered from the queue |
//! | `remove`, `expire` | what the load read may be the value that was meant |
//! | `clear` | the same, for every key |
//! | `remove_if` | nobody knows whether what the loads will bring is among the meant |
//! | a caller that says `force` or a `max_age` shorter than its age | it may have read what that caller must not see |
//! | `load_timeout` | it may never come back, and the key must not be lost with it |
//! | its leader's end by drop or panic | there will be no landing |
//!
//! A blocking load of a key of which nothing is known begins in a *seat*, where the cache asks nothing
//! of its loads but their values: no windows, no weigher, no guards, no refreshes. Its caller keeps a
//! name for it, an address on its own stack. Whoever comes for the key, to follow the load, to ground
//! it or only to look at it, *meets* it: then a flight is made of the seat, on the board as if it had
//! begun there, and laid down for the caller, who finds it under the name when its loader returns, on
//! the board or not. So there is one kind of follower, and one way to be fenced, and all that a seat
//! can come to by itself is a value that is stored. Whatever else it comes to (an error, "not found", a
//! panic, a timeout, a write in progress, no room in the shard) makes a flight of it too, and lands as
//! that does.
//!
//! The age that counts is when the load *started*, since from then on it may have read; and it is
//! told by the flight being on the board, not by comparing times, so no clock can be wrong about
//! it. The price is that a load which had read after the write is sometimes not stored, and done
//! again.
//!
//! An error ends the flight for all: with a lock instead of a flight, the waiters of a source that
//! is down would each get the lock, try, and fail in their turn, and the last would wait for the
//! sum. The error is kept without its type, as `Arc<dyn Any>`, because calls for one key may have
//! different ones; a follower who cannot name it looks again.
//!
//! What failed is remembered for a while beside the board (`shard/failures.rs`), with the number of
//! failures in a row and the tick until which the source is left alone; the failed flight itself is
//! kept only where `error_backoff` makes its error an answer. There is room for 128 keys a shard.
//! Every write to a key, and every load of it that succeeds, forgets its failures: an error is as
//! old as the load that met it.
//!
//! A leader that goes away without an outcome lands `Abandoned`; all who wait join again, the first
//! of them leads. A leader whose thread unwinds lands `Panicked`. One that is alive and never
//! polled is the reason why waiters watch the clock themselves: the first to see `load_timeout`
//! pass takes the flight off and lands `TimedOut` for everybody, and a caller that comes later does
//! the same before it leads. A blocking leader that is too late finds that out when it lands.
//!
//! A loader that asks for its own key would wait for itself. Each thread keeps a short list of the
//! flights whose loader it is running (`parts/stack.rs`), for a task set during each poll; a caller
//! about to follow a flight on its own list is told `Recursive`.
//!
//! The handler of events (`parts/notifier.rs`) is called in the middle of things: by a caller who notices on
//! its way to a load that the one before has timed out, by one of a hundred leads that fail together. A load
//! in there could wait for what its own thread has in hand, and would have to know of all of it. So none
//! is begun: the list of what runs on a thread has the handler on it too, and a miss there is `Recursive`. It
//! is called when all that landed together has landed, and the slot is back; so the breaker does not call it,
//! but keeps what has become of it until then.
//!
//! A tag knows nothing of its entries (`parts/tags.rs`). It remembers the version at which it was
//! last removed or expired, an entry the version at which its load started, and a look-up compares:
//! so a removal writes a few words, and is in force for whatever will be stored by loads that are in
//! flight, without knowing them. One counter of versions serves all tags, since a load need not know
//! its tags when it starts. A bit in the mark of a slot says that there are tags to be looked at;
//! others pay the test of it. What the caller says (`At::tag`) the flight has from its start, and
//! whoever comes after a removal takes the key from it; what only the loader says is known when it
//! is done, and then whoever came too late is sent to look again. A tag that no entry has any more
//! is let go, and what happened to it is kept by hash of its name, for loads that began before.
//!
//! A write at the source is not over when it begins, and grounding what is in flight at one moment is
//! not enough: a load that begins during the write may read before it. So for as long as it lasts its
//! key stands among the shard's *fences* (`shard/fences.rs`), and a flight that lands finds it there
//! and is not stored; the end of the write grounds the flights that began meanwhile. A fence is
//! *disputed* as soon as something else happens to its key, another write above all: nobody knows
//! in which order the source saw them, so that none of them leaves its value. There are as many
//! fences as writes in progress, and without any a landing pays one comparison. One that is held for
//! lagging replicas stays there until an alarm ends it.
//!
//! A change by what stands there (`engine/alter.rs`) is a look, the user's closure, and a write that is done if
//! nothing has happened to the key since the look. So it holds nobody up, and a closure may take its time, use
//! the cache, or panic. The key is *reserved* meanwhile (`parts/reservation.rs`), by all 64 bits of its hash,
//! and every write, landing and removal of it takes the reservation away, under the lock under which the change
//! will ask for it. What the closure's own thread does to the key while it runs does not: it would do it again
//! in the next round. What happens to a tag of the value that was shown is told to no shard, so the change
//! keeps these tags, and asks what has become of them where it asks for its reservation. A change that needs
//! other shards' room lets go of its lock, and so asks once more when it has it again.
//!
//! Behind a queue of writes (`engine/behind/alter.rs`) the same look asks the queue first: what is accepted and
//! not cached yet, or not any more, is what stands there. It is asked under no lock, and that will do, because
//! whatever may make its answer and the cache's differ is noted or done before it can be seen from here: a
//! change takes reservations away when it is accepted, in the critical section in which it enters the queue,
//! and a deletion takes the older value out there; what a writer has written before its caller came to show
//! it takes out the older value before it leaves the queue; and what is given up on leaves the queue and the
//! cache in one step. That something was written does not take a reservation away: the key has what it had.
//!
//! A batch has a flight for each key that it leads, all landed by one loader. It leads first, and
//! waits for the flights of others when its own have landed, so nobody waits for somebody who
//! waits. What its reply brings unasked has no flight that could tell whether it is still the
//! newest. So while a batch is under way all writes, landings included, note their moment in a
//! small table by hash (`parts/ledger.rs`), and such a value is stored only where that says that
//! nothing happened since the batch began, and while nobody loads the key. Without a batch the
//! price of this is one test a write.
//!
//! # Past its life
//!
//! Where a cache has windows, an expired entry stays where it is until the last of them ends, and
//! nothing about it is written down: its stamp has the expiry, and its age is one subtraction from
//! there (`rules/expiry.rs`). So nothing that is done with a value can move an end. The look-up
//! of a hit knows fresh and not fresh, and no more.
//!
//! Everything else is one decision, `judge` (`shard/join.rs`), which looks at the entry, the flight
//! and the failure of a key and changes none of them. It is asked twice: under the shared lock,
//! where its answer may be "serve it", to all callers but one, and under the exclusive lock, where
//! it makes that one the leader. A stale value is cloned under the shared lock only.
//!
//! | | nobody loads | somebody loads | held back |
//! |---|---|---|---|
//! | fresh | look again | look again | look again |
//! | revalidate | lead (`Next::Revalidate`) | stale, at once | stale, at once |
//! | error only | lead | wait | stale, at once |
//! | gone, or never there | lead | wait | the last error, if `error_backoff` is set, else lead |
//!
//! When a load comes to nothing, every caller looks once more for what may be served now, the one
//! who led as well as those who waited (`front/call.rs`): a value that was removed during the load,
//! or whose window ended, is not there then.
//!
//! A look-up that finds nothing fresh is not counted until it is known what its caller was served; a
//! guard counts a miss if that is never known.
//!
//! # What stands before the source
//!
//! A caller that leads asks for a permit before it runs its loader (`engine/guard.rs`), where the cache
//! was told to guard its source; else that is one test. The permit is a slot and a trial, each from a part
//! that knows nothing of caches: the line for slots (`parts/slots.rs`) and the breaker
//! (`parts/breaker.rs`). Both are given back when the loader is done, before its result is stored,
//! and by a drop wherever the leader goes away.
//!
//! *Stale before waiting.* A leader that finds no slot and can be served stale hands its key on and
//! is. One that cannot, since its caller said a `max_age`, say, gets in line with the key; who comes
//! to it there looks for something stale first, and who had joined it before it got there is woken
//! to do the same.
//!
//! *A slot goes from hand to hand.* Who gives one back gives it to the first in line, under the lock;
//! there is no moment in which a newcomer could snatch it, and none in which it is free while
//! somebody waits. Who is called and goes away instead passes it on.
//!
//! *A slot is a lease.* It ends with `load_timeout`, as the key's does: or as many hung loads as there
//! are slots would stop all keys for ever. Nothing watches for that; whoever comes by takes what is
//! overdue, and those in line ring themselves when the first lease ends. All leases are of one
//! length, so the order in which they began is the order in which they end, and one look at the
//! first will do. Trials that are not reported fail in the same way, at their time and not when
//! somebody notices.
//!
//! *In line a load's own time does not run.* The flight says that it began at the end of all ticks;
//! when it is called, whoever calls sets the true tick and wakes those who wait, to look again until
//! when. So a leader that is called and never polled does not hold up its followers for longer than
//! one that never had to wait. What was written to the key meanwhile is seen: a load that comes out
//! of the line without its key looks again, with its slot in hand.
//!
//! *Loads inside loads.* The list of what runs on a thread holds, beside flights, the slots and the
//! breaker that a load was let through by; a load that begins inside uses its parent's. One that
//! waits for a flight in line, inside a load that has a slot, would wait for itself: so that flight is
//! called at once, one above the limit, or if it is only on its way to the line, it need not get in.
//! (The one who is waited for and the one who waits meet at the flight's lock: one of them sees the
//! other.) A load inside the probe is a part of it.
//!
//! *A place is inherited.* If the leader goes away in line, one who waited with it leads, and stands
//! where it stood.
//!
//! *What the breaker hears* is what happened since it opened last; everything that began before then
//! has no say, neither the late failure nor the late success.
//!
//! # A second tier
//!
//! A tier that several processes share stands between a flight and its source. Three things follow from
//! where it stands, and need nothing new: a process asks once for a key, whoever waits; what the tier has
//! lands by the flight, which a removal takes off the board; and where the tier fails, the flight goes on
//! to the source. It is asked before a slot and the breaker are, which are about the source.
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
//! What can go wrong is an old value that comes back, and it has four ways:
//!
//! | from | to | what stands in its way |
//! |---|---|---|
//! | a load that began before a removal, of another process | the tier | the *ticket*: what is stored comes with what was seen under its name when its load began, and the tier stores it only if that still stands there. A removal leaves a mark of itself, longer than loads take |
//! | the tier's reply, overtaken by news | this process | news are removals here, and ground the flight |
//! | the tier, which has not heard of a removal yet | this process | what was changed here and not confirmed there stands in `parts/outgoing.rs`, and these keys are not asked for |
//! | news that were lost | this process | when the connection is back nothing here is served until it was asked for again, and what is not there then goes |
//!
//! The changes of a cache go out by one thread of its own (`front/tier/worker.rs`), in the order in which
//! they were made, since they are noted under the lock of their shard; of a key the last one only, and what
//! fails is tried again. A value that was written and did not arrive goes out as a removal: it may have
//! arrived, and another process's after it. More changes than 65,536 become one, "everything".
//!
//! A removal may be said by a `&str` of a cache of `String`s, where no key can be made of it, and the news
//! that come back have no key either. So a key's name outside of the process is what it feeds to a hasher
//! (`words/tier_key.rs`), which by the contract of `Equivalent` is the same for both: written as text, and
//! fed to this process's hasher when it comes back. Two keys may have one name. An entry says whose it is.
//!
//! No two clocks are compared: an entry carries how old it is and how long it has left, from the moment
//! at which it is handed over. Jitter is drawn for a copy as for a value, so that the copies of many
//! processes do not end at once; it never adds. What is past its life says for how long, and is stamped
//! with an expiry in the past, so that its windows end when they would have.
//!
//! # Loads that nobody waits for
//!
//! A refresh is a lead without a caller (`engine/away.rs`). It goes through the same decision, the
//! same flight and the same landing as any load, so it is fenced, joined, timed out and guarded like
//! one. What differs is that it holds the cache weakly while the loader runs: the last handle to the
//! cache drops all that is stored at once, lands every flight that is left as `Abandoned`, and a
//! task that loads drops its loader's future when it hears of that. A blocking loader cannot be
//! stopped; `is_abandoned` tells it, and what it brings has nowhere to go. Of a key with a change in a
//! write-behind queue there is none: what the source has is older.
//!
//! *A caller that `soft_timeout` is to free* cannot run the loader itself: neither can a thread be
//! interrupted, nor a caller's future go on without it. So where a cache owns its loader and something
//! stale may be served, a miss is such a lead as well, and its caller the first follower, which has
//! joined before the runtime hears of it (`send_out`, `engine/away.rs`): the flight does not give way,
//! its time runs, and what frees followers frees this one. It leads itself where that would be worse:
//! inside another load, where it is told of its own key and has a slot; where no slot is free, for then
//! it is served at once; and after a runtime refused, or took the load once and dropped it.
//!
//! *A detached load* (`detached_loads`) is the same with nothing to be served, for callers who may be dropped.
//! That somebody has ever followed is never unsaid, so a flight that all have left stays one that others join,
//! and that stands in line as a miss. Two things are different. Where no slot is free there is nothing to serve
//! as a rule, so it is sent out all the same, and stands in line by itself (`Line`, `engine/guard.rs`): an
//! attached load leaves the line with its caller, and the line is no longer than the callers are many; this
//! one would stay, and a source that is too slow would have ever more of them before it. So it leaves after
//! `load_timeout`, unless somebody waits for it at that moment: then it stands there as long again, in its
//! place. And where the breaker is open its caller leads itself, to be told so without a task; with a second
//! tier, that is asked first, in the background.
//!
//! *Which hit is the first past the point* is answered by the board: a hit that finds its value due
//! looks, under the shared lock that it holds anyway, whether the key has a flight or a failure that
//! holds it back (both tables are mostly empty), and only one that finds neither takes the exclusive
//! lock. A bit beside the entry would have to be cleared when a refresh fails, times out, or is
//! dropped by its runtime, and kept in step with readers that write marks without a lock. Where
//! nothing was set, the look-up goes another way from the first test on.
//!
//! *The point* is a share of the drawn life, two words of arithmetic on the stamp; or it is drawn
//! (`rules/ahead.rs`), by the load time that is kept aside of the entry, two bytes a slot, in caches
//! that ask for it: a mean over the cache would refresh the slow keys too late and the others too
//! early. The draw is a hash of the time, the key and the seed, so it costs no state that threads
//! would share; hits farther from the end than the slowest load asks for are told so by the clock's
//! cheapest reading.
//!
//! *A runtime may refuse.* The work is put into a place that both sides can take it from
//! (`front/background.rs`); if it was refused, or dropped on the spot as a runtime does that is shut
//! down, the caller takes it back, and does it or lets the key go; it does not wait for a slot with it.
//! One that is only full says that it is busy: a hit asks for that before it takes the key, so that who
//! has an answer does not pay for a load with it while a slow source keeps the pool's threads.
//!
//! *Refreshes stand in line behind all misses*, and a caller who misses the key of one that stands
//! there does not wait with it: it takes the key, and the refresh finds that out when it is called.
//! So a refresh that never has its turn holds up nobody.
//!
//! *Gathering* (`front/gather.rs`) runs on the time of the first caller that missed, not in the
//! background: the others follow their own flights, and if the first one goes away all keys are
//! abandoned, looked up again, and gathered anew. It goes, too, where there is no slot and it can be
//! served stale; and of those who look again then, whoever can be served does not gather once more: a
//! hundred of them would wait for a gathering each.
//!
//! # Which entry goes
//!
//! The rule (`parts/eviction/window.rs`) has one constraint: a hit may do no more than raise a
//! small counter beside the entry, its *heat*, with the shard's lock shared. Lists that are
//! reordered on every hit need the exclusive lock, or a queue of hits to be worked off later, and
//! then the bound is a promise for later too. So whatever has to be thought about is thought about
//! on a miss.
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
//! *Two rings and ghosts.* Most keys are asked for once. They pass through the window, a small part
//! of the shard, and do not disturb the rest. What was hit there three times moves to the main
//! ring; what was hit less gets one more round. A ghost is what is left of a key that went: 15 bits
//! of its hash and two dates of a byte each.
//!
//! *Who comes back has to beat somebody.* A newcomer with a ghost goes straight to the main ring
//! only if it was last used later than the main ring's next victim was last looked at. That is
//! LIRS's idea, an entry's worth is the time between its uses, in the terms of a clock. It is what
//! keeps a loop or a scan from turning the main ring over for nothing: without the test the mean
//! hit ratio over the tuning traces is 45.8 instead of 50.1.
//!
//! *The window finds its size.* A ghost of the window that comes back soon says that a
//! somewhat larger window would have kept it; a ghost of the main ring says the same for that. One
//! makes the window's target grow, the other shrink, between 1 % and 90 % of the shard. Without it,
//! 48.6. Only ghosts that pass the test above may make the window grow, or a loop slightly longer
//! than the shard lets the window eat the main ring: in a loop of 1,000, 33 instead of 96.6.
//!
//! *The stale valve.* After a change to a loop longer than the ghosts reach, no newcomer can pass,
//! and a main ring full of yesterday's keys would stay for ever. If its next victim has not been
//! looked at for very long, in one eviction of four it goes instead of the window's.
//!
//! *What takes less room stays longer.* Where entries have weights, a look costs heat in proportion to what
//! the entry weighs beside the mean, from an eighth to twice, and the time since a use counts in that
//! proportion in the test above: worth is hits for the room. So a cache bounded by bytes answers more
//! calls, for one or two points of the bytes.
//!
//! *Until the shard is full* there are no ghosts to go by, and no memory is spent on them:
//! newcomers fill the main ring, and the window has what is left over.
//!
//! Every loop in the rule is bounded: 64 live entries are looked at, and what died in between is let go
//! of, each once. Ages are clamped before a byte could wrap, and
//! both rings together cost four bytes an entry (chunks of ids out of one pool), ghosts four more.
//!
//! It loses to LRU where nothing is worth keeping for its frequency: a working set that is exchanged as
//! a whole, or keys that come twice and never again. The table of hit ratios stands at the top of the file.
//!
//! # Time
//!
//! *A life in eight bytes.* A stamp packs the tick of expiry (42 bits of milliseconds) and the
//! drawn life (22 bits of floating point) into a word that is never zero, so that `Option<Entry>`
//! needs no byte of its own. Whether a value is fresh is one shift and one comparison; its age,
//! which few ask for, is the difference of the two. Lives up to 131 s, and the ones that people
//! write down, are exact; others to one part in 65,536.
//!
//! *Jitter* is drawn when a value is stored and only taken off, never added: what was promised by a
//! TTL is the longest that a value is served.
//!
//! *The clock.* With an expiry to compare, reading the time is the most expensive part of a hit.
//! The exact clock takes 26 ns, the kernel's coarse one 5.5, a load of a word that somebody keeps
//! up to date 0.9. So one cell holds the time of the whole process (`words/clock/system.rs`). While
//! reads are frequent a thread winds it every 2 ms (and it shows the time as stamps have it, so that a hit
//! compares the two as they are); when they are not, readers look at the coarse
//! clock themselves, and write what they saw into the cell. Since every time ever told went through
//! that one word, which only grows, time steps back for nobody. A reader does not trust the thread
//! blindly: every 64th read compares with the coarse clock, because a scheduler may leave the
//! thread out for a tenth of a second when all cores are busy. With that, 99.9 % of the readings
//! are less than 7 ms late, with 1 to 32 spinning threads on two cores.
//!
//! *The keeper* (`words/keeper.rs`) is that thread, and the only one that stays: it also rings the alarms
//! of tasks that wait, and has caches swept whose callers went quiet. The first need starts it, it sleeps
//! until something is due, holds what it serves weakly, and ends with the last of it. A manual
//! clock never involves it. None of the user's code runs on it but wakers: a sweep, in which listeners
//! run, has a thread for as long as it takes (`words/aside.rs`). A listener there may wait for what only
//! an alarm ends.
//!
//! *The expired leave by four ways.* A look-up does not serve them. Every insert looks at four more
//! entries, round and round, and frees those whose life is over; while nothing can have expired yet,
//! that is one comparison. `sweep` looks at all. And a cache that nobody uses is swept in
//! the background when its earliest expiry has come, a second after the last look at the soonest, a minute
//! after it at the latest.
//!
//! # The lock, and a hit on many cores
//!
//! A lock for many readers has a word in which they are counted, and that word is pulled from core to
//! core by every read: with two threads on one key, `parking_lot`'s lock and any other of its kind
//! gave 32 million hits a second where one thread alone had 90. The lock of a shard
//! (`words/raw_lock.rs`) is therefore *biased* while it is only read: a reader writes the lock's name
//! into a line of its own thread's, and looks whether the bias still stands. A writer takes the bias
//! away and then waits for the lines in which the name still is. After 256 reads without a write it
//! comes back. What a hit writes then: its thread's line, its thread's line of the statistics, and
//! the entry's heat until that is at its highest. With two threads that is 200 million hits a second
//! on one key, and 120 to 190 million on 1,000 to 64,000 keys.
//!
//! No lock of the standard library or of `parking_lot` can do this, so `words/lock.rs` has the crate's
//! only `unsafe`: a cell, and the guards that reach into it. The protocol is safe code of its own,
//! and loom runs it on every schedule with the cell that watches for two who should not meet
//! (`models/lock.rs`).
//!
//! Who has to wait for it parks, and a thread has one token to be unparked by. An executor that looked
//! at its task, and then waits for a shard in another one, may be woken for the first meanwhile; the
//! lock takes that for its own call. So whoever parked for it leaves with its token set.
//!
//! # Counting
//!
//! Hits and misses are counted in striped lines (`words/striped.rs`): a thread has a line of its
//! own in every cache's counter, which it alone writes, with a load and a store. One shared counter
//! would be a line that all cores pull from each other, and even alone an atomic addition is a
//! fifth of a hit. What happens under the exclusive lock anyway is counted there, as plain numbers;
//! what is rare, in shared atomics; loads are not, and have their place in the lines.
//!
//! # Decisions, with their figures
//!
//! | decided | because |
//! |---|---|
//! | an own table, entries inline | hashbrown with a slab: 1.3 to 1.7 times slower hits |
//! | 11 of 16 slots taken when a shard is full | at 13 an entry takes 6 bytes less, but every fourth group is full and searches walk on: hits in 64k entries are 10 % slower, `get_or_insert_with` over a Zipf of 1M keys in 100k entries 25 %; the hit ratio is the same from 11 to 14 |
//! | a seat for a load that nobody else knows of | a flight for each, 265 ns a load of a new key in 100,000 entries; with seats 157 |
//! | one test for all that is kept beside entries | six tests, and one function for all writes: an update 33 ns, now 21 |
//! | the slot of the next victim but one, and the ghosts of the next, asked for by the prefetch instruction (`safe_arch`) | asked for by the insert that needs them: `get_or_insert_with` over a Zipf of 1M keys in 100k entries 50 ns, now 42 |
//! | lives drawn in their code | by two multiplications and a logarithm: 30 instructions more a write |
//! | a look at an entry costs heat in proportion to its weight | all alike: with sizes from 64 bytes to 256 KiB 45.5 per cent of hits and 45.5 of bytes that are hits, now 52.1 and 44.2; with one size in ten 200 times the others 46.6 and 43.4, now 55.5 and 41.4; with sizes from 100 to 800 bytes 46.2 and 46.1, now 46.9 and 44.7. A newcomer takes 200 ns instead of 145, for the looks that the light ones survive |
//! | a shard that has an eighth less weight than falls to it takes from others | each from its own: 19 rows with sizes from 64 bytes to 256 KiB, in the default shards, 51.7 per cent of hits and 42.2 of bytes that are hits; now 53.4 and 43.7 |
//! | at least 512 entries a shard | the hit ratio is within 0.1 points of one shard's from 1,000 entries up; with 256 a loop that just fits loses 3.3 points |
//! | a window that nothing speaks for shrinks back | a loop after a phase that wanted a large window: 48.8 % hits instead of 43.6 |
//! | the next table made ready by the newcomers before it, and entries moved as they lie | made when it is needed, and moved in the order of the rings: a shard of 72,000 entries stands still for 6.7 ms when it grows, now for 1.6; without a bound the longest of 10 million inserts took 9 to 14 ms, now 1.3 to 1.8 |
//! | at most 8,192 entries a shard, if the bound is known | a shard that grows stands still: the longest of 10 million inserts took 0.6 ms, with 65,536 entries a shard 3.6 ms |
//! | sixteen shards a core | with eight, two threads' writes are an eighth slower, for they meet twice as often; with 32 they are a twentieth faster, and one thread's a twentieth slower |
//! | shards aligned to 128 bytes | processors fetch lines in pairs |
//! | 1,024 ghosts a shard at least | OLTP at 250 entries gains 2 points |
//! | ghosts in lines of 16 | sixteen cost nothing against a perfect table; eight let loops fall to 0 |
//! | ghosts of the main ring dated when they go | with their own date they are replaced before they tell anything: 2 points on OLTP at 500 and 1,000 |
//! | dates of a byte, fingerprints of 15 bits | 0.1 points against exact ones |
//! | 64 steps an eviction at most | with 8, 0.35 points less; with more, nothing |
//! | a wound clock that shows the time as stamps have it, and marks that keep what a slot's heat lacks of the largest | a shift and a test for lives without end, and a mask and a comparison: 119 instructions a hit, now 114, and in 1,000 entries 1.3 times `quick_cache`'s rate, now 1.5 (one thread, three runs by turns) |
//! | a wound clock, compared every 64th read | 0.9 ns a read (0.6 without comparing; but then, with four threads and more, 99.9 % within 63 to 133 ms instead of 7) |
//! | a beat of 2 ms | 1 ms was no less late under load, and wakes twice as often |
//!
//! # Tried and lost
//!
//! | tried | instead of | outcome |
//! |---|---|---|
//! | `membarrier` by the writer that takes the bias away, so that readers need no exchange | an exchange by each biased reader | hits 0 to 2 % faster: the exchange overlaps with the look-up; and 9 us for each such writer |
//! | a still clock looked at within the look-up of most hits | a look-up of its own for that | hits on a wound clock a seventh slower |
//! | whether the clock is wound asked before the first glance | the glance in vain where it is not | hits in 1,000 entries on a wound clock 9.1 ns instead of 8.8; on a still one 18 instead of 23 |
//! | the look-up of most hits inlined where it is called, by force | a call | hits in 1,000 entries and on one key 10 % slower, in 64k entries 5 % |
//! | tags matched by a plain loop | `wide`'s compare and mask, nine instructions | 40 instructions |
//! | tags matched by arithmetic on two words | the same | 24 instructions |
//! | the window measured by weight | by entries | hits 0.3 per cent more, and a second account of what stands where |
//! | the small moved on to the main ring when they leave the window, in exchange for something larger | left to their ghosts | of sizes from 64 bytes to 256 KiB one point fewer hits, and 6 fewer bytes that are hits |
//! | weight beyond twice the mean counted up to eight times | up to twice | hits the same, and 3 points fewer bytes that are hits |
//! | a heavy newcomer that nothing is known of is the first to go, unless it is hit before | all begin in the window alike | 39 rows with sizes from 64 bytes to 256 KiB: hits 57.8 instead of 57.7, bytes that are hits 51.1 instead of 51.4; with one size in ten 200 times the others 62.3 and 46.9 instead of 61.8 and 47.3 |
//! | a tie passes the ghosts' test | the newcomer must be younger | loops lose up to 7 points, in four shards up to 20 |
//! | dates twice as fine, or half | 128 ticks a turn | a stamp comes round before its line is visited, and small loops fall to 0; or loops at 1,000 entries lose 3 points |
//! | a stale valve that spares what was hot | one that cools it | P3 at 1 %: 5.1 against 5.0, but it does nothing after a change of loops: 10.2 against 13.8 |
//! | the oldest of a line of ghosts found one by one | all sixteen at once | a sixth of an insert |
//! | hits counted beside the shard's lock | a line of each thread's own | a fifth of a hit |
//! | the load timed by two exact clock readings | two coarse ones | a fifth of a load that returns at once |
//! | tables made for 13 of 16 slots | 11 of 16 | 6 bytes an entry less; hits in 64k entries 10 % slower, `get_or_insert_with` over a Zipf of 1M keys in 100k entries 25 % |
//! | three victims and the ghosts asked for where they are needed | one victim and the ghosts | no difference; what is worth a tenth is to ask an eviction earlier |
//! | a home group worked out before the lock is taken | after | hits in 1,000 entries 8 % slower: it is instructions that count, not the wait |
//! | what left handed on by value | left where it was written, and dropped there | inserts slower: what was written in eights and is read in sixteens waits for the store |
//! | what an insert needs made only under the lock | before it is taken | no difference |
//! | the look-up of most hits that also tells misses | a second, shorter look by those | hits in 1,000 entries 15 % slower: two registers more to save |
//! | a load begun without a look under the shared lock, after four misses in a row in its shard | a look first | loads of new keys a tenth faster, `get_or_insert_with` over a Zipf of 1M keys in 100k entries 7 % slower |
//! | a newcomer in the lane that its hash names, if that is free, and its line asked for while its tag is looked for | in the first free lane | hits in 64k entries 4 % faster, in 1,000 entries 3 % slower, in 1M entries no difference |
//! | what every eviction writes laid out in four lines of a shard | in seven | no difference, with one thread or two |
//! | a brief look at a taken lock before one stands in its line | the line at once | no difference: two threads' inserts, and the 99.9 % of gets beside them |
//! | the loads in flight in a hash table alone | the first eight in a row | a twentieth of a load that returns at once |
//! | shards of up to 65,536 entries | of up to 8,192 | the longest of 10 million inserts 3.6 ms instead of 0.6 |
//! | the first glance inlined where the compiler likes | never | hits in 1,000 entries a tenth slower in a program with one call of `get` in a part; `get_or_insert_with` over a Zipf of 1M keys in 100k entries 3 % faster |
//! | whether a lock is biased asked before the first glance, and one for each case | a glance that is in vain where it is not | hits in what is written to 13.4 ns, now 10.9; but too long to be inlined where it is called, and hits in 1,000 entries a tenth slower |
//! | the first glance enters by the word where the lock is not biased | a glance in vain, and then a function of its own | 18 instructions more a hit in what is only read, 28 more a miss; 12 fewer a call where a quarter of them writes |
//! | the shared lock of a look-up that found nothing made exclusive, if there is no other reader | left, taken again, and the key looked up again | loads of new keys a twentieth faster, `get_or_insert_with` over a Zipf of 1M keys in 100k entries no difference |
//! | the lines of a shard, of a newcomer's group and of its ghosts asked for to be written (`prefetchw`, by assembler: what the compiler makes of a prefetch for writing is one for reading), before the lock or under it | as they come | two threads' inserts up to a tenth slower, one thread's no different |
//! | a seated load landed without what only others need (outbox, credit) | with it | 6 instructions of 1,200 |
//! | the lock left by a store instead of an addition, at the price of its line; or the shard's lines asked for, to be written, before the lock is | as it is | no difference, with one thread or two |
//! | a draw for every hit (`XFetch` as in the paper) | one for a 64th of the load time | 62 loads in an hour instead of 61 (1,000 hits a second, 60 s, 200 ms), more the hotter the key, and a counter that threads share |
//! | two arrays of fixed size for the rings | chunks out of one pool | eight bytes an entry instead of four |
//!
//! # What it stands on
//!
//! * **Single flight**: groupcache's `singleflight` (Go, 2013), now
//!   `golang.org/x/sync/singleflight`.
//! * **The table**: *F14*, N. Bronson and X. Shi, "Open-sourcing F14 for faster, more
//!   memory-efficient hash tables" (2019): groups, tags, and an overflow count instead of
//!   tombstones.
//! * **A write on the condition that nothing came between**: load-linked and store-conditional, E. H.
//!   Jensen, G. W. Hagensen and J. M. Broughton, "A new approach to exclusive data access in shared memory
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
