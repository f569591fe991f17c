//! Three processes, one tier and one source, simulated: a single thread decides what happens next (who asks,
//! which answer arrives, which change is made, what fails, whose news are late or lost), and a seed decides for
//! it. Whatever happens, nobody is served what was removed before he asked, and in the end all agree.
//!
//! A change that fails costs the real pause before it is tried again, so many simulations run at once.
//! `LARDER_SIMULATIONS` sets how many; one that fails says its seed and what happened.

mod common;

use common::{Watchdog, wait_until};
use larder::{
    Cache, Clock, Event, Loaded, Tier, TierChange, TierEntry, TierError, TierFound, TierKey,
    TierTicket, TierWatcher,
};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;

const PROCESSES: usize = 3;
const KEYS: u32 = 2;
/// So often all come to rest, after so many steps.
const RESTS: usize = 12;
const STEPS: usize = 30;

type Entry = TierEntry<u32, u64>;
type Change = TierChange<u32, u64>;
type Found = Result<Vec<TierFound<u32, u64>>, TierError>;
type Made = Result<(), TierError>;
type Shelf = Cache<u32, u64>;

/// What somebody waits for, until the simulation says that it is there.
struct Reply<T>(Arc<Mutex<(Option<T>, Option<Waker>)>>);

impl<T> Reply<T> {
    fn new() -> Self {
        Self(Arc::new(Mutex::new((None, None))))
    }

