"""Clients of our SMTP server that tests drive step by step."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from tests.tools.dialog import Client
from tests.tools.smtp_server import Server

HELLO = "client.example"


def anybody() -> ssl.SSLContext:
    """Trusts every certificate: these tests are about what is said inside."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


@asynccontextmanager
async def connected(server: Server) -> AsyncIterator[Client]:
    """A client that has read the greeting, if there is one in plain text."""
    async with _connected(server) as client:
        assert (await client.line()).startswith("220 ")
        yield client


@asynccontextmanager
async def unwelcome(server: Server) -> AsyncIterator[Client]:
    """A client that has read nothing yet."""
    async with _connected(server) as client:
        yield client


@asynccontextmanager
async def _connected(server: Server) -> AsyncIterator[Client]:
    if isinstance(server.address, str):
        client = Client(await anyio.connect_unix(server.address), anybody())
    else:
        client = Client(await anyio.connect_tcp(*server.address[:2]), anybody())
    try:
        yield client
    finally:
        await client.close()


async def greet(client: Client) -> None:
    """EHLO."""
    assert (await client.ask(f"EHLO {HELLO}")).startswith("250 ")


async def begin(client: Client, *recipients: str, sender: str = "ann@example.com") -> None:
    """EHLO, MAIL, RCPT and DATA; the content is next."""
    await greet(client)
    assert (await client.ask(f"MAIL FROM:<{sender}>")).startswith("250 ")
    for recipient in recipients or ("bob@here.example",):
        assert (await client.ask(f"RCPT TO:<{recipient}>")).startswith("250 ")
    assert (await client.ask("DATA")).startswith("354 ")


async def give(client: Client, content: bytes) -> str:
    """Send content that needs no dot-stuffing, and the dot; the reply."""
    await client.send(content + b".\r\n")
    return await client.line()
