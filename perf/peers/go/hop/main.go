// SPDX-License-Identifier: MIT

// hop-go: from one goroutine to another and back through channels, 64 bytes a message, and how many go one way in a second. Same options
// and same figures as `weir-perf hop` and `weir-perf ring`.
//
// With --gap-us 0 two goroutines rally over unbuffered channels. Go's scheduler runs the one that was woken where it was woken, so for most
// of the time both share one core, and what is measured is a switch between goroutines and no way between cores. --way thread shows that way: each
// goroutine has a thread of its own (LockOSThread) that is bound to a core, and every message wakes a thread that sleeps.
// With --gap-us the sender keeps its core busy until the time has come, as weir's does, so the receiver, which sleeps in a channel, has to be
// run by another thread, and Go has to wake that first.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"sort"
	"syscall"
	"time"
	"unsafe"
)

const (
	rallies    = 16   // to and fro between two looks at the clock
	look       = 1024 // messages one way between two looks at the clock
	streamRoom = 1024 // messages that the channel of the one way has room for: 64 KiB
)

var (
	gap     = flag.Int64("gap-us", 0, "time from one flight to the next, so that the other side sleeps; 0: at once")
	_       = flag.Int64("spin-us", 0, "accepted for the likeness with weir: how long a goroutine looks for work is Go's own affair")
	seconds = flag.Float64("seconds", 2, "measured time, for each thing that is measured")
	warmup  = flag.Float64("warmup", 0.2, "time before it")
	way     = flag.String("way", "goroutine", "goroutine: they run where Go runs them; thread: each on a thread of its own, bound to a core")
	_       = flag.Bool("json", true, "accepted for the likeness with the others: it always prints JSON")
	cores   [2]uint
)

type message struct {
	number uint64
	stamp  time.Duration
	_      [6]uint64
}

func die(code int, what ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"hop-go:"}, what...)...)
	os.Exit(code)
}

var base = time.Now()

// Go's monotonic clock, read without a system call.
func now() time.Duration {
	return time.Since(base)
}

// --- cores ---

type coreSet [16]uint64

func findCores() {
	var set coreSet
	found := 0
	_, _, code := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	for core := uint(0); code == 0 && core < 64*uint(len(set)) && found < len(cores); core++ {
		if set[core/64]>>(core%64)&1 != 0 {
			cores[found] = core
			found++
		}
	}
	if found < len(cores) {
		die(1, "needs two cores")
	}
}

// With --way thread: binds the calling goroutine to a thread and that to a core.
func pin(core uint) {
	if *way != "thread" {
		return
	}
	runtime.LockOSThread()
	var set coreSet
	set[core/64] = 1 << (core % 64)
	_, _, code := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(set), uintptr(unsafe.Pointer(&set)))
	if code != 0 {
		die(1, "sched_setaffinity:", code)
	}
}

// --- what is measured ---

// Where a measurement is; it starts with the first tick.
type interval struct{ from, until time.Duration }

func (i *interval) tick(at time.Duration) (measuring, over bool) {
	if i.until == 0 {
		i.from = at + time.Duration(*warmup*1e9)
		i.until = i.from + time.Duration(*seconds*1e9)
	}
	return at >= i.from && at < i.until, at >= i.until
}

type result struct {
	flights   []float64 // ns
	elapsed   time.Duration
	hops      int
	perSecond float64
	lost      int // messages that came out of order
}

func rally(r *result) {
	there, back := make(chan message), make(chan message)
	go func() {
		pin(cores[1])
		for m := range there {
			back <- m
		}
	}()
	var clock interval
	number := uint64(0)
	for last := time.Duration(0); ; {
		for i := 0; i < rallies; i++ {
			number++
			there <- message{number: number}
			if m := <-back; m.number != number {
				r.lost++
			}
		}
		at := now()
		measuring, over := clock.tick(at)
		if over {
			break
		}
		if measuring && last >= clock.from {
			r.flights = append(r.flights, float64(at-last)/(2*rallies))
			r.elapsed += at - last
			r.hops += 2 * rallies
		}
		last = at
	}
	close(there)
}

