//! Threads: a private pool that starts when it is first needed, and one door to it, [`for_each`].
//!
//! The caller works too. A call hands out indices of fixed pieces of work, so results cannot depend on who takes which.
//! Every thread, the caller too, runs with the default floating-point environment and restores what it found.
//! A forked child finds its parent's pool by the process id, leaves it alone and starts its own.
#![allow(unsafe_code)]

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    ptr,
    sync::{
        Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use crate::{error::Error, float_environment::DefaultFloatEnvironment};

/// The number of threads asked for by [`set_threads`]; 0 for none.
static REQUESTED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LAST_COUNT: Cell<usize> = const { Cell::new(0) };
}

/// Asks for exactly `count` threads in each call that has as many pieces, or with 0 for the default.
pub fn set_threads(count: usize) {
    REQUESTED.store(count, Relaxed);
}

/// What [`set_threads`] was last given.
#[must_use]
pub fn requested_threads() -> usize {
    REQUESTED.load(Relaxed)
}

/// Threads a call may use: asked for, else `STEPSMITH_NUM_THREADS`, `OMP_NUM_THREADS`, else what affinity and quota allow.
#[must_use]
pub fn threads() -> usize {
    match requested_threads() {
        0 => default_threads(),
        count => count,
    }
}

fn default_threads() -> usize {
    static DEFAULT: OnceLock<usize> = OnceLock::new();
    *DEFAULT.get_or_init(|| {
        let allowed = || std::thread::available_parallelism().map_or(1, usize::from);
        from_environment("STEPSMITH_NUM_THREADS")
            .or_else(|| from_environment("OMP_NUM_THREADS"))
            .unwrap_or_else(allowed)
    })
}

/// Refuses a `STEPSMITH_NUM_THREADS` that is no positive number.
pub fn check_environment() -> Result<(), Error> {
    match std::env::var_os("STEPSMITH_NUM_THREADS") {
        Some(value) if !value.is_empty() && from_environment("STEPSMITH_NUM_THREADS").is_none() => {
            Err(Error::NumThreads(value.to_string_lossy().into_owned()))
        }
        _ => Ok(()),
    }
}

/// The first number of a variable such as `OMP_NUM_THREADS=4,2`, if it is positive.
fn from_environment(name: &str) -> Option<usize> {
    let value = std::env::var(name).ok()?;
    value.split(',').next()?.trim().parse().ok().filter(|count| *count > 0)
}

/// Threads that took part in this thread's last call of [`for_each`].
#[must_use]
pub fn last_count() -> usize {
    LAST_COUNT.get()
}

/// Threads that the pool of this process holds, the callers not counted.
#[must_use]
pub fn pool_threads() -> usize {
    let pool = POOL.load(Relaxed);
    // SAFETY: a pool is leaked when it is published and never freed.
    unsafe { pool.as_ref() }.filter(|pool| pool.pid == std::process::id()).map_or(0, |pool| lock(&pool.state).threads)
}

/// Runs `work` for every item, as [`for_each`] does for every index.
pub fn for_each_mut<I: Send>(items: &mut [I], parallel: bool, work: &(dyn Fn(usize, &mut I) + Sync)) {
    struct Items<I>(*mut I);
    // SAFETY: each item is used by the one thread that got its index.
    unsafe impl<I: Send> Sync for Items<I> {}
    let (len, first) = (items.len(), &Items(items.as_mut_ptr()));
    // SAFETY: `for_each` gives each index below `len` out once, and returns when all are done.
    for_each(len, parallel, &|k| work(k, unsafe { &mut *first.0.add(k) }));
}

/// Runs `work` for every index below `pieces`, on this thread and, if `parallel`, on others.
pub fn for_each(pieces: usize, parallel: bool, work: &(dyn Fn(usize) + Sync)) {
    let wanted = if parallel { threads().min(pieces) } else { 1 };
    if wanted <= 1 {
        LAST_COUNT.set(1);
        let _environment = DefaultFloatEnvironment::enter();
        return (0..pieces).for_each(work);
    }
    let pool = Pool::of_this_process();
    let _one_at_a_time = lock(&pool.turn);
    let helpers = pool.grow(wanted - 1);
    // An asked-for count is kept to the letter: each thread's first piece is reserved for it.
    let exact = requested_threads() > 0;
    let shares = Shares::new(pieces, helpers + 1, usize::from(exact));
    let turn = |seat: usize| {
        let _environment = DefaultFloatEnvironment::enter();
        if exact {
            work(shares.start(seat));
        }
        while let Some(piece) = shares.take(seat) {
            work(piece);
        }
    };
    LAST_COUNT.set(pool.run(helpers, exact, &turn));
}

