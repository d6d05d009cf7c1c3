//! Calls that wait at the same moment are done together, or share what they are done with.
//!
//! Whoever calls puts its work into the queue. A worker takes what waits there, as much as it does at
//! once; what comes meanwhile waits for the next one, and never joins work that has begun: a read
//! sees every write that was acknowledged before it came. Nobody waits for company. The first to
//! come is begun with at once, and the busier the database, the more goes along.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, Thread},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot::{self, error::TryRecvError},
    task::spawn_blocking,
    time::{Instant, sleep, timeout},
};
use tonic::Status;

use super::awake::{Awake, may_stay_awake, receive_awake};
use crate::store::Unanswered;

/// How many works are done together at the most, where each of them gains by it.
pub(super) const BATCH: usize = 64;

/// For how long a thread that works on a file waits for more to do. To wake it takes less than to get
/// another one.
pub(super) const THREAD_LINGERS: Duration = Duration::from_millis(10);

/// How long a worker may take to begin. Until then it waits for a processor or a thread, as another
/// would.
const START: Duration = Duration::from_millis(100);

/// How one kind of work is done.
pub(super) trait Batch: Send + Sync + 'static {
    /// What a call brings.
    type Work: Send + 'static;
    /// What it gets.
    type Answer: Send + 'static;
    /// What a worker keeps from one batch to the next.
    type Kept: Default + Send + 'static;

    /// Whether a batch keeps its thread waiting: its worker has one of its own then.
    const BLOCKS: bool = false;

    /// How many works are done together at the most.
    const MOST: usize = BATCH;

    /// Does at least one work and at most [`MOST`](Self::MOST), and answers each in the same order.
    fn run(
        &self,
        kept: &mut Self::Kept,
        works: Vec<Self::Work>,
    ) -> impl Future<Output = Vec<Result<Self::Answer, Status>>> + Send;

    /// What a call gets whose work was not begun with in time.
    fn busy(&self) -> Status;
}

/// How a queue is worked off.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    /// How many workers there may be.
    pub(super) workers: usize,
    /// After how long with one batch a worker does not count any more, or some milliseconds later
    /// where nobody comes, so that nobody waits behind what is slow; `None` where the next one could
    /// only wait for the same.
    pub(super) slow: Option<Duration>,
    /// How many workers there may be with those that do not count any more.
    pub(super) at_most: usize,
    /// How long work may wait until it is begun with.
    pub(super) patience: Duration,
    /// How long a call may take; nothing ends work that keeps a thread waiting.
    pub(super) limit: Duration,
    /// For how long one worker that has nothing to do may stay, with what it works with; `None`
    /// where it leaves at once.
    pub(super) lingers: Option<Duration>,
    /// How a caller keeps its thread awake for its answer; `None` where answers are not short, or come
    /// through the thread.
    pub(super) awake: Option<Awake>,
}

/// The queue of one kind of work. Clones share it.
pub(super) struct Queue<B: Batch>(Arc<Shared<B>>);

impl<B: Batch> Clone for Queue<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

struct Shared<B: Batch> {
    batch: B,
    rules: Rules,
    state: Mutex<State<B>>,
}

struct State<B: Batch> {
    waiting: VecDeque<Waiting<B>>,
    /// The workers that count.
    workers: Vec<Worker>,
    /// All that there are, with the slow ones and the idle one.
    living: Vec<u64>,
    /// The worker that has nothing to do, and keeps what it works with.
    idle: Option<Idle>,
    /// Whether somebody looks for workers that are slow.
    is_watched: bool,
    is_closed: bool,
    next: u64,
}

struct Worker {
    number: u64,
    /// When it was called, or began with its batch.
    since: Instant,
    has_begun: bool,
}

impl Worker {
    fn called(number: u64) -> Self {
        Self { number, since: Instant::now(), has_begun: false }
    }

    fn is_slow(&self, slow: Duration) -> bool {
        let limit = if self.has_begun { slow } else { slow.max(START) };
        self.since.elapsed() >= limit
    }
}

struct Idle {
    number: u64,
    wait: Wait,
}

/// Ends the wait of a worker that has nothing to do.
enum Wait {
    OfTask(oneshot::Sender<()>),
    OfThread(Thread),
}

impl Wait {
    fn end(self) {
        match self {
            Self::OfTask(wait) => drop(wait),
            Self::OfThread(thread) => thread.unpark(),
        }
    }
}

struct Waiting<B: Batch> {
    ticket: u64,
    work: B::Work,
    answer: Answer<B>,
}

