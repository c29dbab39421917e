"""A daemon that starts while the machine still tries out its addresses."""

from __future__ import annotations

from tests.peers.machine import VENV, Machine

ADDRESS = "fd00:5::1"
CODE = f"""
import ingress.openings, policy.config
sock = ingress.openings.bind(policy.config.Listener({ADDRESS!r}, 2525), "")
sock.listen()
print(sock.getsockname()[0])
"""


def test_an_address_that_the_neighbours_are_still_asked_about_can_be_listened_on(machine: Machine) -> None:
    machine.run(["sh", "-c", "echo 60 >/proc/sys/net/ipv6/conf/eth0/dad_transmits"])
    machine.run(["ip", "address", "add", f"{ADDRESS}/64", "dev", "eth0"])
    assert machine.run([str(VENV / "python"), "-c", CODE]).stdout == f"{ADDRESS}\n"
    assert "tentative" in machine.run(["ip", "address", "show", "dev", "eth0", "to", ADDRESS]).stdout
