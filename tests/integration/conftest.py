"""A spool of its own for each test, with a clock that stands still until it is moved."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from spool.layout import Layout, layout
from spool.writer import SpoolWriter
from tests.tools.spooled import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def place(tmp_path: Path) -> Layout:
    return layout(str(tmp_path))


@pytest.fixture
async def spool(place: Layout, clock: HandClock) -> AsyncIterator[SpoolWriter]:
    writer = await SpoolWriter.open(place, clock)
    yield writer
    await writer.aclose()
