"""The event loops that must serve alike: asyncio's own and uvloop, which the daemon runs on."""

from __future__ import annotations

import pytest

#: For a fixture ``anyio_backend`` in a module whose tests are to run on both.
BOTH = [
    pytest.param(("asyncio", {"use_uvloop": False}), id="asyncio"),
    pytest.param(("asyncio", {"use_uvloop": True}), id="uvloop"),
]
