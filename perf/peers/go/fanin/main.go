// SPDX-License-Identifier: MIT

// fanin-go: the fan-in in Go: P goroutines send their messages into one channel; one goroutine takes them out, writes them through a
// bufio.Writer, and flushes when the channel is empty.
//
// Messages go through the channel by value: a slice each would have to be allocated, or come from a pool, and both are slower (measured).
// Several that are sent together (-batch) are one slice from a pool. A channel of 4096 in place of 1024 carries a tenth more at three
// times the latency.
//
// Same options and same figures as `weir-perf fanin` and the peers in C, as far as they make sense here.
package main

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"net"
	"os"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	messageBytes = 64
	frameBytes   = 4 + messageBytes
	producerAt   = 4
	sequenceAt   = 8
	stampAt      = 16
	fillerAt     = 24
	timedEvery   = 64
	tail         = 30 * time.Millisecond // the sink's interval ends that much later at most
)

var (
	connect   = flag.String("connect", "", "the sink: tcp://host:port")
	count     = flag.Int("producers", 16, "goroutines that send")
	payload   = flag.Int("bytes", messageBytes, "payload of a message: 64, no other")
	batch     = flag.Int("batch", 1, "messages that a producer sends together")
	rate      = flag.Float64("rate", 0, "so many messages a second, of all together; 0: as fast as it goes")
	latency   = flag.Bool("latency", false, "without -rate: time one send in 64")
	seconds   = flag.Float64("seconds", 1, "measured time")
	warmup    = flag.Float64("warmup", 0.3, "time before it, under the same load")
	capacity  = flag.Int("capacity", 1024, "of the channel, in sends")
	buffer    = flag.Int("buffer", 65536, "of the writer, in bytes")
	_         = flag.Bool("json", true, "accepted for the likeness with the others: it always prints JSON")
	stopping  atomic.Bool
	measuring atomic.Bool
	started   = make(chan struct{})
	began     int64 // when the clock was started; set before `started` is closed
)

func die(what ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"fanin-go:"}, what...)...)
	os.Exit(1)
}

// --- time ---

// The kernel's clocks: 1 is CLOCK_MONOTONIC, 2 is CLOCK_PROCESS_CPUTIME_ID.
func clock(id uintptr) int64 {
	var at syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&at)), 0)
	return at.Nano()
}

// Go's monotonic clock is the kernel's with another zero, and is read without a system call.
var zero, base = clock(1), time.Now()

func now() int64 {
	return zero + int64(time.Since(base))
}

// --- producers ---

type frame [frameBytes]byte

func (f *frame) make(producer int) {
	binary.LittleEndian.PutUint32(f[:], messageBytes)
	binary.LittleEndian.PutUint32(f[producerAt:], uint32(producer))
	for at := fillerAt; at < frameBytes; at++ {
		f[at] = byte('a' + at%26)
	}
}

type producer struct {
	number    int
	interval  int64
	due       int64
	countdown int
	calls     []int64 // how long timed sends took, ns
	_         [64]byte
	sent      atomic.Int64
	_         [64]byte
}

// When the batch that is sent next was begun; 0: it is not timed.
func (p *producer) pace() int64 {
	if p.interval > 0 {
		// Go's own timer, which several goroutines share: half the CPU and a tenth of the latency of a thread each that sleeps in
		// the kernel (measured).
		if left := p.due - now(); left > 0 {
			time.Sleep(time.Duration(left))
		}
		p.due += p.interval
		return now()
	}
	if !*latency {
		return 0
	}
	if p.countdown--; p.countdown >= 0 {
		return 0
	}
	p.countdown = timedEvery - 1
	return now()
}

func (p *producer) done(sequence, stamp int64) {
	p.sent.Store(sequence)
	if stamp != 0 && measuring.Load() {
		p.calls = append(p.calls, now()-stamp)
	}
}

func (p *producer) run(messages chan<- frame, done *sync.WaitGroup) {
	defer done.Done()
	var f frame
	f.make(p.number)
	<-started
	p.due = began + p.interval*int64(p.number)/int64(*count)
	timed := *latency || *rate > 0
	for sequence := int64(0); !stopping.Load(); {
		binary.LittleEndian.PutUint64(f[sequenceAt:], uint64(sequence))
		stamp := int64(0)
		if timed {
			stamp = p.pace()
			binary.LittleEndian.PutUint64(f[stampAt:], uint64(stamp))
		}
		messages <- f
		sequence++
		p.done(sequence, stamp)
	}
}

var pool = sync.Pool{New: func() any {
	frames := make([]frame, *batch)
	return &frames
}}

func (p *producer) runBatches(batches chan<- *[]frame, done *sync.WaitGroup) {
	defer done.Done()
	<-started
	p.due = began + p.interval*int64(p.number)/int64(*count)
	for sequence := int64(0); !stopping.Load(); {
		frames := pool.Get().(*[]frame)
		stamp := p.pace()
		for i := range *frames {
			f := &(*frames)[i]
			f.make(p.number)
			binary.LittleEndian.PutUint64(f[sequenceAt:], uint64(sequence))
			binary.LittleEndian.PutUint64(f[stampAt:], uint64(stamp))
			sequence++
		}
		batches <- frames
		p.done(sequence, stamp)
	}
}