// One flight each gap, to a goroutine that waits in the channel.
func fly(r *result) {
	there, back := make(chan message), make(chan struct{}, 1)
	go func() {
		pin(cores[1])
		var clock interval
		for m := range there {
			at := now()
			if measuring, _ := clock.tick(at); measuring {
				r.flights = append(r.flights, float64(at-m.stamp))
				r.elapsed = at - clock.from
				r.hops++
			}
			back <- struct{}{}
		}
		close(back)
	}()
	var clock interval
	for wait := time.Duration(*gap) * time.Microsecond; ; {
		at := now()
		if _, over := clock.tick(at); over {
			break
		}
		for now()-at < wait {
		}
		there <- message{number: 1, stamp: now()}
		for len(back) == 0 {
		}
		<-back
	}
	close(there)
	for range back {
	}
}

func stream(r *result) {
	there := make(chan message, streamRoom)
	go func() {
		pin(cores[1])
		var clock interval
		for number := uint64(1); ; {
			if _, over := clock.tick(now()); over {
				break
			}
			for i := 0; i < look; i++ {
				there <- message{number: number}
				number++
			}
		}
		close(there)
	}()
	var clock interval
	expected, from, fromTime := uint64(0), uint64(0), time.Duration(0)
	for m := range there {
		if expected++; m.number != expected {
			r.lost++
		}
		if m.number%look != 0 {
			continue
		}
		at := now()
		if measuring, _ := clock.tick(at); !measuring {
			continue
		}
		if from == 0 {
			from, fromTime = m.number, at
		} else {
			r.perSecond = float64(m.number-from) * 1e9 / float64(at-fromTime)
		}
	}
}

// --- the program ---

type figures struct {
	Tool      string   `json:"tool"`
	Way       string   `json:"way"`
	Gap       float64  `json:"gap_us"`
	Spin      float64  `json:"spin_us"`
	Idle      int      `json:"idle_ports"`
	Seconds   float64  `json:"seconds"`
	Hops      int      `json:"hops"`
	Mean      float64  `json:"mean_ns"`
	P50       int64    `json:"p50_ns"`
	P90       int64    `json:"p90_ns"`
	P99       int64    `json:"p99_ns"`
	Max       int64    `json:"max_ns"`
	PerSecond *float64 `json:"messages_per_second"`
	Wakes     *int     `json:"wakes"` // not counted, as the next two
	Sleeps    *int     `json:"sleeps"`
	Late      *int     `json:"late_finds"`
}

func report(r *result) {
	if len(r.flights) == 0 {
		die(1, "not one flight in the measured time")
	}
	sort.Float64s(r.flights)
	sum := 0.0
	for _, flight := range r.flights {
		sum += flight
	}
	percentile := func(percent float64) int64 {
		return int64(r.flights[int(percent/100*float64(len(r.flights)-1))] + 0.5)
	}
	f := figures{
		Tool: "hop", Way: "go-" + *way, Gap: float64(*gap), Seconds: r.elapsed.Seconds(), Hops: r.hops, Mean: sum / float64(len(r.flights)),
		P50: percentile(50), P90: percentile(90), P99: percentile(99), Max: percentile(100),
	}
	if *gap == 0 {
		f.PerSecond = &r.perSecond
	}
	line, err := json.Marshal(f)
	if err != nil {
		die(1, err)
	}
	fmt.Println(string(line))
}

func main() {
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		die(2, "'"+flag.Arg(0)+"' is not an option")
	case *gap < 0 || *seconds <= 0 || *warmup < 0:
		die(2, "-gap-us and -warmup want 0 or more, -seconds more than 0")
	case *way != "goroutine" && *way != "thread":
		die(2, "-way wants goroutine or thread")
	}
	findCores()
	pin(cores[0])
	var r result
	if *gap > 0 {
		fly(&r)
	} else {
		rally(&r)
		stream(&r)
	}
	report(&r)
	if r.lost > 0 {
		die(1, r.lost, "messages did not come in order")
	}
}
