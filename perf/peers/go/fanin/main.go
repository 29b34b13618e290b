// SPDX-License-Identifier: MIT

// fanin-go: the fan-in in Go: P goroutines send their messages on connections that they share, in one of two ways:
//
//	channel  (the default) each connection has a channel and a goroutine that takes the messages out, writes them through a
//	         bufio.Writer, and flushes when the channel is empty; see channel.go
//	conn     every goroutine calls the connection's Write, which has a lock of its own; see conn.go
//
// Same options and same figures as `weir-perf fanin` and the peers in C, as far as they make sense here.
package main

import (
	"encoding/binary"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	headBytes      = 4
	producerAt     = 4
	sequenceAt     = 8
	stampAt        = 16
	fillerAt       = 24
	leastBytes     = 20
	mostBytes      = 4096
	mostBatch      = 1024
	timedEvery     = 64
	tail           = 30 * time.Millisecond // the sink's interval ends that much later at most
	connectTimeout = 10 * time.Second
)

var (
	connect     = flag.String("connect", "", "the sink: tcp://host:port")
	count       = flag.Int("producers", 16, "goroutines that send")
	connections = flag.Int("connections", 1, "connections to the sink; each batch goes on the next")
	payload     = flag.Int("bytes", 64, "payload of a message")
	batch       = flag.Int("batch", 1, "messages that a producer sends together")
	rate        = flag.Float64("rate", 0, "so many messages a second, of all together; 0: as fast as it goes")
	latency     = flag.Bool("latency", false, "without -rate: time one send in 64")
	refuse      = flag.Bool("refuse", false, "a message that finds no room is dropped and counted; else its sender waits (conn always waits)")
	seconds     = flag.Float64("seconds", 1, "measured time")
	warmup      = flag.Float64("warmup", 0.3, "time before it, under the same load")
	way         = flag.String("way", "channel", "channel or conn")
	capacity    = flag.Int("capacity", 1024, "of a channel, in sends")
	buffer      = flag.Int("buffer", 65536, "of a connection's bufio.Writer, in bytes")
	_           = flag.Bool("json", true, "accepted for the likeness with the others: it always prints JSON")
	frameBytes  int
	stopping    atomic.Bool
	measuring   atomic.Bool
	started     = make(chan struct{})
	began       int64 // when the clock was started; set before `started` is closed
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

type producer struct {
	number    int
	interval  int64
	due       int64
	countdown int
	calls     []int64 // how long timed sends took, ns
	refusals  int64
	_         [64]byte
	accepted  atomic.Int64 // read by others
	_         [64]byte
}

func newProducer(number int) *producer {
	p := &producer{number: number}
	if *rate > 0 {
		p.interval = int64(1e9 * float64(*batch**count) / *rate)
	}
	return p
}

// Everything of a frame but its sequence and stamp.
func (p *producer) makeFrame(frame []byte) {
	binary.LittleEndian.PutUint32(frame, uint32(*payload))
	binary.LittleEndian.PutUint32(frame[producerAt:], uint32(p.number))
	for at := fillerAt; at < len(frame); at++ {
		frame[at] = byte('a' + at%26)
	}
}

func (p *producer) makeFrames() []byte {
	frames := make([]byte, *batch*frameBytes)
	for at := 0; at < len(frames); at += frameBytes {
		p.makeFrame(frames[at : at+frameBytes])
	}
	return frames
}

func number(frames []byte, sequence, stamp int64) {
	for at := 0; at < len(frames); at += frameBytes {
		binary.LittleEndian.PutUint64(frames[at+sequenceAt:], uint64(sequence))
		binary.LittleEndian.PutUint64(frames[at+stampAt:], uint64(stamp))
		sequence++
	}
}

func (p *producer) wait() {
	<-started
	p.due = began + p.interval*int64(p.number)/int64(*count)
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

// A send call is over.
func (p *producer) done(stamp int64, accepted bool) {
	if stamp != 0 && measuring.Load() {
		p.calls = append(p.calls, now()-stamp)
	}
	if !accepted {
		p.refusals += int64(*batch)
		runtime.Gosched() // or a writer would wait for its turn until each producer has been refused for 10 ms
		return
	}
	p.accepted.Store(p.accepted.Load() + int64(*batch))
}

// --- connections ---

type counted struct {
	net.Conn
	writes atomic.Int64
}

func (c *counted) Write(bytes []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(bytes)
}

func dial() []*counted {
	conns := make([]*counted, *connections)
	for i := range conns {
		conn, err := net.DialTimeout("tcp", strings.TrimPrefix(*connect, "tcp://"), connectTimeout)
		if err != nil {
			die(err)
		}
		conns[i] = &counted{Conn: conn} // Go sets TCP_NODELAY by itself
	}
	return conns
}

// Ends each connection and waits until the sink has done so too.
func finish(conns []*counted) {
	for _, c := range conns {
		if err := c.Conn.(*net.TCPConn).CloseWrite(); err != nil {
			die(err)
		}
	}
	for _, c := range conns {
		if _, err := io.Copy(io.Discard, c.Conn); err != nil {
			die(err)
		}
		c.Close()
	}
}

// --- figures ---

type figures struct {
	Tool        string   `json:"tool"`
	Side        string   `json:"side"`
	Way         string   `json:"way"`
	Producers   int      `json:"producers"`
	Connections int      `json:"connections"`
	Bytes       int      `json:"bytes"`
	Batch       int      `json:"batch"`
	Rate        float64  `json:"rate"`
	Seconds     float64  `json:"seconds"`
	Messages    int64    `json:"messages"`
	PerSecond   float64  `json:"messages_per_second"`
	Total       int64    `json:"messages_total"`
	CPU         float64  `json:"cpu_ns_per_message"`
	MeanBatch   *float64 `json:"mean_batch"`
	SendMedian  *float64 `json:"send_p50_us"`
	SendMost99  *float64 `json:"send_p99_us"`
	SendMost    *float64 `json:"send_max_us"`
	Refusals    int64    `json:"refusals"`
	Refuses     bool     `json:"refuses"`
}

type moment struct{ at, cpu, messages, writes int64 }

func take(producers []*producer, conns []*counted) moment {
	m := moment{at: now(), cpu: clock(2)}
	for _, p := range producers {
		m.messages += p.accepted.Load()
	}
	for _, c := range conns {
		m.writes += c.writes.Load()
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

// a / b, if there is one.
func ratio(a, b int64) *float64 {
	if b == 0 {
		return nil
	}
	r := float64(a) / float64(b)
	return &r
}

func report(producers []*producer, from, until moment) {
	var calls []int64
	var total, refusals, cpu = int64(0), int64(0), float64(0)
	for _, p := range producers {
		calls = append(calls, p.calls...)
		total += p.accepted.Load()
		refusals += p.refusals
	}
	sort.Slice(calls, func(i, j int) bool { return calls[i] < calls[j] })
	messages := until.messages - from.messages
	if each := ratio(until.cpu-from.cpu, messages); each != nil {
		cpu = *each
	}
	f := figures{
		Tool: "fanin", Side: "go", Way: *way, Producers: *count, Connections: *connections, Bytes: *payload, Batch: *batch, Rate: *rate,
		Seconds: float64(until.at-from.at) / 1e9, Messages: messages, Total: total,
		PerSecond: float64(messages) * 1e9 / float64(until.at-from.at), CPU: cpu, MeanBatch: ratio(messages, until.writes-from.writes),
		SendMedian: percentile(calls, 50), SendMost99: percentile(calls, 99), SendMost: percentile(calls, 100),
		Refusals: refusals, Refuses: *refuse && *way == "channel",
	}
	line, err := json.Marshal(f)
	if err != nil {
		die(err)
	}
	fmt.Println(string(line))
}

// --- the run ---

func parse() {
	flag.Parse()
	complain := ""
	switch {
	case flag.NArg() > 0:
		complain = "'" + flag.Arg(0) + "' is not an option"
	case !strings.HasPrefix(*connect, "tcp://"):
		complain = "-connect wants the sink's address, tcp://host:port (weir-perf sink prints it)"
	case *payload < leastBytes || *payload > mostBytes:
		complain = fmt.Sprintf("-bytes wants %d to %d", leastBytes, mostBytes)
	case *batch < 1 || *batch > mostBatch:
		complain = fmt.Sprintf("-batch wants 1 to %d", mostBatch)
	case *count < 1 || *connections < 1 || *capacity < 1:
		complain = "-producers, -connections and -capacity want 1 or more"
	case *rate < 0 || *seconds <= 0 || *warmup < 0:
		complain = "-rate and -warmup want 0 or more, -seconds more than 0"
	case *way != "channel" && *way != "conn":
		complain = "-way wants channel or conn"
	}
	if complain != "" {
		fmt.Fprintln(os.Stderr, "fanin-go:", complain)
		os.Exit(2)
	}
	frameBytes = headBytes + *payload
}

// A way to send: `produce` sends a producer's messages until it is over, `drain` sees to it that all of them are written.
type side struct {
	produce func(p *producer)
	drain   func() error
}

func main() {
	parse()
	conns := dial()
	var s side
	switch {
	case *way == "conn":
		s = connSide(conns)
	default:
		s = channelSide(conns)
	}
	var ended sync.WaitGroup
	producers := make([]*producer, *count)
	for i := range producers {
		p := newProducer(i)
		producers[i] = p
		ended.Add(1)
		go func() {
			defer ended.Done()
			s.produce(p)
		}()
	}
	began = now()
	close(started)
	time.Sleep(time.Duration(*warmup * 1e9))
	from := take(producers, conns)
	measuring.Store(true)
	time.Sleep(time.Duration(*seconds * 1e9))
	measuring.Store(false)
	until := take(producers, conns)
	time.Sleep(tail)
	stopping.Store(true)
	ended.Wait()
	if err := s.drain(); err != nil {
		die(err)
	}
	finish(conns)
	report(producers, from, until)
}
