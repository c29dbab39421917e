"""Fixtures for every layer of the tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import settings

pytest_plugins = ["tests.tools.scorecard", "pytester"]

# How long an example takes says more of the machine that runs beside it than of the program.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the test's own, with a short name: a socket's path has room for 107 characters."""
    return tmp_path_factory.mktemp("t")