/// Pieces of a job, each thread's own ones one after another: from call to call it meets the same memory, which may still be in
/// its core's cache. Who is done helps the others.
struct Shares {
    pieces: usize,
    /// The next free piece of each thread's share.
    next: Vec<AtomicUsize>,
}

impl Shares {
    /// The first `reserved` pieces of each share are not given out.
    fn new(pieces: usize, threads: usize, reserved: usize) -> Self {
        let first = |seat| AtomicUsize::new(seat * pieces / threads + reserved);
        Self { pieces, next: (0..threads).map(first).collect() }
    }

    /// Where a thread's share begins, and that of the one before it ends.
    fn start(&self, seat: usize) -> usize {
        seat * self.pieces / self.next.len()
    }

    fn take(&self, seat: usize) -> Option<usize> {
        let seats = self.next.len();
        (seat..seat + seats).map(|k| k % seats).find_map(|owner| {
            let end = self.start(owner + 1);
            // A share that is used up is not counted on: its counter stays where it is.
            let is_left = self.next[owner].load(Relaxed) < end;
            is_left.then(|| self.next[owner].fetch_add(1, Relaxed)).filter(|&piece| piece < end)
        })
    }
}

/// The pool of the process that made it; a forked child makes its own.
static POOL: AtomicPtr<Pool> = AtomicPtr::new(ptr::null_mut());

struct Pool {
    pid: u32,
    /// Held by the caller whose job runs: one at a time, the others wait.
    turn: Mutex<()>,
    state: Mutex<State>,
    /// A job has seats.
    work: Condvar,
    /// A job's last helper left, or its last seat was taken.
    left: Condvar,
    /// `State::number` and `State::inside` again, to look at without the lock.
    number: AtomicU64,
    inside: AtomicUsize,
}

/// How long a thread looks for what it waits for before it sleeps: about as long as waking up takes. A step often is two
/// jobs in a row, and its threads end within microseconds of each other.
const PATIENCE: Duration = Duration::from_micros(50);

fn watch(is_done: impl Fn() -> bool) {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for _ in 0..16 {
            if is_done() {
                return;
            }
            std::hint::spin_loop();
        }
    }
}

#[derive(Default)]
struct State {
    threads: usize,
    job: Option<Job>,
    /// Number of the job, so that a helper takes one seat of each at most.
    number: u64,
    /// Seats of the job that are free.
    free: usize,
    /// Seats of the job that were ever taken.
    taken: usize,
    /// Helpers at work.
    inside: usize,
    /// Helpers that wait for work and have to be woken: that is a call to the system.
    asleep: usize,
    /// The caller waits for helpers to leave, and has to be woken.
    is_caller_asleep: bool,
    panicked: bool,
}

type Turn<'a> = dyn Fn(usize) + Sync + 'a;

