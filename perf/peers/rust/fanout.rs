// SPDX-License-Identifier: MIT

//! fanout-tokio: one publisher, many receivers, with tokio::sync::broadcast: a task for each connection takes what is published until there
//! is nothing more, into one buffer, and writes that. A message is an Arc: what is cloned for each receiver is a reference.
//!
//! A broadcast channel drops for those that lag, and has nothing to wait for. So each message holds a permit of a semaphore, which comes
//! back when the last receiver has taken it, and the publisher waits for one: delivery is complete, and the slowest sets the pace. One that
//! never reads would stop it: --slow wants 0.
//!
//! The receivers are `weir-perf members`, on the second core. The runtime has the first (current_thread), as weir's side with its shard.
//! Same options and same figures as `weir-perf fanout`; as much may be under way as elsewhere (CROWD_BATCHES), each message
//! until the last receiver's task has taken it.

use peer::{die, make_frame, now_ns, number_frame, pin, raise_descriptors, Options, HEAD};
use std::io::{BufRead, BufReader, Lines, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast::{self, error::RecvError, error::TryRecvError};
use tokio::sync::{oneshot, OwnedSemaphorePermit, Semaphore};
use tokio::task::{yield_now, JoinHandle};

const HELLO: usize = HEAD + 1;
const BATCHES: usize = 4; // that may be under way to a receiver
const BUFFER: usize = 65536; // a receiver's task takes no more messages once it has so many bytes

struct Plan {
    members: usize,
    bytes: usize,
    batch: usize,
    rate: u64,
}

impl Plan {
    fn parse(options: &Options) -> Plan {
        let plan = Plan {
            members: options.number("members", 100, 1, 100_000) as usize,
            bytes: options.number("bytes", 64, 20, 65536) as usize,
            batch: options.number("batch", 64, 1, 1024) as usize,
            rate: options.number("rate", 0, 1, 10_000_000),
        };
        options.number("slow", 0, 0, 0);
        // With many members batches are smaller than --batch says: see perf/crowd.h.
        let most = ((1 << 16) / plan.members).min((16 << 20) / (plan.members * plan.bytes));
        Plan { batch: plan.batch.min(most).max(1), ..plan }
    }
}

struct Message {
    frame: Box<[u8]>,
    _room: OwnedSemaphorePermit,
}

type Sender = broadcast::Sender<Arc<Message>>;
type Receiver = broadcast::Receiver<Arc<Message>>;

// --- receivers ---

async fn deliver(mut stream: TcpStream, mut messages: Receiver) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    stream.read_exact(&mut [0; HELLO]).await?;
    loop {
        match messages.recv().await {
            Ok(message) => buffer.extend_from_slice(&message.frame),
            Err(RecvError::Closed) => return stream.shutdown().await,
            Err(lagged) => die("broadcast", lagged),
        }
        while buffer.len() < BUFFER {
            match messages.try_recv() {
                Ok(message) => buffer.extend_from_slice(&message.frame),
                Err(TryRecvError::Lagged(count)) => die("broadcast", RecvError::Lagged(count)),
                Err(_) => break,
            }
        }
        stream.write_all(&buffer).await?;
        buffer.clear();
    }
}

async fn welcome(listener: TcpListener, count: usize, messages: &Sender) -> Vec<JoinHandle<std::io::Result<()>>> {
    let mut deliveries = Vec::new();
    for _ in 0..count {
        let (stream, _) = listener.accept().await.unwrap_or_else(|error| die("accept", error));
        stream.set_nodelay(true).unwrap_or_else(|error| die("set_nodelay", error));
        deliveries.push(tokio::spawn(deliver(stream, messages.subscribe())));
    }
    deliveries
}

// --- the publisher ---

struct Publisher {
    plan: Plan,
    messages: Sender,
    room: Arc<Semaphore>,
    frame: Vec<u8>, // of the next message
    published: u64,
}

impl Publisher {
    fn new(plan: Plan) -> Publisher {
        let most = BATCHES * plan.batch;
        let frame = make_frame(0, plan.bytes);
        Publisher { plan, messages: broadcast::channel(most).0, room: Arc::new(Semaphore::new(most)), frame, published: 0 }
    }