type Answer<B> = oneshot::Sender<Result<<B as Batch>::Answer, Status>>;

impl<B: Batch> State<B> {
    fn next(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    /// A worker does not count any more.
    fn leaves(&mut self, number: u64) {
        self.workers.retain(|worker| worker.number != number);
    }

    /// A worker is not there any more.
    fn ends(&mut self, number: u64) {
        self.leaves(number);
        self.living.retain(|living| *living != number);
        let _ = self.idle.take_if(|idle| idle.number == number);
    }
}

impl<B: Batch> Queue<B> {
    pub(super) fn new(batch: B, rules: Rules) -> Self {
        let state = State {
            waiting: VecDeque::new(),
            workers: Vec::new(),
            living: Vec::new(),
            idle: None,
            is_watched: false,
            is_closed: false,
            next: 0,
        };
        Self(Arc::new(Shared { batch, rules, state: Mutex::new(state) }))
    }

    /// Has the work done, in a task of its own: a caller that goes away takes back its own work
    /// alone, and only if that was not begun with.
    pub(super) async fn call(&self, work: B::Work) -> Result<B::Answer, Status> {
        let Rules { patience, limit, .. } = self.0.rules;
        let call = self.0.rules.awake.as_ref().map(|awake| (awake.moment, awake.calls.enter()));
        let (answer, mut answered) = oneshot::channel();
        let mut ticket = self.enter(work, answer);
        let at_once = match &call {
            Some((moment, call)) if call.is_alone && may_stay_awake() => {
                let at_once = receive_awake(&mut answered, *moment);
                if matches!(at_once, Err(TryRecvError::Empty)) {
                    call.was_awake_in_vain();
                }
                at_once
            }
            _ => Err(TryRecvError::Empty),
        };
        let answer = match at_once {
            Err(TryRecvError::Empty) => match timeout(patience, &mut answered).await {
                Ok(answer) => answer.ok(),
                Err(_) if ticket.withdraw() => return Err(self.0.batch.busy()),
                Err(_) => timeout(limit.saturating_sub(patience), answered)
                    .await
                    .map_err(|_| Unanswered::DeadlinePassed.into_status())?
                    .ok(),
            },
            answer => answer.ok(),
        };
        ticket.is_out = true;
        answer.unwrap_or_else(|| Err(Status::internal("the work was broken off by a fault")))
    }

    /// From now on nobody keeps anything who has nothing to do.
    pub(super) fn close(&self) {
        let mut state = self.state();
        state.is_closed = true;
        if let Some(Idle { wait, .. }) = state.idle.take() {
            wait.end();
        }
    }

    fn state(&self) -> MutexGuard<'_, State<B>> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, work: B::Work, answer: Answer<B>) -> Ticket<'_, B> {
        let mut state = self.state();
        let number = state.next();
        state.waiting.push_back(Waiting { ticket: number, work, answer });
        self.find_worker(state);
        Ticket { queue: self, number, is_out: false }
    }

    /// Gives what waits to a worker, if there may be another one. It is woken without the lock, which
    /// is the first thing that it wants.
    fn find_worker(&self, mut state: MutexGuard<'_, State<B>>) {
        let Rules { workers, slow, at_most, .. } = self.0.rules;
        if let Some(slow) = slow
            && state.workers.len() >= workers
        {
            state.workers.retain(|worker| !worker.is_slow(slow));
        }
        let is_full = state.idle.is_none() && state.living.len() >= at_most;
        if state.waiting.is_empty() || state.workers.len() >= workers || is_full {
            return;
        }
        self.see_to_watch(&mut state);
        if let Some(Idle { number, wait }) = state.idle.take() {
            state.workers.push(Worker::called(number));
            drop(state);
            // One that has ended at this moment gives its place to another.
            wait.end();
            return;
        }
        let number = state.next();
        state.workers.push(Worker::called(number));
        state.living.push(number);
        drop(state);
        let work = self.clone().work(number);
        if B::BLOCKS {
            let runtime = Handle::current();
            let start = || drop(spawn_blocking(move || runtime.block_on(work)));
            // It panics where the system has no thread left. The call waits then, and the next one
            // tries again.
            if catch_unwind(AssertUnwindSafe(start)).is_err() {
                self.state().ends(number);
            }
        } else {
            tokio::spawn(work);
        }
    }

