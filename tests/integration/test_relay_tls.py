"""TLS and passwords towards other servers: what is demanded, what is refused, and what is never sent in plain text."""

from __future__ import annotations

import base64
import shutil
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from delivery.tls import TlsContexts, TlsTerms
from policy.config import Pki, Relay, RelayTls
from policy.tables import service
from policy.tables.sourced import SourcedTable
from policy.tables.table import Shape
from spool.outcome import Attempt, Deferred, Delivered, Stage
from tests.tools.certificates import CertificateAuthority, Issued
from tests.tools.recording_sink import Act, RecordingSink
from tests.tools.relaying import BRIEF, Secrets, house, to_host

pytestmark = pytest.mark.anyio


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Their TLS transports are made differently, and both are taken over from who made them."""
    return "asyncio", {"use_uvloop": request.param}


REQUIRED, IMPLICIT = RelayTls.REQUIRED, RelayTls.IMPLICIT
USERS = {"user": "pass:word"}
SECRETS = Secrets({"label": "user:pass:word"})


@dataclass
class Tls:
    """An authority, and a certificate for 127.0.0.1 that it signed."""

    authority: CertificateAuthority
    issued: Issued

    def sink(self, *, implicit: bool = False, users: dict[str, str] | None = None) -> RecordingSink:
        return RecordingSink(tls=self.issued.server_context(), implicit=implicit, users=users)

    def relay(self, sink: RecordingSink, scheme: RelayTls, label: str = "", **more: object) -> Relay:
        ordinary: dict[str, object] = {"ca": self.authority.path, "auth": SECRETS if label else None}
        hosts = (to_host(sink.port, scheme, label),)
        return Relay(name="relay", hosts=hosts, **(ordinary | more))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    authority = CertificateAuthority(tmp_path_factory.mktemp("ca"))
    return Tls(authority, authority.issue("127.0.0.1"))


# -- versions and ciphers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "negotiated"),
    [
        ({"protocols": "tlsv1.2", "ciphers": "ECDHE-ECDSA-CHACHA20-POLY1305"}, "TLSv1.2:ECDHE-ECDSA-CHACHA20-POLY1305"),
        ({"protocols": "TLSv1.3"}, "TLSv1.3:"),
    ],
)
async def test_only_what_the_operator_allows_is_negotiated(tls: Tls, more: dict[str, str], negotiated: str) -> None:
    async with tls.sink() as sink, house(tls.relay(sink, REQUIRED, **more)) as sender:
        (attempt,) = await sender.send()
    assert isinstance(attempt, Attempt)
    assert isinstance(attempt.outcome, Delivered)
    assert negotiated in attempt.route


# -- verification -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", [REQUIRED, IMPLICIT])
async def test_mail_goes_through_verified_tls_and_the_history_says_so(tls: Tls, scheme: RelayTls) -> None:
    async with tls.sink(implicit=scheme is IMPLICIT) as sink, house(tls.relay(sink, scheme)) as sender:
        (attempt,) = await sender.send()
    assert isinstance(attempt, Attempt)
    assert isinstance(attempt.outcome, Delivered)
    assert attempt.route.startswith(f"{scheme.value}://127.0.0.1:{sink.port} TLSv1.3:TLS_")
    assert attempt.route.endswith(" verified")
    assert sink.messages[0].peer.tls


BAD = {
    "another name": ("another.example", 1, "IP address mismatch"),
    "expired": ("127.0.0.1", -1, "certificate has expired"),
}


@pytest.mark.parametrize("scheme", [REQUIRED, IMPLICIT])
@pytest.mark.parametrize("bad", BAD)
async def test_a_bad_certificate_gets_no_mail_and_no_password(
    tls: Tls, tmp_path: Path, scheme: RelayTls, bad: str
) -> None:
    name, days, reason = BAD[bad]
    authority = CertificateAuthority(tmp_path)
    sink = RecordingSink(
        tls=authority.issue(name, days).server_context(), implicit=scheme is IMPLICIT, users=dict(USERS)
    )
    async with sink, house(tls.relay(sink, scheme, "label", ca=authority.path)) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.TLS
    assert reason in outcome.reply.text
    assert outcome.reply.status == "4.7.5"
    assert not [command for peer in sink.peers for command in peer.commands if command.startswith(("AUTH", "MAIL"))]


async def test_a_certificate_of_a_stranger_is_refused_without_ca(tls: Tls) -> None:
    async with tls.sink() as sink, house(tls.relay(sink, REQUIRED, ca="")) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert "unable to get local issuer certificate" in outcome.reply.text


async def test_no_verify_takes_any_certificate_and_says_so(tls: Tls) -> None:
    async with tls.sink() as sink, house(tls.relay(sink, REQUIRED, ca="", no_verify=True)) as sender:
        (attempt,) = await sender.send()
    assert isinstance(attempt, Attempt)
    assert isinstance(attempt.outcome, Delivered)
    assert attempt.route.endswith(" unverified (no-verify)")


async def test_a_name_is_verified_by_the_name_of_the_url(tls: Tls) -> None:
    sink = RecordingSink(tls=tls.authority.issue("localhost").server_context())
    async with sink:
        action = Relay(name="relay", hosts=(to_host(sink.port, REQUIRED, host="localhost"),), ca=tls.authority.path)
        async with house(action) as sender:
            assert isinstance(await sender.outcome(), Delivered)


async def test_our_certificate_is_shown_to_who_asks(tls: Tls) -> None:
    ours = tls.authority.issue("box.example.net")
    sink = RecordingSink(tls=tls.issued.server_context(client_authority=tls.authority.path))
    async with sink:
        with_pki = tls.relay(sink, REQUIRED, pki=Pki("box", ours.cert, ours.key))
        async with house(with_pki) as sender:
            assert isinstance(await sender.outcome(), Delivered)
    assert sink.messages[0].peer.certificate


async def test_a_certificate_of_ours_that_is_missing_defers_and_names_the_file(tls: Tls) -> None:
    async with tls.sink() as sink:
        action = tls.relay(sink, REQUIRED, pki=Pki("box", "/nonexistent.crt", "/nonexistent.key"))
        async with house(action) as sender:
            outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.ROUTE
    assert "/nonexistent.crt" in outcome.reply.text


async def test_a_renewed_authority_counts_at_the_next_connection(tls: Tls, tmp_path: Path) -> None:
    ca = shutil.copy(CertificateAuthority(tmp_path).path, tmp_path / "ca.pem")
    async with tls.sink() as sink, house(tls.relay(sink, REQUIRED, ca=str(ca))) as sender:
        assert isinstance(await sender.outcome(), Deferred)
        shutil.copy(tls.authority.path, ca)
        assert isinstance(await sender.outcome(), Delivered)


# -- STARTTLS ---------------------------------------------------------------------------------------------------------


async def test_required_tls_is_not_given_up_when_starttls_is_not_offered(tls: Tls) -> None:
    async with RecordingSink() as sink, house(tls.relay(sink, REQUIRED)) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.TLS
    assert "does not offer STARTTLS" in outcome.reply.text
    assert sink.messages == []


BREAKS = {
    "refused": ("STARTTLS", Act("454 4.7.0 not available")),
    "unknown": ("STARTTLS", Act("501 no")),
    "cut": ("STARTTLS", Act(b"", cut=True)),
    "not TLS": ("handshake", Act(b"250 certainly no TLS\r\n", cut=True)),
    "cut in the handshake": ("handshake", Act(b"", cut=True)),
}


@pytest.mark.parametrize("how", BREAKS)
async def test_required_tls_is_not_given_up_when_starttls_breaks(tls: Tls, how: str) -> None:
    async with tls.sink() as sink, house(tls.relay(sink, REQUIRED, "label")) as sender:
        sink.on(*BREAKS[how])
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.TLS
    assert sink.messages == []


async def test_what_is_injected_after_starttls_is_never_taken_for_the_servers_word(tls: Tls) -> None:
    """In the same segment as the 220 comes an answer to an EHLO that we have not sent yet (RFC 3207 6)."""
    sink = tls.sink()
    async with sink, house(tls.relay(sink, REQUIRED, "label")) as sender:
        sink.on("STARTTLS", Act(b"220 go\r\n250-injected\r\n250 AUTH PLAIN\r\n"))
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert "AUTH" in outcome.reply.text
    assert not [command for command in sink.peers[0].commands if command.startswith("AUTH")]


async def test_opportunistic_tls_takes_any_certificate(tls: Tls) -> None:
    async with tls.sink() as sink, house(tls.relay(sink, RelayTls.OPPORTUNISTIC, ca="")) as sender:
        (attempt,) = await sender.send()
    assert isinstance(attempt, Attempt)
    assert attempt.route.endswith(" unverified (opportunistic)")
    assert sink.messages[0].peer.tls


async def test_opportunistic_tls_takes_any_cipher_before_plain_text(tls: Tls) -> None:
    context = tls.authority.issue("old.example", is_rsa=True).server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")
    async with RecordingSink(tls=context) as sink, house(tls.relay(sink, RelayTls.OPPORTUNISTIC, ca="")) as sender:
        (attempt,) = await sender.send()
    assert isinstance(attempt, Attempt)
    assert attempt.route.endswith(" TLSv1.2:AES128-SHA:128 unverified (opportunistic)")


async def test_required_tls_is_not_had_with_a_cipher_of_old(tls: Tls, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    context = authority.issue("127.0.0.1", is_rsa=True).server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:@SECLEVEL=0")
    async with RecordingSink(tls=context) as sink, house(tls.relay(sink, REQUIRED, ca=authority.path)) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.TLS
    assert not sink.messages


@pytest.mark.parametrize("how", BREAKS)
async def test_opportunistic_tls_that_breaks_is_followed_by_plain_text(tls: Tls, how: str) -> None:
    async with tls.sink() as sink, house(tls.relay(sink, RelayTls.OPPORTUNISTIC, ca="")) as sender:
        sink.on(*BREAKS[how])
        (attempt,) = await sender.send()
    assert isinstance(attempt, Attempt)
    assert isinstance(attempt.outcome, Delivered)
    assert " plain text (" in attempt.route
    assert [peer.tls for peer in sink.peers if peer is sink.messages[0].peer] == [False]
    assert len(sink.peers) == 2


async def test_the_history_says_why_mail_went_in_plain_text() -> None:
    async with RecordingSink() as sink, house(Relay(name="out", hosts=(to_host(sink.port),))) as sender:
        (attempt,) = await sender.send()
    assert isinstance(attempt, Attempt)
    assert attempt.route.endswith(" plain text (no STARTTLS offered)")


async def test_plain_text_on_purpose_never_asks_for_tls(tls: Tls) -> None:
    async with tls.sink() as sink, house(tls.relay(sink, RelayTls.NEVER)) as sender:
        assert isinstance(await sender.outcome(), Delivered)
    assert "STARTTLS" not in sink.peers[0].commands


@pytest.mark.parametrize(("scheme", "taken"), [(RelayTls.OPPORTUNISTIC, Delivered), (RelayTls.NEVER, Deferred)])
async def test_the_tls_option_raises_smtp_and_contradicts_notls(tls: Tls, scheme: RelayTls, taken: type) -> None:
    async with tls.sink() as sink, house(tls.relay(sink, scheme, require_tls=True)) as sender:
        (attempt,) = await sender.send()
    assert isinstance(attempt, Attempt)
    assert isinstance(attempt.outcome, taken)
    if taken is Delivered:
        assert attempt.route.startswith("smtp+tls://")
        assert attempt.route.endswith(" verified")
    else:
        assert "TLS required for relaying" in attempt.outcome.reply.text


async def test_a_handshake_that_hangs_is_given_up(tls: Tls) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    try:
        port = listening.getsockname()[1]
        hosts = (to_host(port, IMPLICIT),)
        async with house(Relay(name="relay", hosts=hosts), timeouts=BRIEF) as sender:
            outcome = await sender.outcome()
    finally:
        listening.close()
    assert isinstance(outcome, Deferred)
    assert outcome.stage.closes_lane


# -- passwords --------------------------------------------------------------------------------------------------------


@pytest.fixture
async def smarthost(tls: Tls) -> AsyncIterator[RecordingSink]:
    async with tls.sink(implicit=True, users=dict(USERS)) as sink:
        yield sink


async def test_we_authenticate_as_the_label_says(tls: Tls, smarthost: RecordingSink) -> None:
    async with house(tls.relay(smarthost, IMPLICIT, "label")) as sender:
        assert isinstance(await sender.outcome(), Delivered)
    assert smarthost.messages[0].peer.user == "user"


async def test_a_corrected_password_counts_at_the_next_attempt(tls: Tls, smarthost: RecordingSink) -> None:
    secrets = Secrets({"label": "user:wrong"})
    async with house(tls.relay(smarthost, IMPLICIT, "label", auth=secrets)) as sender:
        outcome = await sender.outcome()
        assert isinstance(outcome, Deferred)
        assert outcome.stage is Stage.AUTH
        assert outcome.reply.text.endswith("535 5.7.8 Error: authentication failed")
        assert outcome.reply.code == 454
        assert "wrong" not in str(outcome)
        secrets.entries["label"] = "user:pass:word"
        assert isinstance(await sender.outcome(), Delivered)


async def test_a_program_that_knows_the_password_is_asked_again_in_time(tls: Tls, smarthost: RecordingSink) -> None:
    class Vault:
        written = "exec:vault"
        lifetime: float | None = 300.0
        text = b"user:wrong\n"

        def read(self) -> bytes:
            assert threading.current_thread() is not threading.main_thread()
            return self.text

    vault, now = Vault(), [0.0]
    table = SourcedTable("secrets", vault, lambda: now[0])
    await anyio.to_thread.run_sync(table.load)
    async with house(
        tls.relay(smarthost, IMPLICIT, "label", auth=table.serving(Shape.MAPPING, service.SECRETS))
    ) as sender:
        assert isinstance(await sender.outcome(), Deferred)
        vault.text = b"user:pass:word\n"
        assert isinstance(await sender.outcome(), Deferred)
        now[0] += 300
        assert isinstance(await sender.outcome(), Delivered)


async def test_a_changed_password_leaves_the_connection_of_the_old_one(tls: Tls, smarthost: RecordingSink) -> None:
    secrets = Secrets({"label": "user:pass:word"})
    async with house(tls.relay(smarthost, IMPLICIT, "label", auth=secrets)) as sender:
        assert isinstance(await sender.outcome(), Delivered)
        secrets.entries["label"] = "user:wrong"
        assert isinstance(await sender.outcome(), Deferred)


async def test_one_wrong_password_is_tried_once(tls: Tls, smarthost: RecordingSink) -> None:
    action = tls.relay(smarthost, IMPLICIT, "label", auth=Secrets({"label": "user:wrong"}))
    async with house(action) as sender:
        await sender.outcome()
    assert [command.startswith("AUTH") for peer in smarthost.peers for command in peer.commands].count(True) == 1


@pytest.mark.parametrize(
    ("secrets", "reason"),
    [
        (Secrets(), 'table secrets has no credentials for "label"'),
        (Secrets({"label": "only-a-user"}), 'table secrets: the value of "label" is not user:password'),
        (Secrets(broken=["table secrets: gone"]), "table secrets: gone"),
    ],
)
async def test_lacking_credentials_defer_and_say_where_they_lack(
    tls: Tls, smarthost: RecordingSink, secrets: Secrets, reason: str
) -> None:
    async with house(tls.relay(smarthost, IMPLICIT, "label", auth=secrets)) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert (outcome.stage, outcome.reply.text) == (Stage.AUTH, reason)
    assert smarthost.peers == []


@pytest.mark.parametrize("scheme", [RelayTls.OPPORTUNISTIC, RelayTls.NEVER])
async def test_a_password_never_goes_without_required_tls(tls: Tls, scheme: RelayTls) -> None:
    async with RecordingSink(users=dict(USERS)) as sink, house(tls.relay(sink, scheme, "label")) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.ROUTE
    assert sink.peers == []


async def test_a_server_without_auth_gets_no_mail_that_needs_it(tls: Tls) -> None:
    async with tls.sink(implicit=True) as sink, house(tls.relay(sink, IMPLICIT, "label")) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert outcome.stage is Stage.AUTH
    assert "neither AUTH PLAIN nor LOGIN is offered" in outcome.reply.text


async def test_a_long_password_waits_for_the_servers_334(tls: Tls) -> None:
    long = "x" * 500
    sink = tls.sink(implicit=True, users={"user": long})
    async with sink, house(tls.relay(sink, IMPLICIT, "label", auth=Secrets({"label": f"user:{long}"}))) as sender:
        assert isinstance(await sender.outcome(), Delivered)
    assert "AUTH PLAIN" in sink.peers[0].commands


async def test_login_serves_where_plain_is_not_offered(tls: Tls) -> None:
    sink = tls.sink(implicit=True)
    sink.offers = (*sink.offers, "AUTH LOGIN")
    async with sink, house(tls.relay(sink, IMPLICIT, "label")) as sender:
        sink.on("AUTH", Act(b"334 UGFzc3dvcmQ6\r\n"))
        sink.on(base64.b64encode(b"pass:word").decode().upper(), Act("235 2.7.0 Welcome"))
        assert isinstance(await sender.outcome(), Delivered)


@pytest.mark.parametrize(
    "echo",
    [
        'unrecognized command "AUTH PLAIN {plain}"',
        "{plain_shorter}: not understood",
        "AUTH PLAIN {plain_upper}",
        "the password pass:word is wrong",
        "{password}: no",
    ],
)
@pytest.mark.parametrize("code", ["454 4.7.0", "535 5.7.8", "999"])
async def test_a_server_that_repeats_our_password_does_not_bring_it_into_our_reports(
    tls: Tls, smarthost: RecordingSink, echo: str, code: str
) -> None:
    plain, password = (base64.b64encode(text).decode() for text in (b"\0user\0pass:word", b"pass:word"))
    said = echo.format(plain=plain, plain_shorter=plain[:-3], plain_upper=plain.upper(), password=password)
    smarthost.on("AUTH", Act(f"{code} {said}"))
    async with house(tls.relay(smarthost, IMPLICIT, "label")) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert "(...)" in str(outcome)
    assert not any(hidden.lower() in str(outcome).lower() for hidden in ("pass:word", plain[8:-3], password[:8]))


async def test_a_temporary_refusal_of_credentials_is_kept_as_it_is(tls: Tls, smarthost: RecordingSink) -> None:
    smarthost.on("AUTH", Act("454 4.7.0 too many logins"))
    async with house(tls.relay(smarthost, IMPLICIT, "label")) as sender:
        outcome = await sender.outcome()
    assert isinstance(outcome, Deferred)
    assert str(outcome.reply) == "454 4.7.0 too many logins"


async def test_tls_of_today_is_demanded() -> None:
    context = TlsContexts().context(TlsTerms(verified=True))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
