// SPDX-License-Identifier: MIT

//! hop-tokio: from a task on one core to one on the other and back, through bounded mpsc channels, 64 bytes a message, and how many go one
//! way in a second. Each task has a current_thread runtime of its own, on a thread of its own that is bound to a core.
//!
//! With --gap-us the sender keeps its core busy until the time has come, as weir's does, and the other side has gone to sleep in recv().
//!
//! Same options and same figures as `weir-perf hop`; how long a runtime looks for work before it sleeps is Tokio's own affair, so --spin-us
//! is accepted for the likeness and changes nothing.

use peer::{die, now_ns, pin, Histogram, Options};
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use tokio::runtime::Builder;
use tokio::sync::mpsc::{channel, Receiver, Sender};

const RALLIES: u64 = 16; // from one look at the clock to the next
const LOOK: u64 = 1024; // messages one way, from one look to the next
const CAPACITY: usize = 1024;

/// As large as in the other peers.
struct Message {
    number: u64, // or a stamp
    _rest: [u64; 7],
}

#[derive(Clone, Copy)]
struct Plan {
    warmup_ns: u64,
    measure_ns: u64,
    gap_ns: u64,
}

#[derive(PartialEq)]
enum Phase {
    Warmup,
    Measure,
    Over,
}

/// Of one measurement; it starts with the first tick.
struct Clock {
    plan: Plan,
    from_ns: u64,
}

impl Clock {
    fn new(plan: Plan) -> Clock {
        Clock { plan, from_ns: 0 }
    }

    fn tick(&mut self, at_ns: u64) -> Phase {
        if self.from_ns == 0 {
            self.from_ns = at_ns + self.plan.warmup_ns;
        }
        if at_ns < self.from_ns {
            Phase::Warmup
        } else if at_ns < self.from_ns + self.plan.measure_ns {
            Phase::Measure
        } else {
            Phase::Over
        }
    }
}

#[derive(Default)]
struct Figures {
    flights: Histogram,
    elapsed_ns: u64,
    hops: u64,
    stream_count: u64,
    stream_ns: u64,
    lost: u64, // messages out of order
}

async fn put(to: &Sender<Message>, number: u64) {
    let sent = to.send(Message { number, _rest: [0; 7] }).await;
    sent.unwrap_or_else(|error| die("send", error));
}

// --- at once: to and fro, then one way ---

async fn rally(plan: Plan, there: &Sender<Message>, back: &mut Receiver<Message>) -> Figures {
    let mut figures = Figures::default();
    let mut clock = Clock::new(plan);
    let (mut number, mut last_ns) = (0, 0);
    loop {
        for _ in 0..RALLIES {
            number += 1;
            put(there, number).await;
            let answer = back.recv().await;
            figures.lost += u64::from(answer.map(|message| message.number) != Some(number));
        }
        let at_ns = now_ns();
        match clock.tick(at_ns) {
            Phase::Over => return figures,
            Phase::Measure if last_ns >= clock.from_ns => {
                figures.flights.record((at_ns - last_ns + RALLIES) / (2 * RALLIES));
                figures.elapsed_ns += at_ns - last_ns;
                figures.hops += 2 * RALLIES;
            }
            _ => (),
        }
        last_ns = at_ns;
    }
}

async fn pour(plan: Plan, there: Sender<Message>) {
    let mut clock = Clock::new(plan);
    let mut number = 0;
    while clock.tick(now_ns()) != Phase::Over {
        for _ in 0..LOOK {
            number += 1;
            put(&there, number).await;
        }
    }
}

/// Sends back what comes on the first channel, until that ends.
async fn answer(mut there: Receiver<Message>, back: Sender<Message>) {
    while let Some(message) = there.recv().await {
        put(&back, message.number).await;
    }
}

async fn drink(plan: Plan, mut stream: Receiver<Message>) -> Figures {
    let mut figures = Figures::default();
    let mut clock = Clock::new(plan);
    let (mut expected, mut from, mut from_ns) = (0, 0, 0);
    while let Some(Message { number, .. }) = stream.recv().await {
        expected += 1;
        figures.lost += u64::from(number != expected);
        if number % LOOK != 0 {
            continue;
        }
        let at_ns = now_ns();
        if clock.tick(at_ns) != Phase::Measure {
            continue;
        }
        if from == 0 {
            (from, from_ns) = (number, at_ns);
        }
        figures.stream_count = number - from;
        figures.stream_ns = at_ns - from_ns;
    }
    figures
}

// --- with a gap ---

