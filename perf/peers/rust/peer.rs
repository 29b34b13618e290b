// SPDX-License-Identifier: MIT

//! What the peers in Rust share: options, clocks, cores, frames, a histogram.

use std::collections::HashMap;
use std::fmt::Display;

// --- options ---

/// `--name value`, or `--name` alone. What is wrong ends the program with a sentence and exit code 2.
pub struct Options {
    program: &'static str,
    values: HashMap<String, String>,
}

impl Options {
    /// `known`: names that have a value; `words`: those that stand alone.
    pub fn parse(program: &'static str, known: &[&str], words: &[&str]) -> Options {
        let mut options = Options { program, values: HashMap::new() };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            let (name, inline) = match argument.split_once('=') {
                Some((name, value)) => (name.to_string(), Some(value.to_string())),
                None => (argument.clone(), None),
            };
            let name = name.strip_prefix("--").unwrap_or("").to_string();
            if words.contains(&name.as_str()) && inline.is_none() {
                options.values.insert(name, String::new());
            } else if known.contains(&name.as_str()) {
                let value = inline.or_else(|| arguments.next());
                let value = value.unwrap_or_else(|| options.refuse(format!("--{name} wants a value")));
                options.values.insert(name, value);
            } else {
                options.refuse(format!("'{argument}' is not an option"));
            }
        }
        options
    }

    pub fn refuse(&self, sentence: impl Display) -> ! {
        eprintln!("{}: {}", self.program, sentence);
        std::process::exit(2);
    }

    pub fn has(&self, name: &str) -> bool {
        self.values.contains_key(name)
    }

    pub fn text(&self, name: &str, default: &str) -> String {
        self.values.get(name).cloned().unwrap_or_else(|| default.to_string())
    }

    pub fn number(&self, name: &str, default: u64, least: u64, most: u64) -> u64 {
        let text = match self.values.get(name) {
            Some(text) => text,
            None => return default,
        };
        match text.parse() {
            Ok(number) if (least..=most).contains(&number) => number,
            _ => self.refuse(format!("--{name} wants {least} to {most}, not '{text}'")),
        }
    }

    pub fn seconds_ns(&self, name: &str, default: f64, least: f64) -> u64 {
        let seconds = match self.values.get(name).map(|text| text.parse::<f64>()) {
            None => default,
            Some(Ok(seconds)) if (least..=3600.0).contains(&seconds) => seconds,
            _ => self.refuse(format!("--{name} wants {least} to 3600 seconds")),
        };
        (seconds * 1e9) as u64
    }

    pub fn one_of(&self, name: &str, ways: &[&'static str]) -> &'static str {
        let text = self.text(name, ways[0]);
        let found = ways.iter().copied().find(|way| *way == text);
        found.unwrap_or_else(|| self.refuse(format!("--{name} wants one of {}, not '{text}'", ways.join(", "))))
    }

    /// host:port of tcp://host:port.
    pub fn address(&self, name: &str, default: &str) -> String {
        let text = self.text(name, default);
        match text.strip_prefix("tcp://") {
            Some(address) if address.contains(':') => address.to_string(),
            _ => self.refuse(format!("--{name} wants tcp://host:port, not '{text}'")),
        }
    }
}

/// What cannot go on ends the program.
pub fn die(what: &str, error: impl Display) -> ! {
    eprintln!("{}: {what}: {error}", std::env::args().next().unwrap_or_default());
    std::process::exit(1);
}

// --- clocks and cores ---

fn clock(id: libc::clockid_t) -> u64 {
    let mut at = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    unsafe { libc::clock_gettime(id, &mut at) };
    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
}

pub fn now_ns() -> u64 {
    clock(libc::CLOCK_MONOTONIC)
}

pub fn cpu_ns() -> u64 {
    clock(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Binds the calling thread, and those that it starts, to the index-th core that it may use.
pub fn pin(index: usize) {
    unsafe {
        let mut cores: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, std::mem::size_of_val(&cores), &mut cores);
        let core = (0..libc::CPU_SETSIZE as usize).filter(|core| libc::CPU_ISSET(*core, &cores)).nth(index);
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core.unwrap_or_else(|| die("cores", "there are too few")), &mut one);
        if libc::sched_setaffinity(0, std::mem::size_of_val(&one), &one) != 0 {
            die("sched_setaffinity", std::io::Error::last_os_error());
        }
    }
}

/// As many descriptors as the hard limit allows.
pub fn raise_descriptors() {
    unsafe {
        let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
        }
    }
}

