"""The group for Diffie-Hellman key exchange in TLS 1.2: one that everybody knows, so that nobody has to make one.

ffdhe2048 of RFC 7919, appendix A.1.
"""

from __future__ import annotations

import ssl
import tempfile
from typing import Final

_FFDHE2048: Final = """\
-----BEGIN DH PARAMETERS-----
MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
+8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
-----END DH PARAMETERS-----
"""


def allow_dhe(context: ssl.SSLContext) -> None:
    """Let ``context`` exchange keys with clients that know no elliptic curves. Raises `OSError`."""
    # The library takes parameters out of a file only.
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(_FFDHE2048)
        file.flush()
        context.load_dh_params(file.name)
