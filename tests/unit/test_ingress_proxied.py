"""The header of a proxy, whatever it holds."""

from __future__ import annotations

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.proxied import NoHeader, client_named
from policy.tables.services import ip_address
from spool.message import Client
from tests.tools.proxying import SIGNATURE

PEER = Client(address="203.0.113.1")


@given(
    command=st.sampled_from([0x20, 0x21]) | st.integers(0, 255),
    family=st.sampled_from([0, 0x11, 0x21, 0x31]) | st.integers(0, 255),
    addresses=st.binary(max_size=240),
)
def test_a_header_names_a_client_or_is_none(command: int, family: int, addresses: bytes) -> None:
    header = SIGNATURE + struct.pack("!BBH", command, family, len(addresses))
    with contextlib.suppress(NoHeader):
        client = client_named(header, addresses, PEER)
        assert client.address == "local" or ip_address(client.address)


@pytest.mark.parametrize("family", [0, 0x12, 0x22, 0x32])
def test_a_family_that_is_no_stream_is_refused(family: int) -> None:
    with pytest.raises(NoHeader):
        client_named(SIGNATURE + struct.pack("!BBH", 0x21, family, 240), bytes(240), PEER)
