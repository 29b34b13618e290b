# SPDX-License-Identifier: MIT
"""Debian's python3-websockets at a WebSocket echo that packs messages (RFC 7692): each combination of parameters that it can offer, and what has to be refused.
Arguments: HOST:PORT, and how weir-echo was told to: nothing, or =keep."""

import asyncio
import itertools
import os
import sys
import zlib

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

URL = f"ws://{sys.argv[1]}/"
KEEPS = sys.argv[2] == "=keep"
MESSAGE_MAX_BYTES = 1 << 20
SIZES = (0, 1, 255, 256, 4096, 65536, 300000, MESSAGE_MAX_BYTES)
SENTENCE = "Was man nicht aufgibt, hat man nie verlören. "


def connect(**parameters):
    return websockets.connect(URL, max_size=None, extensions=[ClientPerMessageDeflateFactory(**parameters)])


async def each_offer():
    """None: not offered. websockets' client checks that what is answered is what it may be."""
    bits = (None, 9, 12, 15)
    for server_forgets, client_forgets, server_bits, client_bits in itertools.product((False, True), (False, True), bits, bits + (True,)):
        async with connect(server_no_context_takeover=server_forgets, client_no_context_takeover=client_forgets,
                           server_max_window_bits=server_bits, client_max_window_bits=client_bits) as web:
            (agreed,) = web.extensions
            assert agreed.name == "permessage-deflate", agreed
            assert agreed.remote_no_context_takeover == (server_forgets or not KEEPS), agreed
            assert agreed.local_no_context_takeover == (client_forgets or not KEEPS), agreed
            assert agreed.remote_max_window_bits == (server_bits or 15), agreed
            for message in (SENTENCE * 30, SENTENCE * 900, os.urandom(700), SENTENCE * 30, b"short", ""):
                await web.send(message)
                assert await web.recv() == message


async def every_size():
    async with connect() as web:
        for size in SIZES:
            for message in (os.urandom(size), "ä" * (min(size, 65536) // 2), b"".join(b"%d bottles, " % i for i in range(size // 8))[:size]):
                await web.send(message)
                assert await web.recv() == message, f"{size} bytes came back changed"


async def fragments():
    async with connect() as web:
        await web.send(["in ", "", "several ", "fräg", "ments, " * 100])
        assert await web.recv() == "in several frägments, " + "ments, " * 99
        await web.send([b"%d," % i for i in range(900)])
        assert await web.recv() == b"".join(b"%d," % i for i in range(900))


async def raw_frame(payload, due):
    """A packed text message as it stands here."""
    async with connect() as web:
        frame = bytes([0xc1, 0x80 | len(payload), 0, 0, 0, 0]) + payload if len(payload) < 126 else (
            bytes([0xc1, 0xfe, len(payload) >> 8, len(payload) & 255, 0, 0, 0, 0]) + payload)
        web.transport.write(frame)
        try:
            await web.recv()
            assert False, f"{payload[:20].hex()} came back"
        except websockets.ConnectionClosed as closed:
            assert closed.rcvd is not None and closed.rcvd.code == due, (payload[:20].hex(), closed)


def packed(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


async def main():
    await each_offer()
    await every_size()
    await fragments()
    await raw_frame(b"\x06", 1002)
    await raw_frame(packed(b"cut off, " * 9)[:-3], 1002)
    await raw_frame(packed(b"no \xff text"), 1007)
    await raw_frame(packed(bytes(1 << 21)), 1009)
    await raw_frame(packed(bytes(1 << 20)), 1009)  # within the limit, but a thousand times its bytes
    print(f"python3-websockets, --deflate{sys.argv[2]}: all is as it should be")


asyncio.run(main())