    /// A worker, who counts from the beginning.
    async fn work(self, number: u64) {
        // Not before it runs: a runtime that ends drops what would be started in its place.
        let _place = Place { queue: self.clone(), number };
        let mut kept = B::Kept::default();
        loop {
            let (works, answers) = match self.take(number) {
                Next::Works(works, answers) => (works, answers),
                Next::Idle(moment, wait) => match self.is_wanted(number, moment, wait).await {
                    true => continue,
                    false => return,
                },
                Next::Leave => return,
            };
            let results = self.0.batch.run(&mut kept, works).await;
            for (answer, result) in answers.into_iter().zip(results) {
                // Whoever is not there any more does not want to know.
                let _ = answer.send(result);
            }
        }
    }

    /// What waits and somebody still wants to know of, as much as is done at once, with whom to tell.
    fn take(&self, number: u64) -> Next<B> {
        let mut state = self.state();
        let State { waiting, workers, living, .. } = &mut *state;
        // One that was slow counts again, unless another has its place. One whose start was given up
        // for want of a thread, and comes after all, is not wanted.
        let counts = workers.iter().any(|worker| worker.number == number);
        let has_place = workers.len() < self.0.rules.workers && living.contains(&number);
        if !counts && !has_place {
            return Next::Leave;
        }
        let (mut works, mut answers) = (Vec::new(), Vec::new());
        while works.len() < B::MOST
            && let Some(Waiting { work, answer, .. }) = waiting.pop_front()
        {
            if !answer.is_closed() {
                works.push(work);
                answers.push(answer);
            }
        }
        state.leaves(number);
        if !works.is_empty() {
            state.workers.push(Worker { number, since: Instant::now(), has_begun: true });
            self.see_to_watch(&mut state);
            return Next::Works(works, answers);
        }
        if let Some(moment) = self.0.rules.lingers
            && !state.is_closed
            && state.idle.is_none()
        {
            let (wait, waited) = match B::BLOCKS {
                true => (Wait::OfThread(thread::current()), None),
                false => {
                    let (wait, waited) = oneshot::channel();
                    (Wait::OfTask(wait), Some(waited))
                }
            };
            state.idle = Some(Idle { number, wait });
            return Next::Idle(moment, waited);
        }
        Next::Leave
    }

    /// Waits for a moment, as a task or else with its thread; whether there may be something to do
    /// again for the worker that is idle.
    async fn is_wanted(
        &self,
        number: u64,
        moment: Duration,
        waited: Option<oneshot::Receiver<()>>,
    ) -> bool {
        match waited {
            Some(waited) => drop(timeout(moment, waited).await),
            // It may end for no reason, and the worker leaves early.
            None => thread::park_timeout(moment),
        }
        // It may have been given work at the very moment that it leaves.
        self.state().idle.take_if(|idle| idle.number == number).is_none()
    }

    /// Has somebody look for workers that are slow.
    fn see_to_watch(&self, state: &mut State<B>) {
        if let Some(slow) = self.0.rules.slow
            && !state.is_watched
        {
            state.is_watched = true;
            tokio::spawn(self.clone().watch(slow));
        }
    }

    /// Looks for workers that are slow, as long as there are any at work: nobody may come who would.
    async fn watch(self, slow: Duration) {
        loop {
            sleep(slow).await;
            let mut state = self.state();
            state.workers.retain(|worker| !worker.is_slow(slow));
            self.find_worker(state);
            let mut state = self.state();
            if state.workers.is_empty() {
                state.is_watched = false;
                return;
            }
        }
    }
}

/// The place of a call's work in the queue, which is given up with it.
struct Ticket<'a, B: Batch> {
    queue: &'a Queue<B>,
    number: u64,
    /// Whether the work is not in the queue any more.
    is_out: bool,
}

impl<B: Batch> Ticket<'_, B> {
    /// Takes the work back; whether it was still there.
    fn withdraw(&mut self) -> bool {
        self.is_out = true;
        let mut state = self.queue.state();
        let place = state.waiting.iter().position(|waiting| waiting.ticket == self.number);
        place.is_some_and(|place| state.waiting.remove(place).is_some())
    }
}

impl<B: Batch> Drop for Ticket<'_, B> {
    fn drop(&mut self) {
        if !self.is_out {
            self.withdraw();
        }
    }
}

/// What a worker does next.
enum Next<B: Batch> {
    Works(Vec<B::Work>, Vec<Answer<B>>),
    /// There is nothing to do, and it may wait for a moment: as a task until it hears of some, or
    /// with its thread.
    Idle(Duration, Option<oneshot::Receiver<()>>),
    Leave,
}

