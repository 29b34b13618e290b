// SPDX-License-Identifier: MIT

// web-go: a WebSocket echo in Go as one writes it: gorilla/websocket behind net/http, a goroutine for each connection, ReadMessage and
// WriteMessage. GOMAXPROCS is --threads. No compression. Its buffers are those that it takes over from net/http (4 KiB each way). Every
// WriteMessage is a write of its own: the library has no way to keep several back.
package main

import (
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"

	"github.com/gorilla/websocket"
)

var (
	listen  = flag.String("listen", "tcp://127.0.0.1:0", "tcp://host:port; port 0 takes a free one")
	threads = flag.Int("threads", 1, "GOMAXPROCS")
)

func die(code int, what ...any) {
	fmt.Fprintln(os.Stderr, append([]any{"web-go:"}, what...)...)
	os.Exit(code)
}

var upgrader = websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}

func echo(writer http.ResponseWriter, request *http.Request) {
	conn, err := upgrader.Upgrade(writer, request, nil)
	if err != nil {
		return // it has been answered
	}
	defer conn.Close()
	for {
		kind, message, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if conn.WriteMessage(kind, message) != nil {
			return
		}
	}
}

func main() {
	flag.Parse()
	address := strings.TrimPrefix(*listen, "tcp://")
	if address == *listen || flag.NArg() > 0 {
		die(2, "--listen wants tcp://host:port, not", *listen)
	}
	runtime.GOMAXPROCS(*threads)
	listener, err := net.Listen("tcp", address)
	if err != nil {
		die(1, err)
	}
	fmt.Println("listening on tcp://" + listener.Addr().String())
	die(1, http.Serve(listener, http.HandlerFunc(echo)))
}
