"""The talk between two processes of ours, both ends in this one."""

from __future__ import annotations

import gc
import os
import socket
import struct
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import anyio
import msgspec
import pytest

from spool.channel import MAX_FRAME, CallFailed, Channel, ChannelClosed, Descriptors, Method, Offer, Parcel, pair
from spool.errors import SpoolFull, UnknownEnvelope
from spool.faults import NO_FAULTS

DOUBLE = Method("double", int, int)
OPEN = Method("open", str, str)
READ = Method("read", str, bytes)
FAIL = Method("fail", str, type(None))
WAIT = Method("wait", int, int)
ECHO = Method("echo", bytes, bytes)


pytestmark = pytest.mark.anyio


@pytest.fixture
def this() -> Iterator[BinaryIO]:
    """A file."""
    with open(__file__, "rb") as file:
        yield file


class Server:
    """Serves all of them."""

    def __init__(self) -> None:
        self.gate = anyio.Event()
        self.begun = 0

    def offers(self) -> list[Offer]:
        return [
            Offer(DOUBLE, self.double),
            Offer(OPEN, self.open),
            Offer(READ, self.read),
            Offer(FAIL, self.fail),
            Offer(WAIT, self.wait),
            Offer(ECHO, self.echo),
        ]

    async def double(self, number: int, _: Descriptors) -> int:
        return 2 * number

    async def open(self, path: str, _: Descriptors) -> Parcel[str]:
        return Parcel("here it is", [os.open(path, os.O_RDONLY)], is_given=True)

    async def read(self, _: str, came: Descriptors) -> bytes:
        with os.fdopen(came.take(), "rb") as file:
            return file.read()

    async def fail(self, how: str, _: Descriptors) -> None:
        match how:
            case "full":
                raise SpoolFull(28, "No space left on device")
            case "unknown":
                raise UnknownEnvelope("no such thing")
            case _:
                raise RuntimeError("a secret of this side")

    async def wait(self, number: int, _: Descriptors) -> int:
        self.begun += 1
        await self.gate.wait()
        return number

    async def echo(self, octets: bytes, _: Descriptors) -> bytes:
        return octets


@asynccontextmanager
async def talk(offers: Sequence[Offer]) -> AsyncIterator[Channel]:
    """A channel to somebody who offers these."""
    near, far = pair()
    client, server = Channel(near), Channel(far, offers)
    async with anyio.create_task_group() as group:
        await group.start(client.run)
        await group.start(server.run)
        yield client
        group.cancel_scope.cancel()


@asynccontextmanager
async def attacked(offers: Sequence[Offer]) -> AsyncIterator[tuple[socket.socket, Channel]]:
    """A channel at whose other end there is a bare socket."""
    near, far = pair()
    channel = Channel(far, offers)
    async with anyio.create_task_group() as group:
        await group.start(channel.run)
        with near:
            yield near, channel
        group.cancel_scope.cancel()


def framed(value: object) -> bytes:
    octets = msgspec.msgpack.encode(value)
    return struct.pack("!I", len(octets)) + octets


def open_descriptors() -> int:
    gc.collect()
    return len(os.listdir("/proc/self/fd"))


async def test_a_call_is_answered() -> None:
    async with talk(Server().offers()) as channel:
        assert await channel.call(DOUBLE, 21) == 42


async def test_a_frame_larger_than_the_kernels_buffer_arrives_whole() -> None:
    octets = os.urandom(5_000_000)
    async with talk(Server().offers()) as channel:
        assert await channel.call(ECHO, octets) == octets


async def test_calls_overtake_one_that_takes_long() -> None:
    server = Server()
    async with talk(server.offers()) as channel, anyio.create_task_group() as group:
        group.start_soon(channel.call, WAIT, 1)
        assert await channel.call(DOUBLE, 1) == 2
        server.gate.set()


async def test_both_sides_may_call() -> None:
    near, far = pair()
    left, right = Channel(near, Server().offers()), Channel(far, Server().offers())
    async with anyio.create_task_group() as group:
        await group.start(left.run)
        await group.start(right.run)
        assert (await left.call(DOUBLE, 1), await right.call(DOUBLE, 2)) == (2, 4)
        group.cancel_scope.cancel()


