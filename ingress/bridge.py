"""``sendmail -bs``: SMTP on standard input and output, carried to the daemon and back.

Guarantees: nothing is kept here; what the daemon has said yes to, and only that, is accepted. Without a daemon the
client reads ``421 4.3.2`` and the exit status is 75.

Imports little: see `ingress.enqueue`.
"""

import os
from _socket import SHUT_WR, socket
from select import POLLIN, poll

from ingress.handin import GREETING_TIMEOUT, NotNow, connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

#: Octets carried at a time.
PIECE = 64 * 1024
#: Seconds that the daemon may leave the client's commands unread.
SEND_TIMEOUT = 600.0
_SORRY = b"421 4.3.2 The mail system is not running; try again later\r\n"


def carry(path: str) -> int:
    """Carry one session to the daemon at ``path``; the exit status."""
    try:
        connection = connect(path)
    except NotNow:
        return _apologize()
    try:
        return _converse(connection, _greeting(connection))
    except OSError:
        return _apologize()
    finally:
        connection.close()


def _greeting(connection: socket) -> bytes:
    connection.settimeout(GREETING_TIMEOUT)
    greeting = connection.recv(PIECE)
    connection.settimeout(SEND_TIMEOUT)
    return greeting


def _converse(connection: socket, greeting: bytes) -> int:
    """Pass on what either side says until the daemon hangs up."""
    client_listens = True
    last = greeting
    _write(greeting)
    for descriptor, words in _words(connection):
        if descriptor:
            _write(words)
            last = (last + words)[-PIECE:]
        elif words:
            connection.sendall(words)
        else:
            client_listens = False
            connection.shutdown(SHUT_WR)
    return os.EX_OK if _took_leave(last) or not client_listens else _apologize()


def _words(connection: socket) -> "Iterator[tuple[int, bytes]]":
    """What either side says, the client's end too, with the descriptor it came from."""
    waiting = poll()
    waiting.register(0, POLLIN)
    waiting.register(connection.fileno(), POLLIN)
    while True:
        for descriptor, _ in waiting.poll():
            words = connection.recv(PIECE) if descriptor else os.read(0, PIECE)
            if not words and descriptor:
                return
            if not words:
                waiting.unregister(0)
            yield descriptor, words


def _took_leave(last: bytes) -> bool:
    """Whether the daemon ended the session with a last word of its own: 221, or 421, which the client has read."""
    return last.rstrip(b"\r\n").rpartition(b"\n")[2][:3] in (b"221", b"421")


def _apologize() -> int:
    try:  # noqa: SIM105 - contextlib costs a start 4 ms
        _write(_SORRY)
    except OSError:
        pass  # the client is gone too
    return os.EX_TEMPFAIL


def _write(data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(1, rest) :]