    /// Waits for room.
    async fn publish(&mut self, stamp_ns: u64) {
        let room = match self.room.clone().try_acquire_owned() {
            Ok(room) => room,
            Err(_) => self.room.clone().acquire_owned().await.unwrap_or_else(|error| die("room", error)),
        };
        number_frame(&mut self.frame, self.published, stamp_ns);
        let message = Message { frame: self.frame.as_slice().into(), _room: room };
        self.messages.send(Arc::new(message)).unwrap_or_else(|_| die("publish", "nobody receives"));
        self.published += 1;
    }

    async fn pour(&mut self, stopping: &AtomicBool) {
        while !stopping.load(Relaxed) {
            for _ in 0..self.plan.batch {
                self.publish(0).await;
            }
        }
    }

    /// Each message at its time; Tokio's timer ticks in milliseconds, which is too coarse.
    async fn pace(&mut self, stopping: &AtomicBool) {
        let begun_ns = now_ns();
        while !stopping.load(Relaxed) {
            let due_ns = begun_ns + (self.published as f64 * 1e9 / self.plan.rate as f64) as u64;
            if due_ns <= now_ns() {
                self.publish(due_ns).await;
            } else {
                yield_now().await;
            }
        }
    }
}

// --- the members ---

/// They go when this process does, however it ends: setpriv sees to that.
fn start_members(address: SocketAddr) -> Child {
    let own = std::env::current_exe().unwrap_or_else(|error| die("own path", error));
    let program = own.ancestors().nth(2).unwrap_or(&own).join("weir-perf"); // this one is in peers/ beside it
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--"]).arg(program);
    command.args(["members", "--way", "tokio", "--connect", &format!("tcp://{address}")]);
    command.args(["--server-pid", &std::process::id().to_string()]).args(std::env::args().skip(1));
    let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    child.unwrap_or_else(|error| die("setpriv", error))
}

fn expect(lines: &mut Lines<BufReader<ChildStdout>>, word: &str) {
    match lines.next() {
        Some(Ok(line)) if line == word => (),
        _ => die("the members", format!("they ended before they were {word}")),
    }
}

/// Says when the members are ready and when they have measured; then prints their figures.
fn follow(output: ChildStdout, ready: oneshot::Sender<()>, stopping: &AtomicBool) {
    let mut lines = BufReader::new(output).lines();
    expect(&mut lines, "ready");
    ready.send(()).ok();
    expect(&mut lines, "measured");
    stopping.store(true, Relaxed);
    for line in lines.flatten() {
        println!("{line}");
    }
}

/// The exit code.
async fn go(plan: Plan) -> i32 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap_or_else(|error| die("listen", error));
    let address = listener.local_addr().unwrap_or_else(|error| die("listen", error));
    let mut members = start_members(address); // they take the second core that they may use, so they must be able to use it
    pin(0);
    let (input, output) = (members.stdin.take(), members.stdout.take());
    let stopping = Arc::new(AtomicBool::new(false));
    let stop = stopping.clone();
    let (ready, until_ready) = oneshot::channel();
    let follower = std::thread::spawn(move || follow(output.unwrap(), ready, &stop));
    let mut publisher = Publisher::new(plan);
    let deliveries = welcome(listener, publisher.plan.members, &publisher.messages).await;
    until_ready.await.unwrap_or_else(|error| die("the members", error));
    if publisher.plan.rate > 0 {
        publisher.pace(&stopping).await;
    } else {
        publisher.pour(&stopping).await;
    }
    writeln!(input.unwrap(), "{}", publisher.published).unwrap_or_else(|error| die("the members", error));
    drop(publisher); // and the channel ends
    for delivery in deliveries {
        let delivered = delivery.await.unwrap_or_else(|error| die("delivery", error));
        delivered.unwrap_or_else(|error| die("delivery", error));
    }
    follower.join().unwrap_or_else(|_| die("the members", "nobody followed them"));
    members.wait().ok().and_then(|status| status.code()).unwrap_or(1)
}

fn main() {
    let known = ["members", "bytes", "batch", "rate", "seconds", "warmup", "slow"];
    let options = Options::parse("fanout-tokio", &known, &["check", "json"]);
    let plan = Plan::parse(&options);
    raise_descriptors();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    std::process::exit(runtime.unwrap_or_else(|error| die("runtime", error)).block_on(go(plan)));
}
