"""Mail goes by MX from a real DNS server, under the seed's mail server configuration."""

from __future__ import annotations

import pytest

from tests.peers.machine import Machine
from tests.peers.postfix import Authority, make_postfix
from tests.peers.spooler import Spooler

pytestmark = pytest.mark.timeout(240)


def start_dns(machine: Machine, *records: str) -> None:
    """Debian's dnsmasq with these records and nothing else."""
    lines = ["no-resolv", "no-hosts", "no-daemon", "listen-address=127.0.0.1", "bind-interfaces", "local=/#/", *records]
    machine.write("/etc/dnsmasq-test.conf", "\n".join(lines) + "\n")
    machine.start(["dnsmasq", "--conf-file=/etc/dnsmasq-test.conf", "--user=root"], "/var/log/dnsmasq.log")
    machine.wait_port("127.0.0.1", 53)


def make_mail_server(machine: Machine, authority: Authority) -> Spooler:
    """The seed's nine lines, with a certificate and its users."""
    for login in ("roger", "shirley"):
        machine.add_user(login)
    certificate, key = authority.issue("mx.domain.tld")
    machine.write("/etc/smtpd/tls/smtpd.crt", certificate)
    machine.write("/etc/smtpd/tls/smtpd.key", key, 0o600)
    spooler = Spooler(machine)
    users = "roger@personaldomain.org roger\ninfo@businessname.com roger,shirley\n"
    spooler.seed("mailserver.conf", {"vdoms": "personaldomain.org\nbusinessname.com\n", "vusers": users, "creds": "\n"})
    return spooler


@pytest.fixture
def authority(machine: Machine, tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(machine, tmp_path_factory.mktemp("ca"))


def test_local_mail_for_elsewhere_goes_to_the_domains_mx(machine: Machine, authority: Authority) -> None:
    near = make_postfix(machine, "near", "127.0.0.5", "mx1.remote.example")
    near.start()
    start_dns(
        machine,
        "mx-host=remote.example,mx1.remote.example,10",
        "mx-host=remote.example,mx2.remote.example,20",
        "host-record=mx1.remote.example,127.0.0.5",
        "host-record=mx2.remote.example,127.0.0.6",
    )
    spooler = make_mail_server(machine, authority)
    spooler.start()
    machine.run(["/usr/sbin/sendmail", "-i", "ann@remote.example"], stdin="Subject: m\n\nby mx\n")
    (message,) = near.wait_messages(1)
    assert b"by mx" in message


def test_the_next_mx_is_tried_when_the_first_is_down(machine: Machine, authority: Authority) -> None:
    far = make_postfix(machine, "far", "127.0.0.6", "mx2.remote.example")
    far.start()
    start_dns(
        machine,
        "mx-host=remote.example,mx1.remote.example,10",
        "mx-host=remote.example,mx2.remote.example,20",
        "host-record=mx1.remote.example,127.0.0.5",
        "host-record=mx2.remote.example,127.0.0.6",
    )
    spooler = make_mail_server(machine, authority)
    spooler.start()
    machine.run(["/usr/sbin/sendmail", "-i", "ann@remote.example"], stdin="Subject: m\n\nby the second mx\n")
    far.wait_messages(1)


def test_a_domain_that_does_not_exist_comes_back_as_a_bounce(machine: Machine, authority: Authority) -> None:
    start_dns(machine, "host-record=other.example,127.0.0.7")
    spooler = make_mail_server(machine, authority)
    spooler.start()
    machine.run(
        ["/usr/sbin/sendmail", "-i", "-f", "roger@personaldomain.org", "ann@nowhere.example"], stdin="Subject: m\n\nx\n"
    )
    mailbox = spooler.wait_mailbox("roger", "Status: 5.1.2")
    assert "Action: failed" in mailbox


def test_mail_from_the_world_for_two_users_reaches_both_mailboxes(machine: Machine, authority: Authority) -> None:
    start_dns(machine)
    spooler = make_mail_server(machine, authority)
    spooler.start()
    arguments = ["--server", "192.0.2.10", "--tls", "--from", "x@remote.example", "--to", "info@businessname.com"]
    machine.run(["swaks", *arguments, "--body", "hello both"])
    spooler.wait_mailbox("roger", "hello both")
    spooler.wait_mailbox("shirley", "hello both")


def test_mail_from_the_world_for_the_world_is_refused(machine: Machine, authority: Authority) -> None:
    spooler = make_mail_server(machine, authority)
    spooler.start()
    # A stranger's address: the machine gets it only now, so the daemon does not count it among its own.
    machine.run(["ip", "address", "add", "192.0.2.77/24", "dev", "eth0"])
    arguments = ["--server", "192.0.2.10", "--local-interface", "192.0.2.77"]
    done = machine.run(["swaks", *arguments, "--from", "x@remote.example", "--to", "y@elsewhere.example"], check=False)
    assert "550" in done.stdout