/// A borrowed closure whose lifetime [`Pool::run`] guards.
#[derive(Clone, Copy)]
struct Job(&'static Turn<'static>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    fn of_this_process() -> &'static Self {
        let pid = std::process::id();
        loop {
            let current = POOL.load(std::sync::atomic::Ordering::Acquire);
            // SAFETY: a pool is leaked when it is published and never freed.
            if let Some(pool) = unsafe { current.as_ref() }.filter(|pool| pool.pid == pid) {
                return pool;
            }
            let fresh = Box::into_raw(Box::new(Self::new(pid)));
            let order = std::sync::atomic::Ordering::AcqRel;
            if POOL.compare_exchange(current, fresh, order, Relaxed).is_err() {
                // SAFETY: `fresh` came from `Box::into_raw` and was not published.
                drop(unsafe { Box::from_raw(fresh) });
            }
        }
    }

    fn new(pid: u32) -> Self {
        Self {
            pid,
            turn: Mutex::new(()),
            state: Mutex::default(),
            work: Condvar::new(),
            left: Condvar::new(),
            number: AtomicU64::new(0),
            inside: AtomicUsize::new(0),
        }
    }

    /// Starts threads until there are `helpers`, or until the system refuses; returns how many of them there are.
    fn grow(&'static self, helpers: usize) -> usize {
        let mut state = lock(&self.state);
        while state.threads < helpers {
            let name = format!("stepsmith-{}", state.threads);
            if std::thread::Builder::new().name(name).spawn(move || self.help()).is_err() {
                break;
            }
            state.threads += 1;
        }
        state.threads.min(helpers)
    }

    /// Runs `turn` on this thread (seat 0) and on up to `helpers` others; with `all`, on exactly as many. The caller holds
    /// `self.turn`.
    fn run(&'static self, helpers: usize, all: bool, turn: &Turn<'_>) -> usize {
        // SAFETY: only the lifetime changes; `Leave` waits until every helper has left the closure before it goes.
        let job = Job(unsafe { std::mem::transmute::<&Turn<'_>, &'static Turn<'static>>(turn) });
        let mut state = lock(&self.state);
        (state.job, state.free, state.taken, state.panicked) = (Some(job), helpers, 0, false);
        state.number += 1;
        self.number.store(state.number, Relaxed);
        let asleep = state.asleep;
        drop(state);
        if asleep > 0 {
            self.work.notify_all();
        }
        let leave = Leave { pool: self, all };
        turn(0);
        drop(leave);
        let state = lock(&self.state);
        assert!(!state.panicked, "a worker thread panicked");
        state.taken + 1
    }

    /// The caller waits until a helper leaves.
    fn sleep<'a>(&self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        state.is_caller_asleep = true;
        state = wait(&self.left, state);
        state.is_caller_asleep = false;
        state
    }

    /// What a helper does for ever: take a seat, take its turn, leave.
    fn help(&self) {
        let mut state = lock(&self.state);
        let (mut done, mut watched) = (0, false);
        loop {
            let Some(job) = state.job.filter(|_| state.free > 0 && state.number != done) else {
                if watched {
                    state.asleep += 1;
                    state = wait(&self.work, state);
                    state.asleep -= 1;
                } else {
                    let seen = state.number;
                    drop(state);
                    watch(|| self.number.load(Relaxed) != seen);
                    state = lock(&self.state);
                }
                watched = !watched;
                continue;
            };
            (done, watched) = (state.number, false);
            state.free -= 1;
            state.taken += 1;
            state.inside += 1;
            self.inside.store(state.inside, Relaxed);
            let seat = state.taken;
            drop(state);
            let result = catch_unwind(AssertUnwindSafe(|| (job.0)(seat)));
            state = lock(&self.state);
            state.panicked |= result.is_err();
            state.inside -= 1;
            self.inside.store(state.inside, Relaxed);
            if state.is_caller_asleep {
                self.left.notify_all();
            }
        }
    }
}

/// Takes a job back, on return and on a panic: no new helper enters, and those inside are waited for.
struct Leave {
    pool: &'static Pool,
    all: bool,
}

impl Drop for Leave {
    fn drop(&mut self) {
        let mut state = lock(&self.pool.state);
        while self.all && state.free > 0 {
            state = self.pool.sleep(state);
        }
        state.job = None;
        state.free = 0;
        if state.inside > 0 {
            drop(state);
            watch(|| self.pool.inside.load(Relaxed) == 0);
            state = lock(&self.pool.state);
        }
        while state.inside > 0 {
            state = self.pool.sleep(state);
        }
    }
}

/// What threadpoolctl reads.
// SAFETY: no other symbol of the process has this name.
#[unsafe(no_mangle)]
pub extern "C" fn stepsmith_get_num_threads() -> usize {
    threads()
}

/// What threadpoolctl writes; the default count means no wish, so that a limit that ends leaves nothing behind.
// SAFETY: no other symbol of the process has this name.
#[unsafe(no_mangle)]
pub extern "C" fn stepsmith_set_num_threads(count: usize) {
    set_threads(if count == default_threads() { 0 } else { count });
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// One test, since the request is the process's.
    #[test]
    fn an_asked_for_count_is_that_many_threads_and_each_piece_runs_once() {
        for count in [1, 2, 3, 7] {
            set_threads(count);
            for pieces in [0, 1, count, count + 1, 50] {
                let (ids, ran) = (Mutex::new(HashSet::new()), Mutex::new(vec![0; pieces]));
                for_each(pieces, true, &|piece| {
                    lock(&ids).insert(std::thread::current().id());
                    lock(&ran)[piece] += 1;
                });
                let (ids, ran) = (ids.into_inner().unwrap(), ran.into_inner().unwrap());
                assert_eq!(ran, vec![1; pieces]);
                assert_eq!(ids.len(), count.min(pieces), "{count} threads, {pieces} pieces");
                assert_eq!(last_count(), count.min(pieces).max(1));
            }
        }
        set_threads(0);
        let ran = AtomicUsize::new(0);
        for_each(1000, true, &|_| {
            ran.fetch_add(1, Relaxed);
        });
        assert_eq!(ran.into_inner(), 1000);
        let panic = catch_unwind(AssertUnwindSafe(|| for_each(64, true, &|piece| assert!(piece != 63, "on purpose"))));
        assert!(panic.is_err());
        for_each(64, true, &|_| {});
    }
}
