// SPDX-License-Identifier: MIT

//! fanin-tokio: the fan-in with Tokio: P tasks on a multi-thread runtime (a worker for each core) send their messages on connections that
//! they share, in one of two ways:
//!
//!     channel  (the default) each connection has a bounded mpsc channel and a task that takes out messages until it is empty, into one
//!              buffer, and writes that with one write; a full channel makes the sender wait, or, with --refuse, is a refusal (try_send)
//!     mutex    each connection is an Arc<tokio::sync::Mutex<TcpStream>>: lock, write_all
//!
//! A small message goes through the channel by value, a larger one, and several that are sent together, as a Vec.
//!
//! Tokio's timer counts milliseconds: with --rate a producer wakes up that often at most, and sends what has become due. Tried: to yield
//! until the time has come (both cores are busy at any rate), and threads that sleep by the clock and send with block_on (a full channel or
//! a held lock then costs a switch of threads each time: at 100,000/s the lock carries a third).
//!
//! Channels have room for 1,024 messages; 256 and 512 carry the same.
//!
//! Same options and same figures as `weir-perf fanin`, as far as they make sense here.

use peer::{cpu_ns, die, make_frame, now_ns, number_frame, ratio, Histogram, Options, HEAD};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, Mutex};
use tokio::task::{yield_now, JoinHandle};
use tokio::time::sleep;

const SMALL: usize = 64;
const TIMED_EVERY: u32 = 64;
const TAIL: Duration = Duration::from_millis(30); // the sink's interval ends that much later at most
const BUFFER: usize = 65536; // a writer takes no more messages once it has so many bytes

struct Plan {
    address: String,
    producers: u64,
    connections: usize,
    bytes: usize,
    batch: usize,
    rate: u64,
    latency: bool,
    refuse: bool,
    way: &'static str,
    capacity: usize,
    warmup: Duration,
    measure: Duration,
}

/// Alone in its cache lines: each has one writer, and is read by another now and then.
#[repr(align(128))]
#[derive(Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        self.0.store(self.0.load(Relaxed) + count, Relaxed);
    }
}

struct Run {
    plan: Plan,
    began_ns: u64,
    stopping: AtomicBool,
    measuring: AtomicBool,
    accepted: Vec<Counter>, // of each producer
    writes: Vec<Counter>,   // of each connection
}

// --- producers ---

struct Producer {
    run: Arc<Run>,
    number: usize,
    frames: Vec<u8>,
    sequence: u64,
    connection: usize,
    interval_ns: u64,
    due_ns: u64,
    countdown: u32,
    calls: Histogram,
    refusals: u64,
}

impl Producer {
    fn new(run: &Arc<Run>, number: usize) -> Producer {
        let plan = &run.plan;
        let all = plan.batch as u64 * plan.producers;
        let interval_ns = if plan.rate == 0 { 0 } else { (1e9 * all as f64 / plan.rate as f64) as u64 };
        Producer {
            run: run.clone(),
            number,
            frames: make_frame(number as u32, plan.bytes).repeat(plan.batch),
            sequence: 0,
            connection: 0,
            interval_ns,
            due_ns: run.began_ns + interval_ns * number as u64 / plan.producers,
            countdown: 0,
            calls: Histogram::default(),
            refusals: 0,
        }
    }

    /// When the batch that is sent next was begun; 0: it is not timed.
    async fn pace(&mut self) -> u64 {
        if self.interval_ns > 0 {
            return self.wait_until_due().await;
        }
        if !self.run.plan.latency {
            return 0;
        }
        if self.countdown > 0 {
            self.countdown -= 1;
            return 0;
        }
        self.countdown = TIMED_EVERY - 1;
        now_ns()
    }

    async fn wait_until_due(&mut self) -> u64 {
        let mut at_ns = now_ns();
        while at_ns < self.due_ns {
            sleep(Duration::from_nanos(self.due_ns - at_ns)).await;
            at_ns = now_ns();
        }
        self.due_ns += self.interval_ns;
        at_ns
    }

    /// The next batch, ready to be sent, its time, and on which connection; None: it is over.
    async fn next(&mut self) -> Option<(u64, usize)> {
        let stamp_ns = self.pace().await;
        if self.run.stopping.load(Relaxed) {
            return None;
        }
        for frame in self.frames.chunks_exact_mut(HEAD + self.run.plan.bytes) {
            number_frame(frame, self.sequence, stamp_ns);
            self.sequence += 1;
        }
        let connection = self.connection;
        self.connection = if connection + 1 == self.run.plan.connections { 0 } else { connection + 1 };
        Some((stamp_ns, connection))
    }

    /// A send call is over.
    fn done(&mut self, stamp_ns: u64, accepted: bool) {
        if stamp_ns != 0 && self.run.measuring.load(Relaxed) {
            self.calls.record(now_ns() - stamp_ns);
        }
        let count = self.run.plan.batch as u64;
        if accepted {
            self.run.accepted[self.number].add(count);
        } else {
            self.refusals += count;
        }
    }
}