// --- frames, as perf/message.h has them ---

pub const HEAD: usize = 4;
const SEQUENCE_AT: usize = 8;
const STAMP_AT: usize = 16;
const FILLER_AT: usize = 24;

/// Everything but sequence and stamp, which are 0. `bytes` is the payload's.
pub fn make_frame(producer: u32, bytes: usize) -> Vec<u8> {
    let mut frame = vec![0; HEAD + bytes];
    frame[..HEAD].copy_from_slice(&(bytes as u32).to_le_bytes());
    frame[HEAD..SEQUENCE_AT].copy_from_slice(&producer.to_le_bytes());
    for at in FILLER_AT..frame.len() {
        frame[at] = b'a' + (at % 26) as u8;
    }
    frame
}

pub fn number_frame(frame: &mut [u8], sequence: u64, stamp_ns: u64) {
    frame[SEQUENCE_AT..STAMP_AT].copy_from_slice(&sequence.to_le_bytes());
    frame[STAMP_AT..FILLER_AT].copy_from_slice(&stamp_ns.to_le_bytes());
}

// --- durations ---

const SLOTS: u64 = 128; // in each power of two, as perf/histogram.h has them

pub struct Histogram {
    slots: Vec<u64>,
    pub count: u64,
    pub most_ns: u64,
    sum_ns: f64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram { slots: vec![0; (SLOTS * 58) as usize], count: 0, most_ns: 0, sum_ns: 0.0 }
    }
}

impl Histogram {
    pub fn record(&mut self, value_ns: u64) {
        let octave = 63u64.saturating_sub((value_ns | 1).leading_zeros() as u64).saturating_sub(7);
        self.slots[(octave * SLOTS + (value_ns >> octave)) as usize] += 1;
        self.count += 1;
        self.most_ns = self.most_ns.max(value_ns);
        self.sum_ns += value_ns as f64;
    }

    pub fn merge(&mut self, from: &Histogram) {
        for (slot, count) in self.slots.iter_mut().zip(&from.slots) {
            *slot += count;
        }
        self.count += from.count;
        self.most_ns = self.most_ns.max(from.most_ns);
        self.sum_ns += from.sum_ns;
    }

    pub fn mean_ns(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum_ns / self.count as f64
        }
    }

    /// 0 when empty.
    pub fn percentile_ns(&self, percent: f64) -> u64 {
        // The hair taken off keeps 99.9 % of 1000 from becoming 1000 by rounding.
        let wanted = ((percent / 100.0 * self.count as f64 - 1e-6).ceil() as u64).max(1);
        let mut seen = 0;
        for (slot, count) in self.slots.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                let slot = slot as u64;
                let octave = (slot / SLOTS).saturating_sub(1);
                return (((slot - octave * SLOTS + 1) << octave) - 1).min(self.most_ns);
            }
        }
        self.most_ns
    }

    /// For JSON: microseconds, or null.
    pub fn percentile_us(&self, percent: f64) -> String {
        if self.count == 0 {
            "null".into()
        } else {
            format!("{:.3}", self.percentile_ns(percent) as f64 / 1e3)
        }
    }
}

/// For JSON: a / b, or null.
pub fn ratio(a: u64, b: u64) -> String {
    if b == 0 {
        "null".into()
    } else {
        format!("{:.3}", a as f64 / b as f64)
    }
}
