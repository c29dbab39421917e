"""Versions and ciphers of TLS, as operators write them."""

from __future__ import annotations

import ssl

import pytest

from policy.tls_choice import TlsChoiceError, check_ciphers, choose, versions_of

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


@pytest.mark.parametrize(
    ("protocols", "versions"),
    [
        ("tlsv1.2", {V12}),
        ("TLSv1.2, tlsv1.3", {V12, V13}),
        ("tlsv1.2:tlsv1.3", {V12, V13}),
        ("all", {V12, V13}),
        ("secure", {V12, V13}),
        ("tlsv1.1,tlsv1.2", {V12}),
        ("!tlsv1.2", {V13}),
        ("all,!tlsv1.3", {V12}),
        ("tlsv1", {V12, V13}),
    ],
)
def test_versions_are_added_and_taken_away(protocols: str, versions: set[ssl.TLSVersion]) -> None:
    assert versions_of(protocols) == versions


@pytest.mark.parametrize("protocols", ["tlsv1.0", "tlsv1.1", "!all", "sslv3", "", "tlsv1.2,", "tlsv1.2 tlsv1.3"])
def test_what_leaves_no_version_is_refused(protocols: str) -> None:
    with pytest.raises(TlsChoiceError):
        versions_of(protocols)


@pytest.mark.parametrize("ciphers", ["default", "SECURE", "compat", "legacy", "all", "HIGH:!aNULL", "ECDHE+AESGCM"])
def test_ciphers_are_those_of_either_library(ciphers: str) -> None:
    check_ciphers(ciphers)


@pytest.mark.parametrize("ciphers", ["aNULL", "eNULL", "NONSENSE", "TLS_AES_256_GCM_SHA384", "HIGH@NOTHING"])
def test_what_leaves_no_cipher_is_refused(ciphers: str) -> None:
    with pytest.raises(TlsChoiceError):
        check_ciphers(ciphers)


def test_no_choice_gives_a_cipher_without_encryption_or_certificate() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    choose(context, "", "ALL:eNULL:aNULL")
    assert not any("NULL" in str(cipher["name"]) or "ADH" in str(cipher["name"]) for cipher in context.get_ciphers())
    assert context.minimum_version is V12