    fn give(&self, answer: T) {
        let mut state = self.0.lock();
        state.0 = Some(answer);
        let waker = state.1.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Nobody waits for it any more.
    fn is_left(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Future for Reply<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<T> {
        let mut state = self.0.lock();
        let answer = state.0.take();
        if answer.is_none() {
            state.1 = Some(task.waker().clone());
        }
        answer.map_or(Poll::Pending, Poll::Ready)
    }
}

#[derive(Clone)]
enum News {
    Changed(TierKey),
    Expired(TierKey),
    TagRemoved(String),
    Cleared,
}

/// A question on its way to the tier; or, with what was found, and when, its answer on the way back.
struct Question {
    process: usize,
    keys: Vec<TierKey>,
    found: Option<(u64, Found)>,
    reply: Reply<Found>,
}

/// A look at the source, before it reads and after.
struct Look {
    keys: Vec<u32>,
    read: Option<Vec<u64>>,
    reply: Reply<Result<Vec<u64>, &'static str>>,
}

/// What is there under a key, which change put it there, and up to which change it is known to be current.
struct Slot {
    number: u64,
    since: u64,
    entry: Option<Entry>,
}

/// One process as the tier sees it.
#[derive(Default)]
struct Port {
    watcher: Option<TierWatcher>,
    news: VecDeque<(u64, News)>,
    is_cut_off: bool,
    /// What its thread is waiting to be made.
    hand: Option<(Vec<Change>, Reply<Made>)>,
    /// Nobody decides: what it wants made is made.
    is_free: bool,
    failed: [u64; 2],
    told: Arc<[AtomicU64; 2]>,
}

#[derive(Default)]
struct World {
    slots: HashMap<TierKey, Slot>,
    tags: HashMap<String, u64>,
    cleared: u64,
    /// The number of the last change.
    last: u64,
    ports: Vec<Port>,
    questions: Vec<Question>,
    looks: Vec<Look>,
    /// The tickets that are out, and the last that was issued.
    tickets: BTreeSet<u64>,
    issued: u64,
    came_twice: bool,
    rows: [u64; KEYS as usize],
    /// What a process must not be served any more: all below.
    floors: [[u64; KEYS as usize]; PROCESSES],
    log: Vec<String>,
}

fn numbers(ticket: &TierTicket) -> [u64; 3] {
    let number =
        |at: usize| u64::from_le_bytes(ticket.as_bytes()[at * 8..][..8].try_into().unwrap());
    [number(0), number(1), number(2)]
}

impl World {
    fn found(&mut self, key: &TierKey) -> TierFound<u32, u64> {
        self.issued += 1;
        let slot = self.slots.get(key);
        let ticket = [slot.map_or(0, |slot| slot.number), self.last, self.issued];
        let ticket: Vec<u8> = ticket.into_iter().flat_map(u64::to_le_bytes).collect();
        let is_there = |slot: &&Slot| {
            slot.since >= self.cleared
                && slot
                    .entry
                    .iter()
                    .flat_map(|entry| &entry.tags)
                    .all(|tag| self.is_before(tag.as_str(), slot.since))
        };
        let entry = slot.filter(is_there).and_then(|slot| slot.entry.clone());
        TierFound::new(entry, TierTicket::new(ticket))
    }

    fn is_before(&self, tag: &str, since: u64) -> bool {
        self.tags.get(tag).is_none_or(|removed| *removed <= since)
    }

    fn make(&mut self, process: usize, change: &Change) {
        let number = self.last + 1;
        let mut put = |key: &TierKey, since, entry: Option<&Entry>| {
            self.slots.insert(key.clone(), Slot { number, since, entry: entry.cloned() });
            News::Changed(key.clone())
        };
        let news = match change {
            TierChange::Write(key, entry) => put(key, number, Some(entry)),
            TierChange::Load(key, entry, ticket) => {
                let [seen, since, _] = numbers(ticket);
                let stands = self.slots.get(key).map_or(0, |slot| slot.number);
                let is_current = entry.tags.iter().all(|tag| self.is_before(tag.as_str(), since));
                if stands != seen || self.cleared > since || !is_current {
                    return;
                }
                let slot = Slot { number, since, entry: Some(entry.clone()) };
                self.slots.insert(key.clone(), slot);
                News::Changed(key.clone())
            }
            TierChange::Remove(key) => put(key, number, None),
            // there are no stale windows
            TierChange::Expire(key) => {
                put(key, number, None);
                News::Expired(key.clone())
            }
            TierChange::RemoveTag(tag) => {
                self.tags.insert(tag.as_str().to_owned(), number);
                News::TagRemoved(tag.as_str().to_owned())
            }
            TierChange::Clear => {
                self.cleared = number;
                News::Cleared
            }
            other => panic!("nobody does {other:?}"),
        };
        self.last = number;
        for (at, port) in self.ports.iter_mut().enumerate() {
            if at != process && !port.is_cut_off {
                port.news.push_back((number, news.clone()));
            }
        }
    }

    /// Takes a ticket back: it is used up, or was given back.
    fn take_back(&mut self, ticket: &TierTicket) {
        // a panic in here would be the tier's, and contained
        self.came_twice |= !self.tickets.remove(&numbers(ticket)[2]);
    }
}

/// A process's end of the tier.
struct Line(Arc<Mutex<World>>, usize);

impl Line {
    async fn ask(&self, keys: &[TierKey]) -> Found {
        let reply = Reply::new();
        let question =
            Question { process: self.1, keys: keys.to_vec(), found: None, reply: reply.clone() };
        self.0.lock().questions.push(question);
        let found = reply.await;
        let mut world = self.0.lock();
        match &found {
            Ok(found) => world.tickets.extend(found.iter().map(|found| numbers(&found.ticket)[2])),
            Err(_) => world.ports[self.1].failed[0] += 1,
        }
        found
    }
}

impl Tier<u32, u64> for Line {
    async fn get(&self, key: &TierKey) -> Result<TierFound<u32, u64>, TierError> {
        Ok(self.ask(std::slice::from_ref(key)).await?.remove(0))
    }

    async fn get_many(&self, keys: &[TierKey]) -> Found {
        self.ask(keys).await
    }

    async fn apply(&self, changes: &[Change]) -> Result<(), TierError> {
        let reply = Reply::new();
        let is_free = {
            let mut world = self.0.lock();
            let is_free = world.ports[self.1].is_free;
            if is_free {
                for change in changes {
                    world.make(self.1, change);
                }
            } else {
                world.ports[self.1].hand = Some((changes.to_vec(), reply.clone()));
            }
            is_free
        };
        let made = if is_free { Ok(()) } else { reply.await };
        let mut world = self.0.lock();
        match &made {
            Ok(()) => changes.iter().for_each(|change| {
                if let TierChange::Load(.., ticket) = change {
                    world.take_back(ticket);
                }
            }),
            Err(_) => world.ports[self.1].failed[1] += 1,
        }
        made
    }

    fn watch(&self, watcher: TierWatcher) -> Result<(), TierError> {
        self.0.lock().ports[self.1].watcher = Some(watcher);
        Ok(())
    }

    fn release(&self, _: &TierKey, ticket: &TierTicket) {
        self.0.lock().take_back(ticket);
    }
}

struct Flag(AtomicBool);

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.0.store(true, SeqCst);
    }
}

/// A call that waits for something.
struct Call {
    process: usize,
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
}