/// The place of a worker. Whatever becomes of that one, the place is another's if somebody waits.
struct Place<B: Batch> {
    queue: Queue<B>,
    number: u64,
}

impl<B: Batch> Drop for Place<B> {
    fn drop(&mut self) {
        let mut state = self.queue.state();
        state.ends(self.number);
        self.queue.find_worker(state);
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
        task::Poll,
    };

    use tokio::{
        sync::{Semaphore, mpsc},
        task::JoinHandle,
        time::Instant,
    };

    use super::{super::awake::ALONE, *};

    const PATIENCE: Duration = Duration::from_secs(4);

    const LIMIT: Duration = Duration::from_secs(5);

    const LINGER: Duration = Duration::from_secs(1);

    const RULES: Rules = Rules {
        workers: 2,
        slow: None,
        at_most: 3,
        patience: PATIENCE,
        limit: LIMIT,
        lingers: None,
        awake: None,
    };

    /// Doubles numbers, when it is let; tells what it has begun with.
    struct Doubling {
        begun: mpsc::UnboundedSender<(Vec<i32>, usize)>,
        gate: Arc<Semaphore>,
        at_work: AtomicUsize,
    }

    impl Batch for Doubling {
        type Work = i32;
        type Answer = i32;
        /// How many batches a worker has done.
        type Kept = usize;

        async fn run(&self, kept: &mut usize, works: Vec<i32>) -> Vec<Result<i32, Status>> {
            *kept += 1;
            self.begun.send((works.clone(), *kept)).unwrap();
            self.at_work.fetch_add(1, Ordering::Relaxed);
            self.gate.acquire().await.unwrap().forget();
            self.at_work.fetch_sub(1, Ordering::Relaxed);
            let double = |work| match work {
                0 => Err(Status::not_found("nothing to double")),
                work => Ok(work * 2),
            };
            assert!(!works.contains(&-1), "a fault");
            works.into_iter().map(double).collect()
        }

        fn busy(&self) -> Status {
            Status::unavailable("busy")
        }
    }

    struct Test {
        queue: Queue<Doubling>,
        begun: mpsc::UnboundedReceiver<(Vec<i32>, usize)>,
        gate: Arc<Semaphore>,
    }

    impl Test {
        fn with(workers: usize, slow: Option<Duration>) -> Self {
            Self::by(Rules { workers, slow, ..RULES })
        }

        fn by(rules: Rules) -> Self {
            let (sender, begun) = mpsc::unbounded_channel();
            let gate = Arc::new(Semaphore::new(0));
            let batch =
                Doubling { begun: sender, gate: Arc::clone(&gate), at_work: AtomicUsize::new(0) };
            Self { queue: Queue::new(batch, rules), begun, gate }
        }

        /// A call that has come into the queue.
        async fn call(&self, work: i32) -> JoinHandle<Result<i32, Status>> {
            let queue = self.queue.clone();
            let call = tokio::spawn(async move { queue.call(work).await });
            tokio::task::yield_now().await;
            call
        }

        async fn begun(&mut self) -> Vec<i32> {
            self.begun.recv().await.unwrap().0
        }

        /// Lets so many batches end.
        fn let_end(&self, batches: usize) {
            self.gate.add_permits(batches);
        }
    }

    #[tokio::test]
    async fn what_waits_at_the_same_moment_is_done_together_and_never_joins_what_has_begun() {
        let mut test = Test::with(1, None);
        let first = test.call(1).await;
        assert_eq!(test.begun().await, [1]);
        let others = [test.call(2).await, test.call(0).await, test.call(3).await];
        test.let_end(1);
        assert_eq!(first.await.unwrap().unwrap(), 2);
        assert_eq!(test.begun().await, [2, 0, 3]);
        test.let_end(1);
        let [two, zero, three] = others;
        assert_eq!(two.await.unwrap().unwrap(), 4);
        assert_eq!(zero.await.unwrap().unwrap_err().code(), tonic::Code::NotFound);
        assert_eq!(three.await.unwrap().unwrap(), 6);
        assert!(test.queue.state().workers.is_empty());
    }

    #[tokio::test]
    async fn a_batch_has_its_limit_and_the_rest_its_turn() {
        let mut test = Test::with(1, None);
        let mut calls = vec![test.call(1).await];
        test.begun().await;
        for work in 0..=BATCH {
            calls.push(test.call(1 + i32::try_from(work).unwrap()).await);
        }
        test.let_end(3);
        assert_eq!(test.begun().await.len(), BATCH);
        assert_eq!(test.begun().await.len(), 1);
        for call in calls {
            assert!(call.await.unwrap().is_ok());
        }
    }

