// SPDX-License-Identifier: MIT

// echo-go: an echo server in Go as one writes it: a goroutine for each connection, bufio to read and to write, and a flush when no whole
// message is left to be read. GOMAXPROCS is --threads. A peer that does not read makes its own goroutine wait in Write, and so is not
// read from.
//
// Buffers have Go's own 4 KiB until a frame does not fit, then 64 KiB. Tried: 64 KiB from the start makes 10,000 connections slower by a
// third and more, for more memory; with 16 KiB throughout, messages of 16 KiB are half as fast.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"time"
)

const (
	headBytes    = 4
	largeBuffer  = 65536
	mostBytes    = 1 << 20
	acceptMillis = 10 // how long to leave it when there are no descriptors left
)

var (
	listen  = flag.String("listen", "tcp://127.0.0.1:0", "tcp://host:port; port 0 takes a free one")
	framing = flag.String("framing", "frame", "frame or raw")
	threads = flag.Int("threads", 1, "GOMAXPROCS")
	buffer  = flag.Int("buffer", 4096, "of each bufio.Reader and bufio.Writer, in bytes, until a frame does not fit (4096: as Go has it)")
)

func die(code int, what ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"echo-go:"}, what...)...)
	os.Exit(code)
}

var errTooLong = errors.New("a frame is too long")

// Answers each frame with itself until the peer ends the connection.
func echoFrames(conn net.Conn) error {
	in, out := bufio.NewReaderSize(conn, *buffer), bufio.NewWriterSize(conn, *buffer)
	for {
		if in.Buffered() < headBytes {
			if err := out.Flush(); err != nil {
				return err
			}
		}
		head, err := in.Peek(headBytes)
		if err != nil {
			return err
		}
		bytes := int(binary.LittleEndian.Uint32(head))
		if bytes > mostBytes {
			return errTooLong
		}
		if in.Buffered() < headBytes+bytes {
			if err := out.Flush(); err != nil {
				return err
			}
			if headBytes+bytes > in.Size() && in.Size() < largeBuffer { // what it holds is read through the larger one
				in, out = bufio.NewReaderSize(in, largeBuffer), bufio.NewWriterSize(conn, largeBuffer)
			}
		}
		if err := echoFrame(in, out, headBytes+bytes); err != nil {
			return err
		}
	}
}

// The next `bytes` are a frame. One that the larger buffer is too small for goes through a slice of its own.
func echoFrame(in *bufio.Reader, out *bufio.Writer, bytes int) error {
	if bytes > in.Size() {
		frame := make([]byte, bytes)
		if _, err := io.ReadFull(in, frame); err != nil {
			return err
		}
		_, err := out.Write(frame)
		return err
	}
	frame, err := in.Peek(bytes)
	if err != nil {
		return err
	}
	if _, err := out.Write(frame); err != nil {
		return err
	}
	_, err = in.Discard(bytes)
	return err
}

func echoRaw(conn net.Conn) error {
	bytes := make([]byte, *buffer)
	for {
		count, err := conn.Read(bytes)
		if err != nil {
			return err
		}
		if _, err := conn.Write(bytes[:count]); err != nil {
			return err
		}
	}
}

func serve(conn net.Conn) {
	defer conn.Close()
	if *framing == "raw" {
		echoRaw(conn)
	} else {
		echoFrames(conn)
	}
}

func main() {
	flag.Parse()
	switch {
	case flag.NArg() > 0:
		die(2, "'"+flag.Arg(0)+"' is not an option")
	case !strings.HasPrefix(*listen, "tcp://"):
		die(2, "-listen wants tcp://host:port")
	case *framing != "frame" && *framing != "raw":
		die(2, "-framing wants frame or raw")
	case *threads < 1 || *buffer < 16:
		die(2, "-threads wants 1 or more, -buffer 16 or more")
	}
	runtime.GOMAXPROCS(*threads)
	listener, err := net.Listen("tcp", strings.TrimPrefix(*listen, "tcp://"))
	if err != nil {
		die(1, err)
	}
	fmt.Printf("listening on tcp://%s\n", listener.Addr())
	for {
		conn, err := listener.Accept() // Go sets TCP_NODELAY by itself
		if err != nil {
			time.Sleep(acceptMillis * time.Millisecond)
			continue
		}
		go serve(conn)
	}
}
