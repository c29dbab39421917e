"""TLS under a session: our side of it, against the TLS of the standard library."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from ingress.secured import RECORD, SecureTransport
from tests.tools.certificates import CertificateAuthority
from tests.tools.loops import BOTH
from tests.tools.smtp_server import HOST

pytestmark = pytest.mark.anyio
PATIENCE = 5.0


@pytest.fixture(params=BOTH)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def here(authority: CertificateAuthority) -> ssl.SSLContext:
    return authority.issue(HOST).server_context()


@pytest.fixture(scope="module")
def trust(authority: CertificateAuthority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.path)


class Ear(asyncio.Protocol):
    """Hears, and remembers."""

    def __init__(self) -> None:
        self.heard = bytearray()
        self.has_ended = asyncio.Event()
        self.came = asyncio.Event()
        self.lost = asyncio.Event()
        self.plain: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.plain = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self.heard += data
        self.came.set()

    def eof_received(self) -> bool:
        self.has_ended.set()
        return True

    def connection_lost(self, error: Exception | None) -> None:
        self.lost.set()


@asynccontextmanager
async def connected(here: ssl.SSLContext) -> AsyncIterator[tuple[SecureTransport, Ear, socket.socket]]:
    near, far = socket.socketpair()
    far.settimeout(PATIENCE)
    ear = Ear()
    await asyncio.get_running_loop().connect_accepted_socket(lambda: ear, near)
    assert ear.plain is not None
    try:
        yield SecureTransport(ear.plain, ear, here), ear, far
    finally:
        ear.plain.abort()
        far.close()


@asynccontextmanager
async def shaken(secured: SecureTransport, far: socket.socket, trust: ssl.SSLContext) -> AsyncIterator[ssl.SSLSocket]:
    """Both sides of a handshake."""
    done: list[ssl.SSLSocket] = []

    async def other_side() -> None:
        done.append(await anyio.to_thread.run_sync(lambda: trust.wrap_socket(far, server_hostname=HOST)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(other_side)
        await secured.handshake(b"", PATIENCE)
    with done[0] as client:
        yield client


async def send(client: ssl.SSLSocket, octets: bytes) -> None:
    await anyio.to_thread.run_sync(client.sendall, octets)


async def until(ear: Ear, count: int) -> bytes:
    with anyio.fail_after(PATIENCE):
        while len(ear.heard) < count:
            ear.came.clear()
            await ear.came.wait()
    return bytes(ear.heard)


async def test_what_is_said_arrives_in_both_directions(here: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with connected(here) as (secured, ear, far), shaken(secured, far, trust) as client:
        octets = bytes(range(256)) * 1000
        await anyio.to_thread.run_sync(client.sendall, octets)
        assert await until(ear, len(octets)) == octets
        secured.write(b"an answer")
        assert await anyio.to_thread.run_sync(client.recv, 100) == b"an answer"
        assert secured.get_extra_info("ssl_object").version() == client.version()


async def test_a_session_that_does_not_read_is_told_nothing_and_loses_nothing(
    here: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    async with connected(here) as (secured, ear, far), shaken(secured, far, trust) as client:
        secured.pause_reading()
        octets = b"x" * 4 * RECORD
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(send, client, octets)
            await anyio.sleep(0.05)
            assert not ear.heard
            secured.resume_reading()
            assert await until(ear, len(octets)) == octets


async def test_an_end_without_a_word_is_an_end_behind_everything_that_was_said(
    here: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    async with connected(here) as (secured, ear, far), shaken(secured, far, trust) as client:
        client.sendall(b"QUIT\r\n")
        client.shutdown(socket.SHUT_WR)
        with anyio.fail_after(PATIENCE):
            await ear.has_ended.wait()
        assert ear.heard == b"QUIT\r\n"
        assert not secured.is_closing()


async def test_our_end_is_announced(here: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with connected(here) as (secured, ear, far), shaken(secured, far, trust) as client:
        secured.write(b"221 bye\r\n")
        secured.close()
        said = await anyio.to_thread.run_sync(client.recv, 100)
        # Without the announcement this raises SSLEOFError.
        assert said + await anyio.to_thread.run_sync(client.recv, 100) == b"221 bye\r\n"
        with anyio.fail_after(PATIENCE):
            await ear.lost.wait()


async def test_a_handshake_that_came_in_single_octets_succeeds(here: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with connected(here) as (secured, _, far):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = trust.wrap_bio(incoming, outgoing, server_hostname=HOST)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        hello = outgoing.read()

        async def rest() -> None:
            for octet in hello[1:]:
                far.send(bytes([octet]))
                await anyio.lowlevel.checkpoint()
            while True:
                incoming.write(await anyio.to_thread.run_sync(far.recv, RECORD))
                try:
                    client.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    continue
            far.send(outgoing.read())

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(rest)
            await secured.handshake(hello[:1], PATIENCE)


async def test_what_is_no_handshake_fails_with_its_reason(here: ssl.SSLContext) -> None:
    async with connected(here) as (secured, _, far):
        far.send(b"EHLO plain.example\r\n")
        with pytest.raises(ssl.SSLError, match=r"WRONG_VERSION_NUMBER|HTTP_REQUEST"):
            await secured.handshake(b"", PATIENCE)
        assert secured.is_closing()


async def test_a_handshake_has_its_time(here: ssl.SSLContext) -> None:
    async with connected(here) as (secured, _, _far):
        with pytest.raises(ConnectionAbortedError, match=r"within 0\.05 s"):
            await secured.handshake(b"", 0.05)
        assert secured.is_closing()


async def test_a_client_that_goes_within_the_handshake_ends_it(here: ssl.SSLContext) -> None:
    async with connected(here) as (secured, _, far):
        far.close()
        with pytest.raises(ConnectionError):
            await secured.handshake(b"", PATIENCE)


async def test_nonsense_inside_tls_ends_the_connection(here: ssl.SSLContext, trust: ssl.SSLContext) -> None:
    async with connected(here) as (secured, ear, far), shaken(secured, far, trust) as client:
        os.write(client.fileno(), b"\x17\x03\x03\x00\x20" + b"x" * 32)
        with anyio.fail_after(PATIENCE):
            await ear.lost.wait()
        assert not ear.heard
