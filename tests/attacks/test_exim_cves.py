"""What has broken Exim, tried on this daemon: expansions in addresses, and texts that grow out of their place.

CVE-2019-10149. The local part ``${run{/bin/sh -c ...}}`` was expanded when the message was delivered, as root. Its kin: a
recipient ``|command`` or ``/file`` that is taken for the right-hand side of an alias; ``%{...}`` that is taken for a format
specifier. Here an address is data: tables alone say what a target is, specifiers are replaced once, in the operator's text.

CVE-2020-28021 (of the "21 Nails"). An encoded line end in ``AUTH=`` of MAIL became a line of the spool's header file. Here
what xtext stands for must be printable too, and the spool has columns.

CVE-2018-6789. Base64 of an odd length in AUTH wrote beyond a buffer. CVE-2019-15846 and CVE-2019-16928: a name in the TLS
handshake that ends in a backslash, and a very long EHLO, did so too. CVE-2017-16943: BDAT used what had been freed. Here
lengths are bounded before anything is decoded, and there is no BDAT.

CVE-2014-6271 ("Shellshock"). A delivery agent got the recipient in its environment, and a shell that it started took a value
``() { :;}; command`` for a function. Here no value in the environment of a command begins so.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from policy.pki import selfsigned
from tests.tools.besieged import Besieged, besieged
from tests.tools.daemon import wait_for
from tests.tools.stranger import Stranger

#: One daemon serves all of them.
pytestmark = pytest.mark.xdist_group("attacks: exim")

#: Nothing is delivered by a command as root.
USER = "games" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
CONFIGURATION = """\
pki box.example.net cert "/box.example.net.crt"
pki box.example.net key "/box.example.net.key"
table known { "bob" = USER, "@catchall.example" = USER, "refused" = "error:550 no" }
listen on 127.0.0.1 port $port tls pki box.example.net
action run mda "/bin/sh SCRIPT %{sender} %{rcpt}" virtual <known>
action into maildir "/boxes/%{dest.user}/Maildir" virtual { "@" = USER }
action onward relay host "smtp+notls://127.0.0.1:$sink"
match from any for domain { "known.example", "catchall.example" } action run
match from any for domain "paths.example" action into
match for any action onward
"""
SCRIPT = """\
cd FOLDER || exit 75
for argument; do echo "argument $argument"; done >"run.$$"
env >>"run.$$"
cat >>"run.$$"
mv "run.$$" "done.$$"
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="mailspool-attacks-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def house(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Besieged]:
    (folder / "script").write_text(SCRIPT.replace("FOLDER", str(folder)))
    text = CONFIGURATION.replace("SCRIPT", str(folder / "script")).replace("FOLDER", str(folder))
    root = tmp_path_factory.mktemp("exim")
    selfsigned(str(root), "box.example.net")
    with besieged(root, text.replace("USER", USER)) as house:
        yield house


@pytest.mark.parametrize(
    "local",
    [
        "${run{/bin/touch CANARY}}",
        "root+${run{\\x2Fbin\\x2Ftouch CANARY}}",
        "${readfile{/etc/shadow}}",
        "${lookup{root}lsearch{/etc/shadow}}",
        "|touch CANARY",
        "|/bin/touch CANARY",
        "/etc/cron.d/evil",
        "/../../../../CANARY",
        ":include:/etc/shadow",
        "error:250 ok",
        "%{user.directory}",
        "%{sender}%{rcpt}%{mbox.from}",
        "%(touch CANARY)",
        "$HOME",
        "~root/CANARY",
        "bob, |touch CANARY",
        "bob\\, \\|touch CANARY",
    ],
)
def test_cve_2019_10149_an_address_is_never_expanded(house: Besieged, folder: Path, local: str) -> None:
    canary = folder / "CANARY"
    text = local.replace("CANARY", str(canary))
    written = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    before = len(list(folder.glob("done.*")))
    with Stranger(house.daemon.port) as client:
        client.hello()
        client.ask(f"MAIL FROM:<{written}@evil.example>")
        # Nobody is called so where users are listed.
        assert client.ask(f"RCPT TO:<{written}@known.example>").startswith("550 5.1.1 ")
        # Where every name is somebody's, it is a name.
        assert client.ask(f"RCPT TO:<{written}@catchall.example>").startswith("250 ")
        assert client.ask("DATA").startswith("354 ")
        assert client.ask("Subject: x\r\n\r\nx\r\n.").startswith("250 ")
    wait_for(lambda: len(list(folder.glob("done.*"))) > before, "the delivery")
    assert not canary.exists()
    newest = max(folder.glob("done.*"), key=lambda path: path.stat().st_mtime_ns).read_text()
    assert f"LOCAL={text}\n" in newest
    arguments = [line for line in newest.splitlines() if line.startswith("argument ")]
    assert len(arguments) == 2
    assert not any(set("$`|;&<>%{}()\\\"' ") & set(line.removeprefix("argument ")) for line in arguments)


