"""Fixtures for every layer of the tests."""

from __future__ import annotations

import pytest

pytest_plugins = ["tests.tools.scorecard", "pytester"]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