    #[tokio::test]
    async fn there_are_no_more_workers_than_the_rules_say() {
        let mut test = Test::with(2, None);
        let _calls = [test.call(1).await, test.call(2).await, test.call(3).await];
        assert_eq!(test.begun().await, [1]);
        assert_eq!(test.begun().await, [2]);
        assert_eq!(test.queue.0.batch.at_work.load(Ordering::Relaxed), 2);
        assert!(test.begun.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_caller_that_has_gone_takes_its_own_work_back() {
        let mut test = Test::with(1, None);
        let begun = test.call(1).await;
        test.begun().await;
        let (gone, stays) = (test.call(2).await, test.call(3).await);
        for call in [begun, gone] {
            call.abort();
            assert!(call.await.unwrap_err().is_cancelled());
        }
        test.let_end(2);
        assert_eq!(test.begun().await, [3]);
        assert_eq!(stays.await.unwrap().unwrap(), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_is_not_begun_with_in_time_never_is() {
        let mut test = Test::with(1, None);
        let begun = test.call(1).await;
        test.begun().await;
        let waits = test.call(2).await;
        let start = Instant::now();
        assert_eq!(waits.await.unwrap().unwrap_err().message(), "busy");
        assert_eq!(start.elapsed(), PATIENCE);
        // What was begun with has the whole time of a call.
        assert_eq!(begun.await.unwrap().unwrap_err().code(), tonic::Code::DeadlineExceeded);
        assert_eq!(start.elapsed(), LIMIT);
        test.let_end(1);
        assert!(test.begun.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_behind_what_is_slow() {
        let mut test = Test::with(1, Some(Duration::from_millis(5)));
        let slow = test.call(1).await;
        test.begun().await;
        let start = Instant::now();
        let next = test.call(2).await;
        assert_eq!(test.begun().await, [2]);
        assert_eq!(start.elapsed(), Duration::from_millis(5));
        test.let_end(2);
        assert_eq!(slow.await.unwrap().unwrap(), 2);
        assert_eq!(next.await.unwrap().unwrap(), 4);
        assert!(test.queue.state().workers.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_behind_what_was_slow_before_and_is_again() {
        const SLOW: Duration = Duration::from_millis(5);
        let rules = Rules { workers: 1, slow: Some(SLOW), at_most: 2, ..RULES };
        let mut test = Test::by(rules);
        let mut calls = vec![test.call(1).await];
        assert_eq!(test.begun().await, [1]);
        calls.push(test.call(2).await);
        assert_eq!(test.begun().await, [2]);
        tokio::time::sleep(4 * SLOW).await;
        calls.push(test.call(3).await);
        // The first goes on with what waits; the other leaves.
        test.let_end(1);
        assert_eq!(test.begun().await, [3]);
        test.let_end(1);
        while test.queue.state().living.len() > 1 {
            tokio::task::yield_now().await;
        }
        let start = Instant::now();
        calls.push(test.call(4).await);
        let next = timeout(PATIENCE, test.begun()).await.expect("another worker has come");
        assert_eq!(next, [4]);
        assert!(start.elapsed() <= 2 * SLOW);
        test.let_end(2);
        for call in calls {
            assert!(call.await.unwrap().is_ok());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn those_that_are_slow_do_not_become_more_and_more() {
        let mut test = Test::by(Rules { slow: Some(Duration::from_millis(5)), ..RULES });
        let slow = [test.call(1).await, test.call(2).await, test.call(3).await];
        for work in 1..=3 {
            assert_eq!(test.begun().await, [work]);
        }
        let next = [test.call(4).await, test.call(5).await];
        tokio::time::sleep(PATIENCE / 2).await;
        assert!(test.begun.try_recv().is_err());
        // The first of them that ends makes room.
        test.let_end(4);
        assert_eq!(test.begun().await, [4, 5]);
        for call in slow.into_iter().chain(next) {
            assert!(call.await.unwrap().is_ok());
        }
        assert!(test.queue.state().living.is_empty());
    }

    #[tokio::test]
    async fn a_fault_ends_no_others_work() {
        let mut test = Test::with(1, None);
        let fault = test.call(-1).await;
        test.begun().await;
        let next = test.call(2).await;
        test.let_end(2);
        assert_eq!(fault.await.unwrap().unwrap_err().code(), tonic::Code::Internal);
        assert_eq!(next.await.unwrap().unwrap(), 4);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_keeps_what_it_works_with_for_a_moment() {
        let rules = Rules { lingers: Some(LINGER), ..RULES };
        let mut test = Test::by(rules);
        test.let_end(9);
        for turn in 1..=3 {
            assert!(test.call(1).await.await.unwrap().is_ok());
            assert_eq!(test.begun.recv().await.unwrap(), (vec![1], turn));
            tokio::time::sleep(LINGER / 2).await;
        }
        tokio::time::sleep(LINGER).await;
        assert!(test.queue.state().idle.is_none());
        assert!(test.call(1).await.await.unwrap().is_ok());
        assert_eq!(test.begun.recv().await.unwrap(), (vec![1], 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_was_slow_goes_on_where_nobody_has_its_place() {
        let slow = PATIENCE / 4;
        let rules = Rules { workers: 1, slow: Some(slow), lingers: Some(LINGER), ..RULES };
        let mut test = Test::by(rules);
        let first = test.call(1).await;
        assert_eq!(test.begun.recv().await.unwrap(), (vec![1], 1));
        tokio::time::sleep(2 * slow).await;
        assert!(test.queue.state().workers.is_empty(), "it does not count meanwhile");
        test.let_end(2);
        assert!(first.await.unwrap().is_ok());
        assert!(test.call(2).await.await.unwrap().is_ok());
        assert_eq!(test.begun.recv().await.unwrap(), (vec![2], 2));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_lingers_in_a_queue_that_is_closed() {
        let rules = Rules { lingers: Some(LINGER), ..RULES };
        let test = Test::by(rules);
        test.let_end(9);
        assert!(test.call(1).await.await.unwrap().is_ok());
        assert!(test.queue.state().idle.is_some());
        let start = Instant::now();
        test.queue.close();
        while test.queue.state().idle.is_some() {
            tokio::task::yield_now().await;
        }
        assert!(test.call(1).await.await.unwrap().is_ok());
        assert!(test.queue.state().idle.is_none());
        assert_eq!(start.elapsed(), Duration::ZERO);
    }

    /// Keeps its thread, and answers how many batches its worker has done.
    struct Counting;

    /// What ends a worker.
    struct Fault;

    impl Batch for Counting {
        type Work = Result<(), Fault>;
        type Answer = usize;
        type Kept = usize;

        const BLOCKS: bool = true;

        async fn run(
            &self,
            kept: &mut usize,
            works: Vec<Self::Work>,
        ) -> Vec<Result<usize, Status>> {
            *kept += 1;
            assert!(works.iter().all(Result::is_ok), "a fault");
            works.into_iter().map(|_| Ok(*kept)).collect()
        }

        fn busy(&self) -> Status {
            Status::unavailable("busy")
        }
    }

    #[tokio::test]
    async fn a_thread_that_waits_is_there_for_the_next_work_and_leaves_at_the_end() {
        let rules = Rules { lingers: Some(10 * LINGER), ..RULES };
        let queue = Queue::new(Counting, rules);
        let becomes = async |is_due: fn(&State<Counting>) -> bool| {
            let due = async {
                while !is_due(&queue.state()) {
                    tokio::task::yield_now().await;
                }
            };
            timeout(LIMIT, due).await.expect("the worker has come so far");
        };
        for batches in 1..=3 {
            assert_eq!(queue.call(Ok(())).await.unwrap(), batches);
            becomes(|state| state.idle.is_some()).await;
        }
        queue.close();
        becomes(|state| state.living.is_empty()).await;
    }

    /// Whether a call has its answer before its thread has done anything else.
    async fn is_answered_at_once(queue: &Queue<Counting>) -> bool {
        let mut call = pin!(queue.call(Ok(())));
        poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx).is_ready())).await
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn while_calls_come_one_at_a_time_a_short_answer_is_waited_for_awake() {
        let awake = Some(Awake { moment: LIMIT, calls: Arc::default() });
        let rules = Rules { lingers: Some(10 * LINGER), awake, ..RULES };
        let queue = Queue::new(Counting, rules);
        for _ in 0..ALONE {
            assert!(queue.call(Ok(())).await.is_ok());
        }
        for _ in 0..3 {
            assert!(is_answered_at_once(&queue).await);
        }
        let fault = queue.call(Err(Fault)).await.unwrap_err();
        assert_eq!(fault.code(), tonic::Code::Internal);
        queue.close();
    }
}
