"""Several processes that serve clients allow no more together than one."""

from __future__ import annotations

from dataclasses import fields

import pytest

from ingress.limits import Limits

#: What counts clients, and not what one client does in one session.
SHARED = (
    "connections", "connections_per_address", "connections_per_user", "arrivals_at_once", "arrivals_per_second",
    "login_slips", "address_failures",
)  # fmt: skip


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("processes", [1, 2, 3, 7])
def test_the_shares_of_all_processes_are_no_more_than_the_whole(name: str, processes: int) -> None:
    assert processes * getattr(Limits().share(processes), name) <= getattr(Limits(), name)


def test_what_one_session_may_do_is_the_same_in_each() -> None:
    whole, part = Limits(), Limits().share(4)
    others = [each.name for each in fields(Limits) if each.name not in SHARED]
    assert [getattr(part, name) for name in others] == [getattr(whole, name) for name in others]
