"""Failed logins remembered by address and account."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from ingress.guesses import Guesses
from ingress.limits import Limits

LIMITS = Limits()
STRANGER = "192.0.2.1"


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


def fail(guesses: Guesses, times: int, login: str = "", address: str = "") -> float:
    """So many failed attempts; how long the last one was held back."""
    waited = 0.0
    for number in range(times):
        waited = guesses.begin(login or f"login{number}", address or f"198.51.{number // 250}.{number % 250}", LIMITS)
    return waited


def test_who_mistypes_a_few_times_is_not_slowed() -> None:
    guesses = Guesses(Clock())
    assert fail(guesses, 6, "ann", STRANGER) == 0.0


def test_an_address_that_guesses_on_is_slowed_more_and_more_up_to_a_bound() -> None:
    guesses = Guesses(Clock())
    waited = [guesses.begin(f"login{number}", STRANGER, LIMITS) for number in range(40)]
    assert waited == sorted(waited)
    assert 0 < waited[8] < waited[-1] == LIMITS.login_delay * LIMITS.login_delays


def test_an_account_that_many_addresses_guess_at_is_slowed_and_never_locked() -> None:
    guesses = Guesses(Clock())
    fail(guesses, 10_000, login="ann")
    assert guesses.begin("Ann", STRANGER, LIMITS) == LIMITS.login_delay * LIMITS.login_delays
    assert not guesses.is_barred(STRANGER, LIMITS)
    assert guesses.begin("bob", "203.0.113.9", LIMITS) == 0.0


def test_an_address_that_has_failed_very_often_is_barred_until_that_has_faded() -> None:
    clock = Clock()
    guesses = Guesses(clock)
    fail(guesses, int(LIMITS.address_failures), address=STRANGER)
    assert guesses.is_barred(STRANGER, LIMITS)
    assert not guesses.is_barred("192.0.2.2", LIMITS)
    clock.now += LIMITS.failures_fade
    assert not guesses.is_barred(STRANGER, LIMITS)
    assert guesses.begin("ann", STRANGER, LIMITS) > 0
    clock.now += 10 * LIMITS.failures_fade
    assert guesses.begin("ann", STRANGER, LIMITS) == 0.0


def test_an_attacker_s_own_login_does_not_wash_off_the_failures() -> None:
    guesses = Guesses(Clock())
    fail(guesses, 20, address=STRANGER)
    before = guesses.begin("his-own", STRANGER, LIMITS)
    guesses.take_back("his-own", STRANGER, LIMITS)
    assert guesses.begin("ann", STRANGER, LIMITS) == before > 0


def test_many_attempts_at_once_gain_nothing() -> None:
    guesses = Guesses(Clock())
    # None of them has ended.
    assert fail(guesses, 30, address=STRANGER) > 0


def test_one_customer_s_ipv6_network_is_one_address() -> None:
    guesses = Guesses(Clock())
    for number in range(int(LIMITS.address_failures)):
        guesses.begin(f"login{number}", f"2001:db8:0:7::{number:x}", LIMITS)
    assert guesses.is_barred("2001:db8:0:7:ffff::1", LIMITS)
    assert not guesses.is_barred("2001:db8:0:8::1", LIMITS)


def test_a_program_on_this_machine_is_not_barred_for_its_users() -> None:
    guesses = Guesses(Clock())
    fail(guesses, 200, address="127.0.0.1")
    assert not guesses.is_barred("127.0.0.1", LIMITS)
    assert guesses.begin("ann", "127.0.0.1", LIMITS) == 0.0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.booleans()), max_size=300))
def test_what_is_remembered_is_bounded(attempts: list[tuple[int, int, bool]]) -> None:
    guesses, limits = Guesses(Clock()), replace(LIMITS, failures_kept=10)
    for login, address, is_right in attempts:
        assert guesses.begin(f"l{login}", f"192.0.2.{address}", limits) >= 0
        if is_right:
            guesses.take_back(f"l{login}", f"192.0.2.{address}", limits)
        assert len(guesses) <= 20