@pytest.mark.skipif(os.geteuid() != 0, reason="an ordinary user may write where the deposits are made")
def test_an_address_leads_out_of_no_directory(house: Besieged) -> None:
    """The user may not write there, so that each deposit says where it would have been made."""
    with Stranger(house.daemon.port) as client:
        client.hello()
        client.ask("MAIL FROM:<ann@onward.example>")
        for local in ('"../../../etc/x"', '".."', '"a/../../b"', '"../evil"'):
            assert client.ask(f"RCPT TO:<{local}@paths.example>").startswith("250 ")
        assert client.ask("RCPT TO:<../evil@paths.example>").startswith("501 ")
        client.ask("DATA")
        assert client.ask("Subject: to a path\r\n\r\nx\r\n.").startswith("250 ")
    report = house.relayed(b"leads out of its directory")
    assert report.body.count(b"Final-Recipient") == 1
    wait_for(lambda: len([row for row in house.daemon.queue() if row["error"]]) == 3, "an attempt for each")
    places = sorted(row["error"].partition("/boxes/")[2].partition("/Maildir")[0] for row in house.daemon.queue())
    assert places == ["..:..:..:etc:x", "..:evil", "a:..:..:b"]
    house.daemon.smtpctl("remove", "all")


@pytest.mark.parametrize(
    "argument",
    [
        "FROM:<a@x.example> AUTH=a@x.example+0AReceived:+20evil",
        "FROM:<a@x.example> AUTH=a+0D+0Ab",
        "FROM:<a@x.example> AUTH=a+00b",
        "FROM:<a@x.example> ENVID=x+0Ay",
        "FROM:<a@x.example> ENVID=x+7Fy",
    ],
)
def test_cve_2020_28021_an_encoded_line_end_is_none(house: Besieged, argument: str) -> None:
    with Stranger(house.daemon.port) as client:
        client.hello()
        assert client.ask(f"MAIL {argument}").startswith("501 5.5.4 ")
        client.ask("MAIL FROM:<a@x.example>")
        assert client.ask("RCPT TO:<bob@known.example> ORCPT=rfc822;a+0Ab").startswith("501 5.5.4 ")


def secured(house: Besieged) -> Stranger:
    client = Stranger(house.daemon.port)
    client.hello()
    client.ask("STARTTLS")
    client.secure()
    client.ask("EHLO c.example")
    return client


def test_cve_2019_16928_a_very_long_greeting_is_refused(house: Besieged) -> None:
    for size in (255, 256, 1000, 2036, 2043, 2044, 11_000, 200_000):
        with Stranger(house.daemon.port) as client:
            client.reply()
            client.send(b"EHLO " + b"a" * size + b"\r\n")
            try:
                assert client.reply()[:4] in ("500 ", "501 ", "250-")
            except ConnectionError:
                assert size > 10_000


@pytest.mark.parametrize(
    "name", [b"box\\", b"\\", b"a" * 255, b"box\0evil", b"../../etc/shadow", b"*", b"${run{x}}", b"%00"]
)
def test_cve_2019_15846_a_name_in_the_handshake_is_only_a_name(house: Besieged, name: bytes) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    hello = context.wrap_bio(incoming, outgoing, server_hostname="n" * len(name) if len(name) < 60 else "n." * 30)
    with pytest.raises(ssl.SSLWantReadError):
        hello.do_handshake()
    own = b"n" * len(name) if len(name) < 60 else b"n." * 30
    octets = outgoing.read().replace(own, (name * 60)[: len(own)])
    with Stranger(house.daemon.port) as client:
        client.hello()
        client.ask("STARTTLS")
        client.send(octets)
    with Stranger(house.daemon.port) as client:
        assert client.hello().startswith("250")


@pytest.mark.parametrize(
    "value", ["() { :;}; touch CANARY", "() { x() { _; }; x() { _; } <<a; }", " () { :;}; x", "(){ :;};x"]
)
def test_cve_2014_6271_no_value_in_the_environment_is_a_function(house: Besieged, folder: Path, value: str) -> None:
    canary = folder / "canary-6271"
    local = '"' + value.replace("CANARY", str(canary)) + '"'
    before = len(list(folder.glob("done.*")))
    with Stranger(house.daemon.port) as client:
        client.begin(f"{local}@catchall.example", sender=f"{local}@evil.example")
        assert client.ask(f"Subject: {value}\r\nX-Test: {value}\r\n\r\nx\r\n.").startswith("250 ")
    wait_for(lambda: len(list(folder.glob("done.*"))) > before, "the delivery")
    newest = max(folder.glob("done.*"), key=lambda path: path.stat().st_mtime_ns).read_text()
    environment = [line for line in newest.partition("\nReturn-Path")[0].splitlines() if "=" in line]
    values = [line.partition("=")[2] for line in environment]
    assert any("{" in each for each in values)
    assert not any(each.lstrip().startswith("()") for each in values)
    assert not canary.exists()


def test_a_session_cut_off_in_the_middle_of_base64_ends(house: Besieged) -> None:
    """CVE-2018-6789, against a listener without AUTH: nothing is decoded at all."""
    with secured(house) as client:
        for size in range(1, 9):
            assert client.ask("AUTH PLAIN " + "A" * size).startswith("503 ")


def test_a_connection_that_says_nothing_right_is_closed(house: Besieged) -> None:
    with Stranger(house.daemon.port) as client:
        client.reply()
        client.send(bytes(range(256)) * 200)
        with contextlib.suppress(ConnectionError):
            assert b"421 " in client.rest()
    with socket.create_connection(("127.0.0.1", house.daemon.port), 5) as probe:
        assert probe.recv(100).startswith(b"220 ")
