"""Strings as smtpd.conf writes them: the inverse of what the lexer does with quotes.

Guarantees: the lexer reads `quoted` text back as exactly the string it was made of, if that holds no control character
but a tab, which is what every string out of a configuration holds.

smtpd.conf(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

#: A quote ends the string; a backslash before a blank would be dropped.
_ESCAPED: Final = re.compile(r'"|(?<=\\)[ \t]')


def quoted(text: str) -> str:
    """``text`` in double quotes."""
    inside = _ESCAPED.sub(lambda found: f"\\{found.group()}", text)
    # A backslash before the closing quote would escape it; the end of a line within quotes is dropped, and its backslash.
    return f'"{inside}\\\n"' if inside.endswith("\\") else f'"{inside}"'


def quoted_list(keys: Iterable[str]) -> str:
    """``{ "a", "b" }``."""
    return f"{{ {', '.join(map(quoted, keys))} }}"


def quoted_mapping(entries: Mapping[str, str]) -> str:
    """``{ "a" = "b", "c" = "d" }``."""
    return f"{{ {', '.join(f'{quoted(key)} = {quoted(value)}' for key, value in entries.items())} }}"
