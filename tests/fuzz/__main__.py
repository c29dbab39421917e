"""Throws spoilt configurations at the parser for a time, and ends with 1 at the first that gets more than a `ConfigError`.

    python -m tests.fuzz [SECONDS [SEED]]

The seeds are all configurations of this repository and the words of the language. A failure is written to
``fuzz-failure.conf``, with its seed printed, so that it can be had again.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from policy.errors import ConfigError
from policy.lexer import KEYWORDS
from policy.parser import load_config
from policy.text import config_text
from tests.tools.configured import Configured

_ROOT: Final = Path(__file__).parents[2]
_PIECES: Final = (
    *(word.encode() for word in sorted(KEYWORDS)),
    *(
        b"<aliases>",
        b'"/etc/aliases"',
        b"{ a, b }",
        b"{ a = b }",
        b"!",
        b"=>",
        b"$x",
        b"x = y\n",
        b'include "smtpd.conf"\n',
    ),
    *(
        b"\\\n",
        b"\n",
        b"\0",
        b"\xff",
        b"\r",
        b'"',
        b"'",
        b"#",
        b"4d",
        b"-1",
        b"99999999999999999999",
        b"[::1]",
        b"*",
        b"\\",
    ),
    *("ü".encode(), "\u2028".encode(), b"a" * 9000, b"{" * 300, b"%{rcpt.user[0:2]:lowercase|raw}", b"smtps://l@h:465"),
)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many were tried, and how many of them were configurations."""

    tried: int
    accepted: int


def seeds() -> list[bytes]:
    """Every configuration that the repository has."""
    folders = [_ROOT / "examples", _ROOT / "etc", _ROOT / "tests/seed", _ROOT / "tests/bad_configs"]
    return sorted({path.read_bytes() for folder in folders for path in folder.rglob("*.conf")})


def spoilt(chance: random.Random, corpus: Sequence[bytes]) -> bytes:
    """A configuration of the corpus after a few accidents."""
    text = bytearray(chance.choice(corpus))
    for _ in range(chance.randint(1, 6)):
        start = chance.randint(0, len(text))
        end = min(len(text), start + chance.choice((0, 0, 1, 3, 20)))
        other = chance.choice(corpus)
        cut = chance.randint(0, len(other))
        piece = chance.choice((chance.choice(_PIECES), other[cut : cut + 40], chance.randbytes(2), b" "))
        text[start:end] = piece
    return bytes(text)


def run(seconds: float, seed: int) -> Tally:
    """Try for so long. Raises what the parser raised beside `ConfigError`, the text being in ``fuzz-failure.conf``."""
    chance, corpus = random.Random(seed), seeds()
    tried = accepted = 0
    with tempfile.TemporaryDirectory() as folder:
        configured = Configured(Path(folder))
        configured.write("aliases", "root ann\n")
        path = configured.folder / "smtpd.conf"
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            text = spoilt(chance, corpus)
            if b"exec:" in text:
                # Nobody knows what command chance has made.
                continue
            path.write_bytes(text)
            try:
                config_text(load_config(str(path), configured.layout, {}, configured.host).config)
                accepted += 1
                if len(corpus) < 2000:
                    corpus.append(text)
            except ConfigError as error:
                str(error)
            except BaseException:
                Path("fuzz-failure.conf").write_bytes(text)
                raise
            tried += 1
    return Tally(tried, accepted)


def main() -> int:
    """The command."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else random.SystemRandom().randrange(1 << 32)
    try:
        tally = run(seconds, seed)
    except Exception:
        traceback.print_exc()
        print(f"seed {seed}: the configuration is in fuzz-failure.conf")
        return 1
    print(
        f"seed {seed}: {tally.tried} configurations in {seconds:.0f} s, {tally.accepted} of them right, nothing found"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