async def test_a_descriptor_travels_with_an_answer() -> None:
    async with talk(Server().offers()) as channel:
        value, came = await channel.fetch(OPEN, __file__)
        with os.fdopen(came.take(), "rb") as file:
            assert (value, file.readline()[:3]) == ("here it is", b'"""')


async def test_a_descriptor_travels_with_a_call(this: BinaryIO) -> None:
    async with talk(Server().offers()) as channel:
        assert (await channel.call(READ, "", [this.fileno()])).startswith(b'"""')


async def test_descriptors_that_nobody_takes_are_closed(this: BinaryIO) -> None:
    async with talk(Server().offers()) as channel:
        before = open_descriptors()
        await channel.call(OPEN, __file__)
        await channel.call(DOUBLE, 1, [this.fileno()] * 50)
        assert open_descriptors() == before


async def test_an_error_that_means_something_comes_back_as_it_was() -> None:
    async with talk(Server().offers()) as channel:
        with pytest.raises(SpoolFull, match="No space left") as caught:
            await channel.call(FAIL, "full")
        assert caught.value.errno == 28
        with pytest.raises(UnknownEnvelope, match="no such thing"):
            await channel.call(FAIL, "unknown")


async def test_an_error_of_one_who_is_not_believed_is_an_unforeseen_one() -> None:
    near, far = pair()
    client, serving = Channel(near, believed=NO_FAULTS), Channel(far, Server().offers())
    async with anyio.create_task_group() as group:
        await group.start(client.run)
        await group.start(serving.run)
        with pytest.raises(CallFailed):
            await client.call(FAIL, "full")
        group.cancel_scope.cancel()


async def test_the_text_of_an_unforeseen_error_stays_where_it_was() -> None:
    async with talk(Server().offers()) as channel:
        with pytest.raises(CallFailed) as caught:
            await channel.call(FAIL, "otherwise")
        assert "secret" not in str(caught.value)
        assert await channel.call(DOUBLE, 1) == 2


async def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    server = Server()
    async with talk(server.offers()) as channel:
        with anyio.move_on_after(0.01):
            await channel.call(WAIT, 1)
        server.gate.set()
        assert await channel.call(DOUBLE, 4) == 8


async def test_whoever_waits_hears_that_the_other_side_has_gone() -> None:
    near, far = pair()
    channel = Channel(near)
    async with anyio.create_task_group() as group:
        group.start_soon(channel.run)
        async with anyio.create_task_group() as inner:

            async def ask() -> None:
                with pytest.raises(ChannelClosed):
                    await channel.call(DOUBLE, 1)

            inner.start_soon(ask)
            await anyio.sleep(0.01)
            far.close()
        with pytest.raises(ChannelClosed):
            await channel.call(DOUBLE, 2)


async def test_a_call_that_finds_the_other_side_gone_is_not_left_waiting() -> None:
    near, far = pair()
    channel = Channel(near)
    async with anyio.create_task_group() as group:
        await group.start(channel.run)
        far.close()
        # Its end has not been read yet: it is the kernel that refuses the frame.
        with anyio.fail_after(2), pytest.raises(ChannelClosed):
            await channel.call(DOUBLE, 1)


async def test_a_side_that_serves_enough_lets_the_other_wait() -> None:
    server = Server()
    near, far = pair()
    client, serving = Channel(near), Channel(far, server.offers(), load=1)
    async with anyio.create_task_group() as group:
        await group.start(client.run)
        await group.start(serving.run)
        async with anyio.create_task_group() as callers:
            callers.start_soon(client.call, WAIT, 1)
            await anyio.sleep(0.01)
            callers.start_soon(client.call, WAIT, 2)
            await anyio.sleep(0.01)
            assert server.begun == 1
            server.gate.set()
        assert server.begun == 2
        group.cancel_scope.cancel()


NONSENSE = {
    "octets": b"\x00\x00\x00\x04abcd",
    "a frame that is too long": struct.pack("!I", MAX_FRAME + 1),
    "a method that is not offered": framed([1, 1, "shut-down", 0, None]),
    "an argument of another type": framed([1, 1, "double", 0, "two"]),
    "a call without a number": framed([1, "x", "double", 0, 1]),
    "a descriptor that did not come": framed([1, 1, "read", 1, ""]),
    "fewer than no descriptors": framed([1, 1, "read", -1, ""]),
    "a frame of another kind": framed([9, 1, "double", 0, 1]),
    "a value in place of a frame": framed(7),
    "text that is no UTF-8": framed([1, 1, "double", 0, 1]).replace(b"double", b"doubl\xff"),
    "text that is no UTF-8 in an argument": framed([1, 1, "open", 0, "/x"]).replace(b"/x", b"/\xff"),
    "values in values without end": struct.pack("!I", 100_000) + b"\x91" * 100_000,
}