/// Writes all, and counts how many system calls that took; as write_all does.
async fn write_all(stream: &mut TcpStream, mut bytes: &[u8], writes: &Counter) {
    while !bytes.is_empty() {
        let count = stream.write(bytes).await.unwrap_or_else(|error| die("write", error));
        bytes = &bytes[count..];
        writes.add(1);
    }
}

/// Ends the connection, and waits until the sink has done so too.
async fn hang_up(mut stream: TcpStream) {
    stream.shutdown().await.unwrap_or_else(|error| die("shutdown", error));
    stream.read(&mut [0]).await.unwrap_or_else(|error| die("the sink's end", error));
}

// --- the way `channel` ---

trait Message: Send + 'static {
    fn new(frames: &[u8]) -> Self;
    fn frames(&self, count: usize) -> &[u8];
}

struct Small([u8; HEAD + SMALL]);

impl Message for Small {
    fn new(frames: &[u8]) -> Small {
        let mut small = Small([0; HEAD + SMALL]);
        small.0[..frames.len()].copy_from_slice(frames);
        small
    }
    fn frames(&self, count: usize) -> &[u8] {
        &self.0[..count]
    }
}

impl Message for Vec<u8> {
    fn new(frames: &[u8]) -> Vec<u8> {
        frames.to_vec()
    }
    fn frames(&self, _: usize) -> &[u8] {
        self
    }
}

async fn write_messages<M: Message>(run: Arc<Run>, number: usize, mut stream: TcpStream, mut messages: mpsc::Receiver<M>) {
    let count = HEAD + run.plan.bytes; // of what is sent by value
    let mut buffer = Vec::with_capacity(2 * BUFFER);
    while let Some(message) = messages.recv().await {
        buffer.extend_from_slice(message.frames(count));
        while buffer.len() < BUFFER {
            match messages.try_recv() {
                Ok(message) => buffer.extend_from_slice(message.frames(count)),
                Err(_) => break,
            }
        }
        write_all(&mut stream, &buffer, &run.writes[number]).await;
        buffer.clear();
    }
    hang_up(stream).await;
}

async fn send_messages<M: Message>(mut producer: Producer, channels: Vec<mpsc::Sender<M>>) -> Producer {
    let refuse = producer.run.plan.refuse;
    while let Some((stamp_ns, connection)) = producer.next().await {
        let message = M::new(&producer.frames);
        if !refuse {
            let sent = channels[connection].send(message).await;
            producer.done(stamp_ns, sent.is_ok());
        } else if channels[connection].try_send(message).is_ok() {
            producer.done(stamp_ns, true);
        } else {
            producer.done(stamp_ns, false);
            yield_now().await; // or the writer would never have its turn
        }
    }
    producer
}

type Tasks = (Vec<JoinHandle<Producer>>, Vec<JoinHandle<()>>);

fn start_channels<M: Message>(run: &Arc<Run>, streams: Vec<TcpStream>) -> Tasks {
    let mut channels = Vec::new();
    let mut writers = Vec::new();
    for (number, stream) in streams.into_iter().enumerate() {
        let (sender, receiver) = mpsc::channel::<M>(run.plan.capacity);
        channels.push(sender);
        writers.push(tokio::spawn(write_messages(run.clone(), number, stream, receiver)));
    }
    let start = |number| tokio::spawn(send_messages(Producer::new(run, number), channels.clone()));
    ((0..run.plan.producers as usize).map(start).collect(), writers)
}

// --- the way `mutex` ---

type Locked = Vec<Arc<Mutex<TcpStream>>>;

async fn send_locked(mut producer: Producer, streams: Locked) -> Producer {
    while let Some((stamp_ns, connection)) = producer.next().await {
        let mut stream = streams[connection].lock().await;
        write_all(&mut stream, &producer.frames, &producer.run.writes[connection]).await;
        drop(stream);
        producer.done(stamp_ns, true);
    }
    producer
}

fn start_locked(run: &Arc<Run>, streams: &Locked) -> Tasks {
    let start = |number| tokio::spawn(send_locked(Producer::new(run, number), streams.clone()));
    ((0..run.plan.producers as usize).map(start).collect(), Vec::new())
}

// --- the run ---

struct Moment {
    at_ns: u64,
    cpu_ns: u64,
    messages: u64,
    writes: u64,
}

fn sum(counters: &[Counter]) -> u64 {
    counters.iter().map(|counter| counter.0.load(Relaxed)).sum()
}

fn take(run: &Run) -> Moment {
    Moment { at_ns: now_ns(), cpu_ns: cpu_ns(), messages: sum(&run.accepted), writes: sum(&run.writes) }
}

