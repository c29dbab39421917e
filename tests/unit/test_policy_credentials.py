"""Passwords of people who log in."""

from __future__ import annotations

import anyio
import pytest

from policy import credentials
from policy.credentials import MAX_HASHING, MAX_PASSWORD_OCTETS, authenticate, check_login, encrypt, verify
from policy.errors import TableUnavailable
from policy.tables.inline import InlineTable
from policy.tables.secret import Secret, secret_of

PASSWORD = "correct horse"
#: Made of `PASSWORD` by openssl passwd, libxcrypt and passlib.
HASHES = {
    "yescrypt": "$y$j9T$ywWsmY7kRF1/jWowExs1e1$x.N6PRc38oDLQc0B9qQAcssDg.Deo9euuiLK1il7HJB",
    "gost-yescrypt": "$gy$j9T$UbB6qqN78r4mavXdrf26o0$R9QKErFr8eyMU75vUJuH4/IewzVDhKJ5pzo1C0MD3/4",
    "scrypt": "$7$CU..../....416QoUYyNqvDkdlXVl3nf0$h73iHrvurRXDTRF5IY7tMccv7GSpWPkiV9PYk/oEst9",
    "bcrypt": "$2b$05$xIDQCUDGy8uECj2mmej9UOCk4f5Az8vwOn66H1sbjLshCTU4BP0Ey",
    "sha512": "$6$saltsalt$hRM5XZ86KXEw9UOmjigeVqFgULtFB2sgpC9lXQDfMib3Zgw7mEiUvBJI2EplzfAqxL5Vvwp2scFtv/uamSo5z0",
    "sha256": "$5$saltsalt$myjXcpMpE2Ofk7fj9hqyNYSn6lmWG4Mqnjx.KIRRr4/",
    "md5": "$1$saltsalt$NuzA7WTAelpl95xgBGWN60",
    "pbkdf2": (
        "$pbkdf2-sha512$25000$AMA4JwRgLIVwLiUkhLAWYg$"
        "j4ZROq57LD5wRHoLRQRk5NFuoqYG4kxrSiflOoDWd24wO7tMFmCOzCzDb661zQ.3Q5jFCYg3Tz9maOsGjoBonA"
    ),
}
PORTABLE = ["sha512", "sha256", "md5", "pbkdf2"]


def users(**hashes: str) -> InlineTable:
    return InlineTable.of_mapping("creds", hashes)


@pytest.mark.parametrize("kind", HASHES)
def test_a_password_fits_the_hash_that_was_made_of_it_and_no_other(kind: str) -> None:
    assert verify(PASSWORD, HASHES[kind])
    assert not verify("incorrect horse", HASHES[kind])


@pytest.mark.parametrize("kind", PORTABLE)
def test_without_the_system_s_library_the_portable_kinds_still_work(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_library", lambda: None)
    assert verify(PASSWORD, HASHES[kind])
    assert not verify("incorrect horse", HASHES[kind])


@pytest.mark.parametrize(
    "hashed", ["", "*", "!!!", "x", "correct horse", "$zz$salt$hash", "$6$", "$5$saltsalt$shört", "*0", "*1"]
)
def test_what_is_no_hash_fits_no_password(hashed: str) -> None:
    assert not verify(PASSWORD, hashed)


def test_a_password_that_is_too_long_or_holds_nul_fits_nothing() -> None:
    assert not verify("x" * (MAX_PASSWORD_OCTETS + 1), HASHES["sha512"])
    assert not verify(f"{PASSWORD}\0", HASHES["sha512"])


def test_a_new_hash_is_of_the_system_s_best_kind_and_salted() -> None:
    first, second = encrypt(PASSWORD), encrypt(PASSWORD)
    assert first.startswith("$y$")
    assert first != second
    assert verify(PASSWORD, first)


def test_without_the_system_s_library_a_new_hash_is_sha512_crypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "_library", lambda: None)
    made = encrypt("pässword")
    assert made.startswith("$6$")
    assert verify("pässword", made)


def test_a_password_that_could_never_be_used_gets_no_hash() -> None:
    with pytest.raises(ValueError, match="at most"):
        encrypt("x" * (MAX_PASSWORD_OCTETS + 1))


def test_a_login_is_checked_against_its_own_hash_whatever_its_case() -> None:
    table = users(ann=HASHES["sha256"], bob=encrypt("other"))
    assert check_login(table, "Ann", PASSWORD)
    assert not check_login(table, "bob", PASSWORD)
    assert not check_login(table, "zoe", PASSWORD)


def test_a_value_may_name_the_user_before_the_hash() -> None:
    assert check_login(users(ann=f"ann:{HASHES['sha256']}"), "ann", PASSWORD)


def test_a_login_that_does_not_exist_is_hashed_like_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    settings: list[bytes] = []
    crypt = credentials._crypt

    def noting_crypt(password: bytes, setting: bytes) -> bytes | None:
        settings.append(setting)
        return crypt(password, setting)

    monkeypatch.setattr(credentials, "_crypt", noting_crypt)
    table = users(ann=HASHES["sha256"])
    check_login(table, "ann", "wrong")
    check_login(table, "zoe", "wrong")
    assert settings == [HASHES["sha256"].encode()] * 2


def test_nobody_can_log_in_with_an_empty_table() -> None:
    assert not check_login(users(), "ann", "")


def test_a_value_too_short_for_a_hash_is_trouble_and_not_a_wrong_password() -> None:
    with pytest.raises(TableUnavailable) as raised:
        check_login(users(ann="pw"), "ann", "pw")
    assert str(raised.value) == 'table creds: the value of "ann" is no password hash'


@pytest.mark.anyio
async def test_many_logins_at_once_share_few_threads() -> None:
    table = users(ann=HASHES["sha256"])
    limiter = anyio.CapacityLimiter(MAX_HASHING)
    answers: list[bool] = []

    async def one() -> None:
        answers.append(await authenticate(table, "ann", PASSWORD, limiter))

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)
    assert answers == [True] * 20


def test_a_secret_is_a_user_and_a_password_that_no_text_shows() -> None:
    secret = secret_of(users(label="user:pass:word"), "LABEL")
    assert secret == Secret("user", "pass:word")
    assert "pass" not in f"{secret} {secret!r}"


def test_an_unknown_label_has_no_secret() -> None:
    assert secret_of(users(label="user:password"), "other") is None


@pytest.mark.parametrize("value", ["password", ":password", "user:"])
def test_a_malformed_secret_is_trouble_that_does_not_show_it(value: str) -> None:
    with pytest.raises(TableUnavailable) as raised:
        secret_of(users(label=value), "label")
    assert str(raised.value) == 'table creds: the value of "label" is not user:password'