@pytest.mark.parametrize("octets", NONSENSE.values(), ids=NONSENSE.keys())
async def test_nonsense_ends_the_talk(octets: bytes) -> None:
    async with attacked(Server().offers()) as (other, channel):
        other.setblocking(False)
        other.send(octets)
        with anyio.fail_after(2):
            await channel.wait_closed()


async def test_whoever_waits_for_an_answer_that_makes_no_sense_hears_that_the_talk_is_over(this: BinaryIO) -> None:
    async with attacked([]) as (other, channel):
        before = open_descriptors()

        async def lie() -> None:
            await anyio.sleep(0.01)
            socket.send_fds(other, [framed([2, 1, 1, "two"])], [this.fileno()])

        async with anyio.create_task_group() as group:
            group.start_soon(lie)
            with anyio.fail_after(2), pytest.raises(ChannelClosed):
                await channel.call(DOUBLE, 1)
        assert open_descriptors() <= before


async def test_an_answer_to_nothing_is_passed_over() -> None:
    async with attacked(Server().offers()) as (other, channel):
        other.send(framed([2, 77, 0, 1]) + framed([3, 78, None]) + framed([1, 5, "double", 0, 4]))
        await anyio.sleep(0.02)
        assert not channel.is_closed
        with suppress(BlockingIOError):
            assert other.recv(100) == framed([2, 5, 0, 8])


async def test_descriptors_that_no_frame_speaks_of_end_the_talk(this: BinaryIO) -> None:
    async with attacked(Server().offers()) as (other, channel):
        before = open_descriptors()
        with suppress(OSError):
            for _ in range(4):
                socket.send_fds(other, [framed([2, 77, 0, 1])], [this.fileno()] * 200)
                await anyio.sleep(0.005)
        with anyio.fail_after(2):
            await channel.wait_closed()
        assert open_descriptors() <= before


async def test_calls_of_one_turn_of_the_loop_go_out_in_one_write() -> None:
    # Sockets of this kind keep apart what was written apart.
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel = Channel(near)
    async with anyio.create_task_group() as group:
        await group.start(channel.run)
        for number in range(20):
            group.start_soon(channel.call, DOUBLE, number)
        await anyio.wait_readable(far)
        written = far.recv(1 << 16)
        far.close()
        group.cancel_scope.cancel()
    assert written.count(b"double") == 20


async def test_descriptors_of_one_turn_of_the_loop_stay_with_their_frames(tmp_path: Path) -> None:
    files = [tmp_path / str(number) for number in range(5)]
    for file in files:
        file.write_text(file.name)
    read: dict[str, bytes] = {}
    async with talk(Server().offers()) as channel:

        async def ask(file: Path) -> None:
            with file.open("rb") as opened:
                read[file.name] = await channel.call(READ, "", [opened.fileno()])

        async with anyio.create_task_group() as group:
            for file in files:
                group.start_soon(ask, file)
                group.start_soon(channel.call, DOUBLE, 1)
    assert read == {file.name: file.name.encode() for file in files}


async def test_what_is_said_before_the_end_is_heard() -> None:
    heard: list[int] = []

    async def hear(number: int, _: Descriptors) -> int:
        heard.append(number)
        return number

    near, far = pair()
    client, server = Channel(near), Channel(far, [Offer(DOUBLE, hear)])
    async with anyio.create_task_group() as group:
        await group.start(server.run)
        client.tell(DOUBLE, 8)
        client.close()
        with anyio.fail_after(2):
            await server.wait_closed()
    assert heard == [8]


async def test_frames_wait_in_order_for_a_kernel_that_takes_no_more() -> None:
    octets = [bytes([number]) * 300_000 for number in range(20)]
    echoed: list[bytes] = []
    async with talk(Server().offers()) as channel:

        async def ask(piece: bytes) -> None:
            echoed.append(await channel.call(ECHO, piece))

        async with anyio.create_task_group() as group:
            for piece in octets:
                group.start_soon(ask, piece)
    assert echoed == octets
