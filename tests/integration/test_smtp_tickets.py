"""TLS sessions that are taken up again, and no longer than they may."""

from __future__ import annotations

import smtplib
import ssl
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from policy.config import Listener, ListenerTls
from policy.pki import selfsigned, server_context
from spool.writer import SpoolWriter
from tests.tools.smtp_server import QUICK, Setting, smtp_server

pytestmark = pytest.mark.anyio


def greet(port: int, context: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[bool, ssl.SSLSession | None]:
    """Whether a session was taken up, and the one that can be next time."""
    with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
        client.ehlo()
        client.docmd("STARTTLS")
        assert client.sock is not None
        inside = client.sock = context.wrap_socket(client.sock, session=session)
        client.file = None
        client.ehlo()
        return bool(inside.session_reused), inside.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(("hold", "is_reused"), [(3600.0, True), (0.3, False)])
async def test_a_session_is_taken_up_until_the_keys_of_its_ticket_are_changed(
    spool: SpoolWriter, tmp_path: Path, version: ssl.TLSVersion, hold: float, is_reused: bool
) -> None:
    pki = selfsigned(str(tmp_path), "mx.example.org")
    listener = Listener("127.0.0.1", 0, tls=ListenerTls.OFFERED, pki=(pki,))
    make = partial(server_context, listener)
    setting = Setting(listener, limits=replace(QUICK, ticket_keys=hold), tls=make(), renew=make)
    context = ssl.create_default_context(cafile=pki.cert)
    context.check_hostname = False
    context.maximum_version = context.minimum_version = version
    async with smtp_server(spool, setting) as server:
        _, session = await to_thread.run_sync(greet, server.port, context, None)
        await anyio.sleep(0.6)
        reused, _ = await to_thread.run_sync(greet, server.port, context, session)
    assert reused is is_reused