// --- the writer ---

type counted struct {
	net.Conn
	writes atomic.Int64
}

func (c *counted) Write(bytes []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(bytes)
}

func write(messages <-chan frame, to *bufio.Writer, done chan<- error) {
	for f := range messages {
		to.Write(f[:])
		if len(messages) == 0 {
			to.Flush()
		}
	}
	done <- to.Flush() // an error sticks: this is the first
}

func writeBatches(batches <-chan *[]frame, to *bufio.Writer, done chan<- error) {
	for frames := range batches {
		for i := range *frames {
			to.Write((*frames)[i][:])
		}
		pool.Put(frames)
		if len(batches) == 0 {
			to.Flush()
		}
	}
	done <- to.Flush()
}

// --- the run ---

type figures struct {
	Tool       string   `json:"tool"`
	Side       string   `json:"side"`
	Producers  int      `json:"producers"`
	Bytes      int      `json:"bytes"`
	Batch      int      `json:"batch"`
	Rate       float64  `json:"rate"`
	Seconds    float64  `json:"seconds"`
	Messages   int64    `json:"messages"`
	PerSecond  float64  `json:"messages_per_second"`
	Total      int64    `json:"messages_total"`
	CPU        float64  `json:"cpu_ns_per_message"`
	MeanBatch  float64  `json:"mean_batch"`
	SendMedian *float64 `json:"send_p50_us"`
	SendMost99 *float64 `json:"send_p99_us"`
	SendMost   *float64 `json:"send_max_us"`
}

type moment struct{ at, cpu, messages, writes int64 }

func take(producers []*producer, conn *counted) moment {
	m := moment{at: now(), cpu: clock(2), writes: conn.writes.Load()}
	for _, p := range producers {
		m.messages += p.sent.Load()
	}
	return m
}

func percentile(sorted []int64, percent float64) *float64 {
	if len(sorted) == 0 {
		return nil
	}
	us := float64(sorted[int(percent/100*float64(len(sorted)-1))]) / 1e3
	return &us
}

func report(producers []*producer, from, until moment) {
	var calls []int64
	total := int64(0)
	for _, p := range producers {
		calls = append(calls, p.calls...)
		total += p.sent.Load()
	}
	sort.Slice(calls, func(i, j int) bool { return calls[i] < calls[j] })
	messages := until.messages - from.messages
	f := figures{
		Tool: "fanin", Side: "fanin-go", Producers: *count, Bytes: messageBytes, Batch: *batch, Rate: *rate,
		Seconds: float64(until.at-from.at) / 1e9, Messages: messages, Total: total,
		PerSecond:  float64(messages) * 1e9 / float64(until.at-from.at),
		CPU:        float64(until.cpu-from.cpu) / float64(messages),
		MeanBatch:  float64(messages) / float64(until.writes-from.writes),
		SendMedian: percentile(calls, 50), SendMost99: percentile(calls, 99), SendMost: percentile(calls, 100),
	}
	line, err := json.Marshal(f)
	if err != nil {
		die(err)
	}
	fmt.Println(string(line))
}

func parse() {
	flag.Parse()
	if !strings.HasPrefix(*connect, "tcp://") {
		die("-connect wants the sink's address, tcp://host:port (weir-perf sink prints it)")
	}
	if *payload != messageBytes || *count < 1 || *batch < 1 || *rate < 0 {
		die("-bytes wants 64, -producers and -batch 1 or more, -rate 0 or more")
	}
}

func main() {
	parse()
	dialed, err := net.Dial("tcp", strings.TrimPrefix(*connect, "tcp://"))
	if err != nil {
		die(err)
	}
	conn := &counted{Conn: dialed}
	writer := bufio.NewWriterSize(conn, *buffer)
	messages, batches := make(chan frame, *capacity), make(chan *[]frame, *capacity)
	written := make(chan error, 1)
	if *batch == 1 {
		go write(messages, writer, written)
	} else {
		go writeBatches(batches, writer, written)
	}
	var ended sync.WaitGroup
	producers := make([]*producer, *count)
	for i := range producers {
		p := &producer{number: i}
		if *rate > 0 {
			p.interval = int64(1e9 * float64(*batch**count) / *rate)
		}
		producers[i] = p
		ended.Add(1)
		if *batch == 1 {
			go p.run(messages, &ended)
		} else {
			go p.runBatches(batches, &ended)
		}
	}
	began = now()
	close(started)
	time.Sleep(time.Duration(*warmup * 1e9))
	from := take(producers, conn)
	measuring.Store(true)
	time.Sleep(time.Duration(*seconds * 1e9))
	measuring.Store(false)
	until := take(producers, conn)
	time.Sleep(tail)
	stopping.Store(true)
	ended.Wait()
	close(messages)
	close(batches)
	if err := <-written; err != nil {
		die(err)
	}
	dialed.Close()
	report(producers, from, until)
}
