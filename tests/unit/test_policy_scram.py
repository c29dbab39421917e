"""What a table keeps for SCRAM-SHA-256."""

from __future__ import annotations

import pytest

from policy import scram
from policy.credentials import check_login, holds_verifiers, verifier_of
from policy.errors import TableUnavailable
from policy.tables.inline import InlineTable

#: Of RFC 7677 3: the password ``pencil``.
PENCIL = (
    "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
    "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
)
EXCHANGED = (
    b"n=user,r=rOprNGfwEbeRWgbNEkqO,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
    b"s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
)
PROOF = "dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
SIGNATURE = "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def users(**hashes: str) -> InlineTable:
    return InlineTable.of_mapping("creds", hashes)


def pencil() -> scram.Verifier:
    found = scram.read(PENCIL)
    assert found is not None
    return found


def test_the_example_of_the_rfc_holds() -> None:
    from base64 import b64decode, b64encode

    assert pencil().proves(b64decode(PROOF), EXCHANGED)
    assert b64encode(pencil().signature(EXCHANGED)).decode() == SIGNATURE
    assert not pencil().proves(b64decode(PROOF), EXCHANGED + b".")
    assert not pencil().proves(b64decode(PROOF)[:-1], EXCHANGED)


def test_a_verifier_fits_its_password_and_no_other() -> None:
    assert pencil().fits("pencil")
    assert not pencil().fits("Pencil")
    assert not pencil().fits("")


def test_a_new_verifier_is_salted_and_is_read_as_it_was_written() -> None:
    first, second = scram.make("pencil", 4096), scram.make("pencil", 4096)
    assert str(first) != str(second)
    assert scram.read(str(first)) == first
    assert first.fits("pencil")


def test_no_text_of_a_verifier_shows_its_keys_by_chance() -> None:
    assert "stored" not in repr(pencil())
    assert "server" not in repr(pencil())


@pytest.mark.parametrize(
    ("typed", "kept"), [("I\u00adX", "IX"), ("user", "user"), ("\u00aa", "a"), ("\u2168", "IX"), ("a\u00a0b", "a b")]
)
def test_passwords_are_prepared_as_rfc_4013_has_it(typed: str, kept: str) -> None:
    assert scram.prepared(typed) == kept.encode()


@pytest.mark.parametrize("password", ["", "\x07", "\u0627\u0031", "a\ud800", "\u00ad"])
def test_a_password_that_scram_cannot_have_gets_no_verifier_and_fits_none(password: str) -> None:
    with pytest.raises(ValueError, match="SCRAM cannot have"):
        scram.make(password)
    assert not pencil().fits(password)


@pytest.mark.parametrize(
    "text",
    [
        PENCIL.replace("4096", "0"),
        PENCIL.replace("4096", "1000001"),
        PENCIL.replace("4096", "99999999"),
        PENCIL.replace("WG5d", ""),
        PENCIL + "AAAA",
        PENCIL.replace("$WG", ":WG"),
        "SCRAM-SHA-256$",
        "SCRAM-SHA-1$" + PENCIL.partition("$")[2],
    ],
)
def test_what_is_no_verifier_is_none(text: str) -> None:
    assert scram.read(text) is None


def test_a_password_is_checked_against_a_verifier_like_against_a_hash() -> None:
    table = users(ann=PENCIL, bob=f"bob:{PENCIL}")
    assert check_login(table, "ann", "pencil")
    assert check_login(table, "Bob", "pencil")
    assert not check_login(table, "ann", "pen")
    assert not check_login(table, "zoe", "pencil")


def test_a_verifier_that_cannot_be_used_is_trouble_and_not_a_wrong_password() -> None:
    with pytest.raises(TableUnavailable, match='the value of "ann" is no password hash'):
        check_login(users(ann=PENCIL.replace("4096", "9999999")), "ann", "pencil")


def test_a_login_that_does_not_exist_has_the_same_salt_each_time_and_another_than_others() -> None:
    table = users(ann=PENCIL)
    zoe, again, abe = (verifier_of(table, login) for login in ("zoe", "Zoe", "abe"))
    assert zoe.salt == again.salt
    assert zoe.salt != abe.salt
    assert len(zoe.salt) == len(pencil().salt)
    assert zoe.iterations == 4096
    assert not zoe.fits("pencil")


def test_another_table_makes_up_other_salts() -> None:
    salts = {verifier_of(users(ann=str(scram.make("x", 4096))), "zoe").salt for _ in range(3)}
    assert len(salts) == 3


def test_the_verifier_of_a_login_is_its_own_and_a_hash_of_another_kind_is_none() -> None:
    table = users(ann=PENCIL, bob="$5$rounds=1000$lgQyBbONDx1MDZKt$3C1VXCuP4AX2Dqb69eEyoua.9TqkJ7nA/C93clu9rI1")
    assert verifier_of(table, "ANN") == pencil()
    assert verifier_of(table, "bob").salt == verifier_of(table, "bob").salt
    assert not holds_verifiers(table)
    assert holds_verifiers(users(ann=PENCIL, bob=f"b:{PENCIL}"))
    assert not holds_verifiers(users())
