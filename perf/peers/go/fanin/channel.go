// SPDX-License-Identifier: MIT

package main

import (
	"bufio"
	"encoding/binary"
	"sync"
)

// The way `channel`: each connection has a channel, and a goroutine that takes out what is in it, writes it through a bufio.Writer, and
// flushes when the channel is empty. A full channel makes the sender wait, or, with -refuse, is a refusal: select with a default.
//
// Small messages go through the channel by value: a slice each would have to be allocated, or come from a pool, and both are slower
// (measured). Larger ones, and several that are sent together (-batch), are one slice from a pool: by value is no faster at 1 KiB, and takes
// as much memory as the channel is long; a slice allocated each time halves the throughput. A channel of 4096 in place of 1024 carries a
// tenth more at three times the latency.

const smallBytes = 64

type smallFrame [headBytes + smallBytes]byte

func channelSide(conns []*counted) side {
	if *batch == 1 && *payload <= smallBytes {
		return framesSide(conns)
	}
	return slicesSide(conns)
}

// A channel and its writer for each connection, and what ends them.
func openChannels[T any](conns []*counted, write func(messages <-chan T, to *bufio.Writer)) ([]chan T, func() error) {
	channels := make([]chan T, len(conns))
	written := make(chan error, len(conns))
	for i, conn := range conns {
		messages, to := make(chan T, *capacity), bufio.NewWriterSize(conn, *buffer)
		channels[i] = messages
		go func() {
			write(messages, to)
			written <- to.Flush() // an error sticks: this is the first
		}()
	}
	drain := func() error {
		for _, messages := range channels {
			close(messages)
		}
		for range channels {
			if err := <-written; err != nil {
				return err
			}
		}
		return nil
	}
	return channels, drain
}

func offer[T any](messages chan<- T, message T) bool {
	select {
	case messages <- message:
		return true
	default:
		return false
	}
}

// --- by value ---

func framesSide(conns []*counted) side {
	bytes := frameBytes
	write := func(messages <-chan smallFrame, to *bufio.Writer) {
		for f := range messages {
			to.Write(f[:bytes])
			if len(messages) == 0 {
				to.Flush()
			}
		}
	}
	channels, drain := openChannels(conns, write)
	produce := func(p *producer) {
		var f smallFrame
		p.makeFrame(f[:bytes])
		p.wait()
		timed := *latency || *rate > 0
		for sequence, next := uint64(0), 0; !stopping.Load(); sequence++ {
			binary.LittleEndian.PutUint64(f[sequenceAt:], sequence)
			stamp := int64(0)
			if timed {
				stamp = p.pace()
				binary.LittleEndian.PutUint64(f[stampAt:], uint64(stamp))
			}
			accepted := true
			if *refuse {
				accepted = offer(channels[next], f)
			} else {
				channels[next] <- f
			}
			if next++; next == len(channels) {
				next = 0
			}
			p.done(stamp, accepted)
		}
	}
	return side{produce: produce, drain: drain}
}

// --- slices from a pool ---

func slicesSide(conns []*counted) side {
	pool := sync.Pool{New: func() any {
		frames := make([]byte, *batch*frameBytes)
		return &frames
	}}
	write := func(slices <-chan *[]byte, to *bufio.Writer) {
		for frames := range slices {
			to.Write(*frames)
			pool.Put(frames)
			if len(slices) == 0 {
				to.Flush()
			}
		}
	}
	channels, drain := openChannels(conns, write)
	produce := func(p *producer) {
		made := p.makeFrames()
		p.wait()
		for sequence, next := int64(0), 0; !stopping.Load(); sequence += int64(*batch) {
			frames := pool.Get().(*[]byte)
			copy(*frames, made)
			stamp := p.pace()
			number(*frames, sequence, stamp)
			accepted := true
			if *refuse {
				if accepted = offer(channels[next], frames); !accepted {
					pool.Put(frames)
				}
			} else {
				channels[next] <- frames
			}
			if next++; next == len(channels) {
				next = 0
			}
			p.done(stamp, accepted)
		}
	}
	return side{produce: produce, drain: drain}
}