fn report(run: &Run, producers: &[Producer], from: &Moment, until: &Moment) {
    let plan = &run.plan;
    let mut calls = Histogram::default();
    producers.iter().for_each(|producer| calls.merge(&producer.calls));
    let elapsed_ns = until.at_ns - from.at_ns;
    let messages = until.messages - from.messages;
    print!("{{\"tool\":\"fanin\",\"side\":\"tokio\",\"way\":\"{}\",\"producers\":{}", plan.way, plan.producers);
    print!(",\"connections\":{},\"bytes\":{},\"batch\":{},\"rate\":{}", plan.connections, plan.bytes, plan.batch, plan.rate);
    print!(",\"seconds\":{:.6},\"messages\":{messages}", elapsed_ns as f64 / 1e9);
    print!(",\"messages_per_second\":{:.1},\"messages_total\":{}", messages as f64 * 1e9 / elapsed_ns as f64, sum(&run.accepted));
    print!(",\"cpu_ns_per_message\":{}", ratio(until.cpu_ns - from.cpu_ns, messages));
    print!(",\"mean_batch\":{}", ratio(messages, until.writes - from.writes));
    print!(",\"send_p50_us\":{},\"send_p99_us\":{}", calls.percentile_us(50.0), calls.percentile_us(99.0));
    print!(",\"send_max_us\":{}", calls.percentile_us(100.0));
    let refusals: u64 = producers.iter().map(|producer| producer.refusals).sum();
    println!(",\"refusals\":{refusals},\"refuses\":{}}}", plan.way == "channel");
}

/// This thread is none of the runtime's workers.
fn measure(run: &Run) -> (Moment, Moment) {
    std::thread::sleep(run.plan.warmup);
    let from = take(run);
    run.measuring.store(true, Relaxed);
    std::thread::sleep(run.plan.measure);
    run.measuring.store(false, Relaxed);
    let until = take(run);
    std::thread::sleep(TAIL);
    run.stopping.store(true, Relaxed);
    (from, until)
}

async fn go(plan: Plan) {
    let mut streams = Vec::new();
    for _ in 0..plan.connections {
        let stream = TcpStream::connect(&plan.address).await.unwrap_or_else(|error| die(&plan.address, error));
        stream.set_nodelay(true).unwrap_or_else(|error| die("set_nodelay", error));
        streams.push(stream);
    }
    let run = Arc::new(Run {
        began_ns: now_ns(),
        stopping: AtomicBool::new(false),
        measuring: AtomicBool::new(false),
        accepted: (0..plan.producers).map(|_| Counter::default()).collect(),
        writes: (0..plan.connections).map(|_| Counter::default()).collect(),
        plan,
    });
    let mut locked = Vec::new();
    let (tasks, mut ends) = if run.plan.way == "mutex" {
        locked = streams.into_iter().map(|stream| Arc::new(Mutex::new(stream))).collect();
        start_locked(&run, &locked)
    } else if run.plan.batch == 1 && run.plan.bytes <= SMALL {
        start_channels::<Small>(&run, streams)
    } else {
        start_channels::<Vec<u8>>(&run, streams)
    };
    let (from, until) = measure(&run);
    let mut producers = Vec::new();
    for task in tasks {
        producers.push(task.await.unwrap_or_else(|error| die("producer", error)));
    }
    let alone = |stream| Arc::try_unwrap(stream).unwrap_or_else(|_| die("connection", "a producer has it still"));
    ends.extend(locked.into_iter().map(|stream| tokio::spawn(hang_up(alone(stream).into_inner()))));
    for end in ends {
        end.await.unwrap_or_else(|error| die("connection", error));
    }
    report(&run, &producers, &from, &until);
}

fn main() {
    let known = ["connect", "producers", "connections", "bytes", "batch", "rate", "seconds", "warmup", "way", "capacity"];
    let options = Options::parse("fanin-tokio", &known, &["latency", "refuse", "json"]);
    let plan = Plan {
        address: options.address("connect", ""),
        producers: options.number("producers", 16, 1, 1024),
        connections: options.number("connections", 1, 1, 100_000) as usize,
        bytes: options.number("bytes", 64, 20, 4096) as usize,
        batch: options.number("batch", 1, 1, 1024) as usize,
        rate: options.number("rate", 0, 0, 100_000_000),
        latency: options.has("latency"),
        refuse: options.has("refuse"),
        way: options.one_of("way", &["channel", "mutex"]),
        capacity: options.number("capacity", 1024, 1, 1 << 20) as usize,
        warmup: Duration::from_nanos(options.seconds_ns("warmup", 0.3, 0.0)),
        measure: Duration::from_nanos(options.seconds_ns("seconds", 1.0, 0.01)),
    };
    peer::raise_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.unwrap_or_else(|error| die("runtime", error)).block_on(go(plan));
}
