"""The messages of a SCRAM-SHA-256 exchange."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingress.scram import Exchange, ScramSyntax, read_first
from policy import scram
from tests.tools.scram import ScramClient

VERIFIER = scram.make("pencil", 4096)


@pytest.mark.parametrize("header", ["n,,", "y,,", "n,a=,", "n,a=user,", "y,a=user,"])
def test_a_client_that_knows_the_password_is_believed_and_believes_us(header: str) -> None:
    client = ScramClient("user", "pencil", header)
    exchange = Exchange.begin(read_first(client.first().encode()), VERIFIER)
    assert exchange.judge(client.final(exchange.challenge).encode()) == client.signature


def test_a_client_that_does_not_know_the_password_is_not_believed() -> None:
    client = ScramClient("user", "pen")
    exchange = Exchange.begin(read_first(client.first().encode()), VERIFIER)
    assert exchange.judge(client.final(exchange.challenge).encode()) is None


def test_the_proof_of_one_exchange_is_worth_nothing_in_another() -> None:
    client = ScramClient("user", "pencil")
    first, second = (Exchange.begin(read_first(client.first().encode()), VERIFIER) for _ in range(2))
    assert second.judge(client.final(first.challenge).encode()) is None


def test_a_header_that_somebody_has_changed_on_the_way_ends_the_exchange() -> None:
    # The client says y: a channel binding taken out of the list of mechanisms would show.
    client = ScramClient("user", "pencil", "y,,")
    exchange = Exchange.begin(read_first(client.first().replace("y,,", "n,,").encode()), VERIFIER)
    assert exchange.judge(client.final(exchange.challenge).encode()) is None


def test_names_are_unescaped() -> None:
    assert read_first(b"n,,n=a=2Cb=3Dc,r=x").login == "a,b=c"


@pytest.mark.parametrize(
    "first",
    [
        b"",
        b"n,,",
        b"n,,n=user",
        b"n,,n=,r=x",
        b"n,,n=user,r=",
        b"n,,n=us=er,r=x",
        b"n,,n=us\0er,r=x",
        b"n,,n=us=2cer,r=x",
        b"n,,m=ext,n=user,r=x",
        b"n,a=root,n=user,r=x",
        b"p=tls-unique,,n=user,r=x",
        b"p=tls-exporter,,n=user,r=x",
        b"x,,n=user,r=x",
        b"n,,n=user,r=\xe4",
        b"n,,n=user,r=a b",
        b"n,,n=" + b"u" * 600 + b",r=x",
        b"n,,n=user,r=" + b"x" * 3000,
    ],
)
def test_what_this_server_does_not_support_is_refused(first: bytes) -> None:
    with pytest.raises(ScramSyntax):
        read_first(first)


@pytest.mark.parametrize(
    "final", [b"", b"c=biws", b"c=biws,r=x", b"c=!,r=x,p=y", b"c=biws,r={},p=", b"c=biws,r=x,p=A", b"\xff"]
)
def test_a_final_message_that_is_none_is_refused(final: bytes) -> None:
    exchange = Exchange.begin(read_first(b"n,,n=user,r=x"), VERIFIER)
    final = final.replace(b"r=x", b"r=" + exchange.nonce.encode())
    with pytest.raises(ScramSyntax):
        exchange.judge(final)


@given(st.binary(max_size=80))
def test_any_octets_are_refused_or_read_and_nothing_else(octets: bytes) -> None:
    exchange = Exchange.begin(read_first(b"n,,n=user,r=x"), VERIFIER)
    for read in (lambda: read_first(b"n,,n=user," + octets), lambda: exchange.judge(b"c=biws," + octets)):
        try:
            read()
        except ScramSyntax:
            continue
