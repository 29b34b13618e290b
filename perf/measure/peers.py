# SPDX-License-Identifier: MIT
"""peers: what the report says of the others: how each was written, and what was done so that it is as fast as its own people would have it."""

INTRO = """All have the same messages, socket options (TCP_NODELAY), cores and load; each is built in release mode, and its head comment (perf/peers/) says what was tried. A
peer that answers in another way than its community would is a fault: please report it."""

PEERS = [  # programs, what was done
    ("`epoll`", "Reads 64 KiB and sends it back in one call. It knows no messages, the others and weir find each: the least that an echo can cost."),
    ("`libuv`, `libevent`, `asio`", "A loop for each thread, a listening socket for each loop. All whole messages of a read are answered with one try-write, not with a "
     "queued request; libevent without bufferevents (1.4 to 3.8 times the CPU); asio with locking off."),
    ("`tokio`", "Release, link-time optimised; a multi-thread runtime for the fan-in, current-thread where a server has one core. Fan-in: a bounded mpsc and a writer task that "
     "takes until it is empty, then one write. Fan-out: broadcast, with permits so that nothing is dropped. Its timer counts milliseconds, so at a fixed rate "
     "it sends in bursts of what has become due, which takes less CPU."),
    ("`go`", "Go's defaults; GOMAXPROCS is the number of cores it is given. Fan-in: a channel and a goroutine with bufio that flushes when the channel is empty. Hop: threads of their own, "
     "for two goroutines that wait for one another share a core."),
    ("`erlang`", "An owning process with RabbitMQ's credit flow and batching, and its emulator's flags. Its timers count milliseconds, as Tokio's."),
    ("`ck`, `mpsc`", "Written by hand for this: rings of lines, one writer, one send for what has come together, a flag instead of a wake while the writer looks. The number of slots is the best of those tried."),
    ("`mutex`, `cond`", "pthread's, with signals after the unlock and only when somebody waits; a taker takes all that is there."),
    ("`zmq`", "PUB with one I/O thread (the default); marks raised so that nothing is dropped, and its receivers are plain sockets that speak ZMTP, so that libzmq's own do not set the pace."),
    ("`redis`, `nats`", "Debian's with their defaults, but that slow receivers are not cut off and nothing is written to disk; publishing is pipelined."),
    ("`lws`, `gorilla`, `ws`", "WebSocket libraries as their people use them, without compression. libwebsockets: one service thread, and as many writes as the socket takes each time that it is "
     "writeable; gorilla: behind net/http, a goroutine for each connection; ws: Debian's or the machine's node, no list of clients. None of the three can send several messages at once."),
    ("`haproxy`, `nginx`", "One thread or worker, TCP only, no log; HAProxy with buffers of 64 KiB, which double its speed at 16 KiB. The files are perf/peers/proxy/*.in."),
]
