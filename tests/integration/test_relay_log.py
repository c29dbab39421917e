"""What the log says of relaying, in the words that people's filters know."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from delivery.consignment import duration
from policy.config import Relay, RelayTls
from spool.address import parse_address
from spool.message import Destination
from tests.tools.certificates import CertificateAuthority
from tests.tools.recording_sink import Act, RecordingSink
from tests.tools.relaying import Letter, Secrets, batch, house, route_to, to_host

pytestmark = pytest.mark.anyio


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The lines, with words in place of what varies."""
    text = "\n".join(record.getMessage() for record in caplog.records if record.name == "delivery.relay")
    for pattern, word in ((r"^[0-9a-f]{16} ", "SID "), (r":\d{4,5}\b", ":PORT"), (r"[0-9a-v]{20}\.", "MSG.")):
        text = re.sub(pattern, word, text, flags=re.MULTILINE)
    return text.split("\n")


async def test_a_delivery_is_told_from_connecting_to_disconnecting(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "delivery")
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        sink.on("RCPT", Act("550 5.1.1 nobody here"), containing="b@")
        sink.on("RCPT", Act("451 4.2.1 not now"), containing="c@")
        await sender.send(Letter(to=("a@example.org", "b@example.org", "c@example.org")))
    envelope = 'from=<ann@example.com> to=<{}@example.org> rcpt=<-> source="127.0.0.1" relay="127.0.0.1"'
    lines = [re.sub(r"delay=\S+", "delay=D", line) for line in said(caplog)]
    assert lines == [
        "SID mta connecting address=smtp://127.0.0.1:PORT host=127.0.0.1",
        "SID mta connected address=127.0.0.1",
        f'SID mta delivery evpid=MSG.1 {envelope.format("a")} delay=D result="Ok" stat="250 2.0.0 Ok: queued"',
        f'SID mta delivery evpid=MSG.2 {envelope.format("b")} delay=D result="PermFail" stat="550 5.1.1 nobody here"',
        f'SID mta delivery evpid=MSG.3 {envelope.format("c")} delay=D result="TempFail" stat="451 4.2.1 not now"',
        "SID mta disconnected reason=quit messages=1",
    ]


async def test_the_recipient_that_was_given_is_told_when_it_is_another(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "delivery")
    async with RecordingSink() as sink:
        action = Relay(name="relay", hosts=(to_host(sink.port),))
        async with house(action) as sender:
            (item,) = batch().items
            elsewhere = replace(item.envelope, destination=Destination(parse_address("bob@elsewhere.example")))
            sent = replace(batch(), items=(replace(item, envelope=elsewhere),))
            await sender.relayer.deliver(sent, route_to(action))
    assert sink.messages[0].rcpts == ("TO:<bob@elsewhere.example>",)
    assert any("to=<bob@elsewhere.example> rcpt=<bob@example.org>" in line for line in said(caplog))


async def test_tls_is_told_with_ciphers_and_certificate(
    caplog: pytest.LogCaptureFixture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    caplog.set_level("INFO", "delivery")
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    async with RecordingSink(tls=authority.issue("127.0.0.1").server_context()) as sink:
        hosts = (to_host(sink.port, RelayTls.REQUIRED),)
        async with house(Relay(name="relay", hosts=hosts, ca=authority.path)) as sender:
            await sender.send()
    ciphers, checked = said(caplog)[2:4]
    assert re.fullmatch(r"SID mta tls ciphers=TLSv1\.3:TLS_[A-Z0-9_]+:(128|256)", ciphers)
    assert re.fullmatch(r'SID mta cert-check result="valid" fingerprint="SHA256:[0-9a-f]{64}"', checked)


async def test_a_trouble_is_told_once_as_error_and_once_for_the_envelope(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "delivery")
    async with RecordingSink() as sink, house(Relay(name="relay", hosts=(to_host(sink.port),))) as sender:
        sink.on("connect", Act("421 4.3.2 closing"))
        await sender.send()
    _, _, error, delivery = said(caplog)
    assert error == "SID mta error reason=421 4.3.2 closing"
    assert delivery.endswith('result="TempFail" stat="421 4.3.2 closing"')


async def test_no_password_is_ever_told(
    caplog: pytest.LogCaptureFixture, tmp_path_factory: pytest.TempPathFactory
) -> None:
    caplog.set_level(1)
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    context = authority.issue("127.0.0.1").server_context()
    async with RecordingSink(tls=context, users={"login": "right"}) as sink:
        hosts = (to_host(sink.port, RelayTls.REQUIRED, "label"),)
        secrets = Secrets({"label": "login:tell-nobody"})
        async with house(Relay(name="relay", hosts=hosts, ca=authority.path, auth=secrets)) as sender:
            (attempt,) = await sender.send()
    everything = caplog.text + repr(attempt)
    assert "535 5.7.8" in everything
    assert "tell-nobody" not in everything
    assert "login" not in everything


@pytest.mark.parametrize(
    ("milliseconds", "text"), [(0, "0s"), (-5, "0s"), (61_000, "1m1s"), (90_061_000, "1d1h1m1s"), (3_600_000, "1h")]
)
async def test_durations_are_told_without_their_empty_parts(milliseconds: int, text: str) -> None:
    assert duration(milliseconds) == text
