"""Fixtures for every layer of the tests."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest_plugins = ["tests.tools.scorecard", "pytester"]

# How long an example takes says more of the machine that runs beside it than of the program.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
