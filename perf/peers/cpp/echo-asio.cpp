/* SPDX-License-Identifier: MIT */
/* echo-asio: an echo server on asio (standalone).
 *
 * Each thread has an io_context of its own, with locking off since nobody else touches it, and a listening socket of its own
 * (SO_REUSEPORT). A session lives as long as an operation of its own is under way. A read that came is answered with one write_some at
 * once, and only what that does not take goes into an async_write: a completed async_write is another way round the queue.
 *
 * Tried, system calls and instructions of its own for a message at 64:1:64, this file's being 2.0 and 660:
 * - async_write always: 1,700 instructions, and with one connection a second epoll_wait for each message;
 * - the same with locking (io_context with the hint 1): 820 instructions;
 * - async_wait and read_some, so that an idle session holds no buffer: an epoll_ctl more for each message;
 * - sockets of io_context::executor_type instead of any_io_executor: 30 instructions less, nothing to be seen beside 7 us of the kernel's.
 *
 * Road:    async_read_some → cut → write_some → what is left of a message stays in the buffer → async_read_some.
 * Ditches: short write → async_write the rest, and read no more until it is out; a wrong length, an error, the end → nothing more is
 *          under way, so the session ends; no descriptor left → accepting rests a moment; SIGTERM, SIGINT → the contexts stop, exit 0. */
#include "perf/peers/c/echo-input.h"

#include <asio.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <memory>
#include <sys/signalfd.h>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

using asio::ip::tcp;
using reuse_port = asio::detail::socket_option::boolean<SOL_SOCKET, SO_REUSEPORT>;

namespace
{

/* What a thread's sessions share. */
struct Loop {
    explicit Loop(pattern_framing framing_of_all) : framing(framing_of_all)
    {
    }
    ~Loop()
    {
        context.reset(); /* with it go its sessions, and their buffers to the spare ones */
        echo_spares_free(&spares);
    }
    Loop(const Loop &) = delete;
    Loop &operator=(const Loop &) = delete;

    const pattern_framing framing;
    echo_spares spares = {};
    std::unique_ptr<asio::io_context> context = std::make_unique<asio::io_context>(ASIO_CONCURRENCY_HINT_UNSAFE);
};

class Session : public std::enable_shared_from_this<Session>
{
  public:
    Session(Loop &loop, tcp::socket socket) : loop_(loop), socket_(std::move(socket))
    {
    }
    ~Session()
    {
        echo_input_release(&input_, &loop_.spares);
    }
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    void start()
    {
        asio::error_code error;
        socket_.set_option(tcp::no_delay(true), error);
        socket_.non_blocking(true, error);
        if (!error)
            read();
    }

  private:
    void read()
    {
        if (!echo_input_reserve(&input_, &loop_.spares, 0))
            return;
        socket_.async_read_some(asio::buffer(input_.bytes + input_.filled, input_.room - input_.filled),
                                [this, self = shared_from_this()](const asio::error_code &error, size_t count) {
                                    if (!error && echo_input_take(&input_, &loop_.spares, loop_.framing, count))
                                        answer();
                                });
    }

    void answer()
    {
        asio::error_code error;
        size_t written = 0;
        if (input_.whole > 0)
            written = socket_.write_some(asio::buffer(input_.bytes, input_.whole), error);
        if (written == input_.whole)
            answered();
        else if (!error || error == asio::error::would_block)
            write_rest(written);
    }

    void write_rest(size_t written)
    {
        asio::async_write(socket_, asio::buffer(input_.bytes + written, input_.whole - written),
                          [this, self = shared_from_this()](const asio::error_code &error, size_t) {
                              if (!error)
                                  answered();
                          });
    }

    void answered()
    {
        echo_input_answered(&input_, &loop_.spares);
        read();
    }

    Loop &loop_;
    tcp::socket socket_;
    echo_input input_ = {};
};

class Server
{
  public:
    Server(echo_peer &peer, int signals)
        : loop_(peer.framing), acceptor_(*loop_.context), pause_(*loop_.context), signals_(*loop_.context, dup(signals))
    {
        tcp::endpoint endpoint;
        endpoint.resize(peer.address.storage_bytes);
        memcpy(endpoint.data(), &peer.address.storage, peer.address.storage_bytes);
        acceptor_.open(endpoint.protocol());
        acceptor_.set_option(tcp::acceptor::reuse_address(true));
        acceptor_.set_option(reuse_port(true));
        acceptor_.bind(endpoint);
        acceptor_.listen(ECHO_PEER_BACKLOG);
        echo_peer_bound(&peer, acceptor_.native_handle());
        signals_.async_wait(asio::posix::stream_descriptor::wait_read, [this](const asio::error_code &) { loop_.context->stop(); });
        accept();
    }

    void run()
    {
        loop_.context->run();
    }

  private:
    void accept()
    {
        acceptor_.async_accept([this](const asio::error_code &error, tcp::socket socket) {
            if (error) {
                accept_later();
                return;
            }
            std::make_shared<Session>(loop_, std::move(socket))->start();
            accept();
        });
    }

    void accept_later()
    {
        pause_.expires_after(std::chrono::milliseconds(100));
        pause_.async_wait([this](const asio::error_code &) { accept(); });
    }

    Loop loop_;
    tcp::acceptor acceptor_;
    asio::steady_timer pause_;
    asio::posix::stream_descriptor signals_;
};

/* Without locking no two contexts can share a signal_set's signals; so each has a descriptor of them. It is never read: so that each sees
 * it. */
int signals_open()
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, nullptr);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

void serve(echo_peer &peer)
{
    int signals = signals_open();
    std::vector<std::unique_ptr<Server>> servers;
    for (uint32_t i = 0; i < peer.threads; i++)
        servers.push_back(std::make_unique<Server>(peer, signals));
    std::vector<std::thread> threads;
    for (uint32_t i = 1; i < peer.threads; i++)
        threads.emplace_back([&server = *servers[i]] { server.run(); });
    echo_peer_say(&peer);
    servers[0]->run();
    for (std::thread &thread : threads)
        thread.join();
}

} // namespace

int main(int argc, char **argv)
{
    echo_peer peer = {};
    echo_peer_begin(&peer, argc, argv, "Echoes what it receives: an asio server, that weir is measured against.");
    try {
        serve(peer);
    } catch (const std::system_error &error) {
        fprintf(stderr, "echo-asio: %s\n", error.what());
        return 1;
    }
    return 0;
}
