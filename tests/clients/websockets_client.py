# SPDX-License-Identifier: MIT
"""Debian's python3-websockets, which checks what it is sent against the RFC, at a WebSocket echo."""

import asyncio
import os
import sys

import websockets

URL = f"ws://{sys.argv[1]}/a/path?with=a&query"
MESSAGE_MAX_BYTES = 1 << 20
SIZES = (0, 1, 125, 126, 127, 4095, 4096, 65535, 65536, 300000, MESSAGE_MAX_BYTES)


async def every_size(compression):
    async with websockets.connect(URL, max_size=None, compression=compression) as web:
        assert web.extensions == [], web.extensions  # deflate is offered, and not taken
        for size in SIZES:
            for message in (os.urandom(size), "ä" * (size // 2) + "x" * (size % 2)):
                await web.send(message)
                assert await web.recv() == message, f"{size} bytes came back changed"


async def fragments():
    async with websockets.connect(URL, max_size=None) as web:
        await web.send(["in ", "", "several ", "fräg", "ments"])
        assert await web.recv() == "in several frägments"
        await web.send([b"%d," % i for i in range(1000)])
        assert await web.recv() == b"".join(b"%d," % i for i in range(1000))


async def pings():
    async with websockets.connect(URL) as web:
        for payload in (b"", b"x" * 125):
            await asyncio.wait_for(await web.ping(payload), 10)
        await web.pong(b"nobody has asked")
        await web.send("still here")
        assert await web.recv() == "still here"


async def closes():
    for code in (1000, 1001, 1011, 3000, 4999):
        web = await websockets.connect(URL)
        await web.close(code, "a reason")
        assert web.close_code == code, (web.close_code, code)


async def too_much():
    async with websockets.connect(URL, max_size=None) as web:
        await web.send(b"x" * (MESSAGE_MAX_BYTES + 1))
        try:
            await web.recv()
            assert False, "a message over the limit came back"
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == 1009, closed


async def one_of_many(index):
    async with websockets.connect(URL) as web:
        for i in range(20):
            await web.send(f"{index}: {i}")
        for i in range(20):
            assert await web.recv() == f"{index}: {i}"


async def main():
    await every_size(None)
    await every_size("deflate")
    await fragments()
    await pings()
    await closes()
    await too_much()
    await asyncio.gather(*(one_of_many(index) for index in range(100)))
    print("python3-websockets: all is as it should be")


asyncio.run(main())
