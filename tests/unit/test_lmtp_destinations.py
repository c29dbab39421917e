"""Where an LMTP action connects to."""

from __future__ import annotations

import pytest

from delivery.lmtp import host_and_port


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("/run/lmtp", ("/run/lmtp", 0)),
        ("localhost", ("localhost", 25)),
        ("localhost:24", ("localhost", 24)),
        ("192.0.2.1:2400", ("192.0.2.1", 2400)),
        ("[2001:db8::1]", ("2001:db8::1", 25)),
        ("[::1]:24", ("::1", 24)),
    ],
)
def test_a_destination_is_a_socket_or_a_host_and_its_port_is_25(destination: str, expected: tuple[str, int]) -> None:
    assert host_and_port(destination) == expected