struct Simulation {
    world: Arc<Mutex<World>>,
    shelves: Vec<Shelf>,
    calls: Vec<Call>,
    random: u64,
    /// Whether values are written too. Who writes one does not know what another process has written: then
    /// nothing is promised before the end.
    has_writes: bool,
    room: u64,
}

impl Simulation {
    fn new(seed: u64, world: &Arc<Mutex<World>>) -> Self {
        world.lock().ports = (0..PROCESSES).map(|_| Port::default()).collect();
        world.lock().rows = [1; KEYS as usize];
        let random = seed.wrapping_mul(0x2545_f491_4f6c_dd1d);
        let (shelves, calls) = (Vec::new(), Vec::new());
        let mut it =
            Self { world: Arc::clone(world), shelves, calls, random, has_writes: false, room: 0 };
        (it.has_writes, it.room) = (it.draw(2) == 0, [1, 2, 100][it.draw(3)]);
        it.shelves = (0..PROCESSES).map(|process| it.shelf(process)).collect();
        it
    }

    fn shelf(&self, process: usize) -> Shelf {
        let told = Arc::clone(&self.world.lock().ports[process].told);
        let on_event = move |event: Event<'_, u32>| match event {
            Event::TierFailed { .. } => _ = told[0].fetch_add(1, SeqCst),
            Event::TierLags { .. } => _ = told[1].fetch_add(1, SeqCst),
            _ => {}
        };
        let builder = Cache::builder().max_entries(self.room).clock(Clock::manual().0).seed(1);
        builder.on_event(on_event).tier(Line(Arc::clone(&self.world), process)).build().unwrap()
    }

    /// splitmix64
    fn draw(&mut self, n: usize) -> usize {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.random ^ (self.random >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }

    fn log(&self, line: String) {
        self.world.lock().log.push(line);
    }

    /// Polls who was woken, and waits until the caches' own threads stand still.
    fn settle(&mut self) {
        while let Some(at) = self.calls.iter().position(|call| call.flag.0.swap(false, SeqCst)) {
            let call = &mut self.calls[at];
            let waker = Waker::from(Arc::clone(&call.flag));
            if call.future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
                drop(self.calls.remove(at));
            }
        }
        for (process, shelf) in self.shelves.iter().enumerate() {
            let stands =
                || self.world.lock().ports[process].hand.is_some() || shelf.tier_pending() == 0;
            wait_until(stands);
        }
    }

    fn call(&mut self, process: usize, future: impl Future<Output = ()> + 'static) {
        let flag = Arc::new(Flag(AtomicBool::new(true)));
        self.calls.push(Call { process, future: Box::pin(future), flag });
        self.settle();
    }

    fn load(&mut self, process: usize, key: u32) {
        let (shelf, world) = (self.shelves[process].clone(), Arc::clone(&self.world));
        let floors =
            if self.has_writes { [0; KEYS as usize] } else { world.lock().floors[process] };
        let check = move |key: u32, value: u64| {
            assert!(value >= floors[key as usize], "{process} is served {value} for {key}");
        };
        let look = move |keys: Vec<u32>| {
            let reply = Reply::new();
            world.lock().looks.push(Look { keys, read: None, reply: reply.clone() });
            reply
        };
        let how = self.draw(6);
        self.log(format!("{process} loads {key}, by {how}"));
        self.call(process, async move {
            if how == 0 {
                let keys: Vec<u32> = (key..KEYS).collect();
                let load = |keys: Vec<u32>| {
                    let looked = look(keys.clone());
                    async move {
                        looked.await.map(|read| keys.into_iter().zip(read).collect::<Vec<_>>())
                    }
                };
                let many = shelf.get_or_load_many_async(&keys, load).await;
                many.got.iter().for_each(|(key, got)| check(*key, got.value));
                return;
            }
            let at = if how == 1 { shelf.at(&key).force() } else { shelf.at(&key) };
            let at = if how < 4 { at.tag("some") } else { at };
            let load = |_| async { look(vec![key]).await.map(|read| Loaded::new(read[0])) };
            if let Ok(got) = at.load_async(load).await {
                check(key, got.value);
            }
        });
    }

    /// The source has a newer row, and the process says so.
    fn change(&mut self, process: usize, key: u32) {
        let shelf = self.shelves[process].clone();
        let row = {
            let mut world = self.world.lock();
            world.rows[key as usize] += 1;
            world.rows[key as usize]
        };
        let how = self.draw(if self.has_writes { 8 } else { 4 });
        self.log(format!("{process} makes {key} {row}, by {how}"));
        if how < 4 {
            self.world.lock().floors[process][key as usize] = row;
        }
        match how {
            0 => _ = shelf.remove(&key),
            1 => _ = shelf.expire(&key),
            2 => shelf.clear(),
            3 => {
                let world = Arc::clone(&self.world);
                self.call(process, async move {
                    if shelf.remove_everywhere_async(&key).await.is_ok() {
                        let mut world = world.lock();
                        let found = world.found(&TierKey::of(&key)).entry;
                        let floor = if world.rows[key as usize] == row { row } else { 0 };
                        let is_older = |entry: &Entry| entry.value < Some(floor);
                        assert!(!found.as_ref().is_some_and(is_older), "{key} is still there");
                    }
                });
            }
            4 => _ = shelf.alter(&key, |_| Some(row)),
            5 | 6 => shelf.insert(key, row),
            _ => shelf.at(&key).tag("some").insert(row),
        }
    }

    fn tell(&self, process: usize, up_to: u64) {
        loop {
            let (watcher, news) = {
                let port = &mut self.world.lock().ports[process];
                if port.news.front().is_none_or(|(number, _)| *number > up_to) {
                    return;
                }
                (port.watcher.clone().unwrap(), port.news.pop_front().unwrap().1)
            };
            match news {
                News::Changed(key) => watcher.changed(&key),
                News::Expired(key) => watcher.expired(&key),
                News::TagRemoved(tag) => watcher.tag_removed(&tag),
                News::Cleared => watcher.cleared(),
            };
        }
    }

    /// A question arrives, or its answer does.
    fn answer(&mut self, may_fail: bool) {
        let fails = may_fail && self.draw(10) == 0;
        let at = self.draw(usize::MAX);
        let mut world = self.world.lock();
        world.questions.retain(|question| !question.reply.is_left());
        if world.questions.is_empty() {
            return;
        }
        let at = at % world.questions.len();
        let mut question = world.questions.remove(at);
        let is_cut_off = world.ports[question.process].is_cut_off;
        match question.found.take() {
            None => {
                let found = question.keys.iter().map(|key| world.found(key)).collect();
                question.found =
                    Some((world.last, if fails { Err(TierError::TimedOut) } else { Ok(found) }));
                world.questions.push(question);
            }
            Some((number, found)) => {
                drop(world);
                // nobody is answered before he is told the news
                self.tell(question.process, number);
                question.reply.give(if is_cut_off { Err(TierError::TimedOut) } else { found });
            }
        }
    }

    /// The source reads, or says what it has read.
    fn look(&mut self, may_fail: bool) {
        let fails = may_fail && self.draw(10) == 0;
        let at = self.draw(usize::MAX);
        let mut world = self.world.lock();
        world.looks.retain(|look| !look.reply.is_left());
        if world.looks.is_empty() {
            return;
        }
        let at = at % world.looks.len();
        let mut look = world.looks.remove(at);
        match look.read.take() {
            None => {
                look.read = Some(look.keys.iter().map(|key| world.rows[*key as usize]).collect());
                world.looks.push(look);
            }
            Some(read) => look.reply.give(if fails { Err("away") } else { Ok(read) }),
        }
    }

    /// What a process's thread has in hand is made; or fails, and some of it is made nevertheless.
    fn make(&mut self, process: usize, may_fail: bool) {
        let (fails, some) = (may_fail && self.draw(6) == 0, self.draw(usize::MAX));
        let Some((changes, reply)) = ({
            let port = &mut self.world.lock().ports[process];
            if port.is_cut_off { None } else { port.hand.take() }
        }) else {
            return;
        };
        let made = if fails { some % (changes.len() + 1) } else { changes.len() };
        self.log(format!("{made} of {} changes of {process} are made: {fails}", changes.len()));
        changes[..made].iter().for_each(|change| self.world.lock().make(process, change));
        if !fails {
            self.tell(process, u64::MAX);
        }
        reply.give(if fails { Err(TierError::TimedOut) } else { Ok(()) });
    }

    fn reconnect(&self, process: usize) {
        let watcher = {
            let port = &mut self.world.lock().ports[process];
            std::mem::take(&mut port.is_cut_off).then(|| port.watcher.clone().unwrap())
        };
        watcher.inspect(|watcher| _ = watcher.missed());
    }

    /// The process ends, and another takes its place.
    fn restart(&mut self, process: usize) {
        self.log(format!("{process} restarts"));
        self.reconnect(process);
        self.calls.retain(|call| call.process != process);
        self.world.lock().ports[process].is_free = true;
        self.make(process, false);
        // the last handle goes, and what is left is made
        drop(std::mem::replace(&mut self.shelves[process], Cache::new(1)));
        self.world.lock().ports[process] = Port::default();
        self.shelves[process] = self.shelf(process);
        self.world.lock().floors[process] = [0; KEYS as usize];
    }

    fn step(&mut self) {
        let (process, key) = (self.draw(PROCESSES), self.draw(KEYS as usize) as u32);
        match self.draw(40) {
            0..6 => self.load(process, key),
            6..11 => self.change(process, key),
            11 => self.shelves[process].remove_tag("some"),
            12..21 => self.answer(true),
            21..29 => self.look(true),
            29..34 => self.make(process, true),
            34 => {
                let next = self.world.lock().ports[process].news.front().map(|(number, _)| *number);
                next.inspect(|next| self.tell(process, *next));
            }
            36 if !self.calls.is_empty() => {
                let at = self.draw(self.calls.len());
                drop(self.calls.remove(at));
            }
            37 if self.draw(3) == 0 => {
                let port = &mut self.world.lock().ports[process];
                (port.is_cut_off, port.news) = (true, VecDeque::new());
            }
            38 => self.reconnect(process),
            39 if self.draw(6) == 0 => self.restart(process),
            _ => {}
        }
        self.settle();
    }

    /// All faults end, and all that is under way arrives.
    fn come_to_rest(&mut self) {
        (0..PROCESSES).for_each(|process| self.reconnect(process));
        let is_busy = |it: &Self| {
            let world = it.world.lock();
            let waits = |port: &Port| port.hand.is_some() || !port.news.is_empty();
            !it.calls.is_empty() || world.ports.iter().any(waits)
        };
        self.settle();
        while is_busy(self) {
            (0..PROCESSES).for_each(|process| {
                self.tell(process, u64::MAX);
                self.make(process, false);
            });
            self.answer(false);
            self.look(false);
            self.settle();
        }
    }

    fn run(&mut self) {
        for _ in 0..RESTS {
            (0..STEPS).for_each(|_| self.step());
            self.come_to_rest();
            self.agree();
        }
        assert!(!self.world.lock().came_twice, "a ticket came back twice");
    }

    /// Nobody has anything else than the source, and nothing is left over.
    fn agree(&mut self) {
        self.log("all is at rest".to_owned());
        let rows = self.world.lock().rows;
        // who has nothing asks the tier
        for process in 0..PROCESSES {
            for key in 0..KEYS {
                let (shelf, row) = (self.shelves[process].clone(), rows[key as usize]);
                self.call(process, async move {
                    let load = || async { Ok::<_, String>(row) };
                    let got = shelf.get_or_load_async(&key, load).await.unwrap();
                    assert_eq!(got, row, "{process} has something else than the source for {key}");
                });
                self.come_to_rest();
            }
        }
        for (process, shelf) in self.shelves.iter().enumerate() {
            shelf.validate();
            assert_eq!((shelf.flights(), shelf.fences(), shelf.tier_pending()), (0, 0, 0));
            let port = &self.world.lock().ports[process];
            let told = port.told.each_ref().map(|told| told.load(SeqCst));
            assert_eq!(told, port.failed, "of {process}: what failed, as events");
        }
        assert!(self.world.lock().tickets.is_empty(), "tickets were not given back");
    }
}

/// What went wrong, with all that happened before.
fn simulate(seed: u64) -> Option<String> {
    let world = Arc::<Mutex<World>>::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| Simulation::new(seed, &world).run()));
    outcome.err().map(|_| format!("seed {seed}:\n{}", world.lock().log.join("\n")))
}

#[test]
fn whatever_happens_all_agree_in_the_end() {
    let _watchdog = Watchdog::start();
    let simulations = std::env::var("LARDER_SIMULATIONS").map_or(32, |n| n.parse().unwrap());
    let next = AtomicU64::new(0);
    let work = || {
        let mut failures = Vec::new();
        while let Some(seed) = Some(next.fetch_add(1, SeqCst)).filter(|n| *n < simulations) {
            failures.extend(simulate(seed));
        }
        failures
    };
    let failures: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = (0..24).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(failures.is_empty(), "{} failed; {}", failures.len(), failures[0]);
}
