"""A command of ours as a program: what ``smtpctl`` and ``mailq`` have in common at their end.

Failure: the sentence of a `ControlError` on standard error, and its exit status.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Final

from control.client import ControlError

#: Lines that are printed together, and so wait for one another: what the daemon sends together.
BLOCK: Final = 500


def run(name: str, program: Callable[[Sequence[str]], int]) -> int:
    """Call it with the arguments of this process; the exit status."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure:
        # An address that the terminal's encoding lacks must not end the listing.
        reconfigure(errors="backslashreplace")
    try:
        status = program(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read us has seen enough. Python would complain about it again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return os.EX_OK
    except ControlError as error:
        sys.stdout.flush()
        print(f"{name}: {error}", file=sys.stderr)
        return error.status
    return status


def print_lines(lines: Iterable[str]) -> None:
    """Print them in blocks: one by one a hundred thousand take as long as everything else."""
    rest = iter(lines)
    while block := list(islice(rest, BLOCK)):
        print("\n".join(block))
