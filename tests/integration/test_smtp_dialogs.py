"""The dialogues of tests/dialogs/, against our server over a real spool."""

from __future__ import annotations

import ssl
from pathlib import Path

import anyio
import pytest

from spool.writer import SpoolWriter
from tests.tools.certificates import CertificateAuthority
from tests.tools.dialog import Client, play, read_dialog
from tests.tools.loops import BOTH
from tests.tools.smtp_server import HOST, smtp_server
from tests.tools.spooled import take

DIALOGS = sorted((Path(__file__).parents[1] / "dialogs").glob("*.dialog"))


@pytest.fixture(params=BOTH)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    return CertificateAuthority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def server_tls(authority: CertificateAuthority) -> ssl.SSLContext:
    return authority.issue(HOST).server_context()


@pytest.fixture(scope="module")
def trust(authority: CertificateAuthority) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=authority.path)
    context.check_hostname = False
    return context


@pytest.mark.anyio
@pytest.mark.parametrize("path", DIALOGS, ids=lambda path: path.stem)
async def test_the_server_keeps_to_the_dialogue(
    path: Path, spool: SpoolWriter, server_tls: ssl.SSLContext, trust: ssl.SSLContext
) -> None:
    async def spooled() -> int:
        return len({claimed.message.id for claimed in await take(spool)})

    dialog = read_dialog(path, server_tls)
    async with smtp_server(spool, dialog.setting) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        client = Client(stream, trust)
        try:
            await play(dialog, client, spooled)
        finally:
            await client.close()
