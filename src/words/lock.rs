//! prototype
use std::cell::UnsafeCell;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::*};
use parking_lot::Mutex;
use std::thread::Thread;

const WRITER: u32 = 1;
const PARKED: u32 = 2;
const READER: u32 = 4;

pub(crate) struct RwLock<T> {
    state: AtomicU32,
    queue: Mutex<()>,
    front: Mutex<Option<Thread>>,
    bias: AtomicU32,
    value: UnsafeCell<T>,
}
#[allow(unsafe_code)]
unsafe impl<T: Send + Sync> Sync for RwLock<T> {}
#[allow(unsafe_code)]
unsafe impl<T: Send> Send for RwLock<T> {}
pub(crate) struct Read<'a, T>(&'a RwLock<T>, Option<&'static Slot>);
#[repr(align(128))]
pub(crate) struct Slot(AtomicUsize);
static SLOTS: [Slot; 32] = [const { Slot(AtomicUsize::new(0)) }; 32];
const ON: u32 = 256;
pub(crate) struct Write<'a, T>(&'a RwLock<T>);
impl<T> RwLock<T> {
    pub(crate) fn new(value: T) -> Self { Self { state: AtomicU32::new(0), queue: Mutex::new(()), front: Mutex::new(None), bias: AtomicU32::new(0), value: UnsafeCell::new(value) } }
    #[inline]
    pub(crate) fn read(&self) -> Read<'_, T> {
        let bias = self.bias.load(Relaxed);
        if bias == ON {
            let n = crate::words::striped::number();
            if n < 31 {
                let slot = &SLOTS[n];
                if slot.0.load(Relaxed) == 0 {
                    slot.0.swap(std::ptr::from_ref(self).addr(), SeqCst);
                    if self.bias.load(SeqCst) == ON { return Read(self, Some(slot)); }
                    slot.0.store(0, Release);
                }
            }
        }
        if self.state.fetch_add(READER, Acquire) & (WRITER | PARKED) != 0 { self.read_slow(); }
        let bias = self.bias.load(Relaxed);
        if bias < ON { self.bias.store(bias + 1, Relaxed); }
        Read(self, None)
    }
    #[inline]
    pub(crate) fn write(&self) -> Write<'_, T> {
        if self.state.compare_exchange(0, WRITER, Acquire, Relaxed).is_err() { self.write_slow(); }
        if self.bias.load(Relaxed) == ON { self.revoke(); } else { self.bias.store(0, Relaxed); }
        Write(self)
    }
    #[cold] #[inline(never)]
    fn revoke(&self) {
        self.bias.swap(0, SeqCst);
        let me = std::ptr::from_ref(self).addr();
        for slot in &SLOTS { while slot.0.load(SeqCst) == me { std::thread::yield_now(); } }
    }
    #[cold] #[inline(never)]
    fn read_slow(&self) { self.left(READER); self.wait(WRITER, READER); }
    #[cold] #[inline(never)]
    fn write_slow(&self) { self.wait(!PARKED, WRITER); }
    fn wait(&self, blocked_by: u32, mine: u32) {
        let _turn = self.queue.lock();
        for n in 0..100 {
            let s = self.state.load(Relaxed);
            if s & blocked_by == 0 { if self.state.compare_exchange(s, s + mine, Acquire, Relaxed).is_ok() { return; } }
            std::hint::spin_loop();
            if n > 50 { std::thread::yield_now(); }
        }
        *self.front.lock() = Some(std::thread::current());
        let mut s = self.state.fetch_or(PARKED, SeqCst) | PARKED;
        loop {
            if s & blocked_by == 0 {
                match self.state.compare_exchange(s, (s - PARKED) + mine, Acquire, Relaxed) { Ok(_) => break, Err(now) => { s = now; continue; } }
            }
            std::thread::park();
            s = self.state.load(Relaxed);
        }
        *self.front.lock() = None;
    }
    #[inline]
    fn left(&self, mine: u32) {
        let s = self.state.fetch_sub(mine, Release);
        if s & PARKED != 0 { self.wake(); }
    }
    #[cold] #[inline(never)]
    fn wake(&self) { if let Some(t) = self.front.lock().as_ref() { t.unpark(); } }
}
impl<T> Deref for Read<'_, T> { type Target = T; #[inline] #[allow(unsafe_code)] fn deref(&self) -> &T { unsafe { &*self.0.value.get() } } }
impl<T> Deref for Write<'_, T> { type Target = T; #[inline] #[allow(unsafe_code)] fn deref(&self) -> &T { unsafe { &*self.0.value.get() } } }
impl<T> DerefMut for Write<'_, T> { #[inline] #[allow(unsafe_code)] fn deref_mut(&mut self) -> &mut T { unsafe { &mut *self.0.value.get() } } }
impl<T> Drop for Read<'_, T> { #[inline] fn drop(&mut self) { match self.1 { Some(slot) => slot.0.store(0, Release), None => self.0.left(READER) } } }
impl<T> Drop for Write<'_, T> { #[inline] fn drop(&mut self) { self.0.left(WRITER); } }