async fn send_stamps(plan: Plan, there: Sender<Message>, arrived: Arc<AtomicU64>) {
    let mut clock = Clock::new(plan);
    let mut sent = 0;
    let mut seen_ns = now_ns();
    loop {
        let at_ns = now_ns();
        if at_ns - seen_ns < plan.gap_ns {
            continue;
        }
        if clock.tick(at_ns) == Phase::Over {
            return;
        }
        put(&there, now_ns()).await;
        sent += 1;
        while arrived.load(Ordering::Acquire) != sent {
            std::hint::spin_loop();
        }
        seen_ns = now_ns();
    }
}

async fn take_stamps(plan: Plan, mut there: Receiver<Message>, arrived: Arc<AtomicU64>) -> Figures {
    let mut figures = Figures::default();
    let mut clock = Clock::new(plan);
    while let Some(message) = there.recv().await {
        let at_ns = now_ns();
        if clock.tick(at_ns) == Phase::Measure {
            figures.flights.record(at_ns - message.number);
            figures.elapsed_ns = at_ns - clock.from_ns;
            figures.hops += 1;
        }
        arrived.fetch_add(1, Ordering::Release);
    }
    figures
}

// --- the program ---

/// On a runtime of its own, on the index-th core.
fn alone<F: Future>(index: usize, task: F) -> F::Output {
    pin(index);
    let runtime = Builder::new_current_thread().build();
    runtime.unwrap_or_else(|error| die("runtime", error)).block_on(task)
}

fn at_once(plan: Plan) -> Figures {
    let (there, from_there) = channel(CAPACITY);
    let (back, mut from_back) = channel(CAPACITY);
    let (stream, from_stream) = channel(CAPACITY);
    let other = std::thread::spawn(move || {
        alone(1, async {
            answer(from_there, back).await;
            drink(plan, from_stream).await
        })
    });
    let mut figures = alone(0, async {
        let figures = rally(plan, &there, &mut from_back).await;
        drop(there);
        pour(plan, stream).await;
        figures
    });
    let drunk = other.join().unwrap_or_else(|_| die("the other side", "it died"));
    figures.stream_count = drunk.stream_count;
    figures.stream_ns = drunk.stream_ns;
    figures.lost += drunk.lost;
    figures
}

fn with_gap(plan: Plan) -> Figures {
    let (there, from_there) = channel(CAPACITY);
    let arrived = Arc::new(AtomicU64::new(0));
    let seen = arrived.clone();
    let other = std::thread::spawn(move || alone(1, take_stamps(plan, from_there, arrived)));
    alone(0, send_stamps(plan, there, seen));
    other.join().unwrap_or_else(|_| die("the other side", "it died"))
}

fn report(plan: Plan, figures: &Figures) {
    let flights = &figures.flights;
    print!("{{\"tool\":\"hop\",\"way\":\"tokio\",\"gap_us\":{:.3},\"spin_us\":0.000,\"idle_ports\":0", plan.gap_ns as f64 / 1e3);
    print!(",\"seconds\":{:.6},\"hops\":{},\"mean_ns\":{:.1}", figures.elapsed_ns as f64 / 1e9, figures.hops, flights.mean_ns());
    print!(",\"p50_ns\":{},\"p90_ns\":{}", flights.percentile_ns(50.0), flights.percentile_ns(90.0));
    print!(",\"p99_ns\":{},\"max_ns\":{}", flights.percentile_ns(99.0), flights.most_ns);
    match figures.stream_ns {
        0 => print!(",\"messages_per_second\":null"),
        ns => print!(",\"messages_per_second\":{:.1}", figures.stream_count as f64 * 1e9 / ns as f64),
    }
    println!(",\"wakes\":null,\"sleeps\":null,\"late_finds\":null}}");
}

fn main() {
    let options = Options::parse("hop-tokio", &["spin-us", "gap-us", "seconds", "warmup"], &["json"]);
    options.number("spin-us", 0, 0, 1_000_000);
    let plan = Plan {
        warmup_ns: options.seconds_ns("warmup", 0.2, 0.0),
        measure_ns: options.seconds_ns("seconds", 2.0, 0.01),
        gap_ns: options.number("gap-us", 0, 0, 1_000_000) * 1000,
    };
    let figures = if plan.gap_ns > 0 { with_gap(plan) } else { at_once(plan) };
    report(plan, &figures);
    if figures.lost > 0 {
        die("order", format!("{} messages did not come in order", figures.lost));
    }
    if figures.hops == 0 {
        die("hops", "not one in the measured time");
    }
}
