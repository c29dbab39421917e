"""A small SMTP client for the submission socket: one message, or one question whether recipients would be taken.

Guarantees: `submit` returns when the daemon owns the message for every recipient. When it raises, the daemon has it
for none, but for one case that cannot be told apart: the connection broke after the last dot. Whoever hands the
message in again then, may hand it in twice; it is never lost.

Failure: `Refused` when the daemon said 5yz to a command of the transaction, `NotNow` for everything else: no daemon,
no greeting in time, a 4yz, a session that cannot be understood.

RFC 5321 (SMTP), RFC 2920 (PIPELINING: MAIL and RCPT go out together where it is offered), RFC 1870 (SIZE), RFC 3461
(DSN), RFC 6152 (8BITMIME), RFC 6531 (SMTPUTF8). Stands on the socket module's C half, as the other half imports enum
and selectors: 20 ms. Imports little: see `ingress.enqueue`.
"""

import os
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_STREAM, socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Seconds until the greeting, after which the daemon counts as absent.
GREETING_TIMEOUT = 5.0
#: Seconds for any other reply: tables of recipients may be asked over a network.
REPLY_TIMEOUT = 60.0
#: Seconds for the reply to the last dot. RFC 5321 4.5.3.2.6 allows ten minutes; a hasty client makes duplicates.
DOT_TIMEOUT = 600.0
#: Octets of one reply: EHLO with all that it offers is below 1 KiB.
MAX_REPLY = 64 * 1024


class Refused(Exception):
    """The daemon will not take this message, now or later. ``status`` is the enhanced code, perhaps empty."""

    def __init__(self, command: str, reply: str) -> None:
        super().__init__(f"{command}: {reply}" if command else reply)
        self.command = command
        word = reply[4:].partition(" ")[0]
        self.status = word if word.startswith("5.") else ""


class NotNow(Exception):
    """The daemon cannot take this message now, or is not there."""


class Transaction:
    """What stands on the outside of a message. Addresses are as they stand between angle brackets."""

    __slots__ = ("envid", "notify", "recipients", "ret", "sender")

    def __init__(
        self, sender: bytes, recipients: list[bytes], ret: str = "", envid: bytes = b"", notify: str = ""
    ) -> None:
        self.sender = sender
        self.recipients = recipients
        self.ret = ret
        self.envid = envid
        self.notify = notify

    def is_ascii(self) -> bool:
        """Whether it can do without SMTPUTF8."""
        return self.sender.isascii() and all(map(bytes.isascii, self.recipients))

    def mail(self, offered: "Iterable[str]", *more: bytes) -> bytes:
        """MAIL, with those parameters that ``offered`` extensions allow, and ``more``."""
        parts = [b"MAIL FROM:<%s>" % self.sender]
        if "DSN" in offered and self.ret:
            parts.append(b"RET=" + self.ret.encode())
        if "DSN" in offered and self.envid:
            parts.append(b"ENVID=" + _xtext(self.envid))
        if "SMTPUTF8" in offered and not self.is_ascii():
            parts.append(b"SMTPUTF8")
        return b" ".join([*parts, *more])

    def rcpts(self, offered: "Iterable[str]") -> list[bytes]:
        """RCPT for each recipient."""
        notify = b" NOTIFY=" + self.notify.encode() if "DSN" in offered and self.notify else b""
        return [b"RCPT TO:<%s>%s" % (recipient, notify) for recipient in self.recipients]


#: What a transaction that is written down may use.
EVERYTHING = frozenset({"DSN", "SMTPUTF8"})


class Letter:
    """The message itself, in wire form, and what is known of it."""

    __slots__ = ("body", "eight_bit", "header", "octets")

    def __init__(self, header: bytes, body: "Iterable[bytes]", octets: int, eight_bit: bool) -> None:
        self.header = header
        self.body = body
        #: Of the body.
        self.octets = octets
        self.eight_bit = eight_bit

    def pieces(self) -> "Iterator[bytes]":
        """All of it; no piece ends between CR and LF."""
        yield self.header
        yield from self.body


def submit(path: str, transaction: Transaction, letter: Letter, trace: bool = False) -> None:
    """Hand a message to the daemon that listens at ``path``; with ``trace`` the session is shown on standard error."""
    with _Session(path, trace) as session:
        more = []
        if "SIZE" in session.offered:
            more.append(b"SIZE=%d" % (len(letter.header) + letter.octets))
        if "8BITMIME" in session.offered and letter.eight_bit:
            more.append(b"BODY=8BITMIME")
        commands = [transaction.mail(session.offered, *more), *transaction.rcpts(session.offered)]
        _judge(session.ask_all(commands))
        _judge([("DATA", session.ask(b"DATA"))])
        session.send_message(letter)
        _judge([("", session.read_reply(DOT_TIMEOUT))])
        session.quit()


def verify(path: str, transaction: Transaction, trace: bool = False) -> "list[tuple[str, str]]":
    """The commands for each recipient, and what the daemon says to it; nothing is sent."""
    with _Session(path, trace) as session:
        commands = [transaction.mail(session.offered), *transaction.rcpts(session.offered)]
        mail, *answers = session.ask_all(commands)
        _judge([mail])
        session.quit()
        return answers


def connect(path: str) -> socket:
    """A connection to the daemon; `NotNow` without one."""
    connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC)
    connection.settimeout(GREETING_TIMEOUT)
    try:
        connection.connect(path)
    except OSError as error:
        connection.close()
        raise NotNow(f"{path}: {error.strerror or 'no answer'}") from None
    return connection


class _Session:
    """From the greeting to the end. A session that is left early sends nothing more, so that no half message counts."""

    def __init__(self, path: str, trace: bool) -> None:
        self._trace = trace
        self._received = b""
        self.offered: frozenset[str] = frozenset()
        self._connection = connect(path)

    def __enter__(self) -> "_Session":
        try:
            self._greet()
        except BaseException:
            self._connection.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def _greet(self) -> None:
        greeting = self.read_reply(GREETING_TIMEOUT)
        hello = self.ask(b"EHLO localhost") if greeting.startswith("2") else greeting
        if not hello.startswith("2"):
            raise NotNow(hello)
        self.offered = frozenset(line[4:].partition(" ")[0].upper() for line in hello.split("\n")[1:])

    def ask(self, command: bytes) -> str:
        """Send one command and read its reply."""
        self._send(command + b"\r\n", command)
        return self.read_reply(REPLY_TIMEOUT)

    def ask_all(self, commands: list[bytes]) -> list[tuple[str, str]]:
        """Send commands, together if the daemon allows it, and read all their replies."""
        names = [command.decode(errors="replace") for command in commands]
        if "PIPELINING" not in self.offered:
            return list(zip(names, map(self.ask, commands), strict=True))
        replies = []
        for start in range(0, len(commands), _PIPELINE):
            some = commands[start : start + _PIPELINE]
            self._send(b"\r\n".join(some) + b"\r\n", *some)
            replies += [self.read_reply(REPLY_TIMEOUT) for _ in some]
        return list(zip(names, replies, strict=True))

    def quit(self) -> None:
        """Take leave; all that matters has been said."""
        try:  # noqa: SIM105 - contextlib costs a start 4 ms
            self.ask(b"QUIT")
        except NotNow:
            pass

    def send_message(self, letter: Letter) -> None:
        """Everything after 354, and the dot."""
        try:
            self._connection.settimeout(REPLY_TIMEOUT)
            for piece in stuffed(letter.pieces()):
                self._connection.sendall(piece)
        except OSError as error:
            raise NotNow(f"the daemon went away: {error.strerror or 'it stopped reading'}") from None
        if self._trace:
            _show(">>>", "(message)\n.")

    def _send(self, data: bytes, *shown: bytes) -> None:
        if self._trace:
            _show(">>>", b"\n".join(shown).decode(errors="replace"))
        try:
            self._connection.sendall(data)
        except OSError as error:
            raise NotNow(f"the daemon went away: {error.strerror or 'it stopped reading'}") from None

    def read_reply(self, timeout: float) -> str:
        """One reply, its lines with LF between them (RFC 5321 4.2.1)."""
        self._connection.settimeout(timeout)
        lines: list[str] = []
        octets = 0
        while not lines or lines[-1][3:4] == "-":
            line = self._read_line()
            octets += len(line)
            if octets > MAX_REPLY or len(line) < 3 or not line[:3].isdigit():
                raise NotNow("the daemon does not speak SMTP")
            lines.append(line.decode(errors="replace"))
        reply = "\n".join(lines)
        if self._trace:
            _show("<<<", reply)
        return reply

    def _read_line(self) -> bytes:
        while b"\n" not in self._received:
            try:
                data = self._connection.recv(4096)
            except OSError as error:
                raise NotNow(f"no reply from the daemon: {error.strerror or 'timed out'}") from None
            if not data or len(self._received) > MAX_REPLY:
                raise NotNow("the daemon closed the connection" if not data else "the daemon does not speak SMTP")
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        return line.rstrip(b"\r")


#: Commands sent before their replies are read: few enough that neither side fills the other's socket buffer.
_PIPELINE = 50


def stuffed(pieces: "Iterable[bytes]") -> "Iterator[bytes]":
    """A message, of which no piece ends between CR and LF, as it follows DATA, its end included (RFC 5321 4.5.2)."""
    line_start = True
    for piece in pieces:
        dot = b"." if line_start and piece.startswith(b".") else b""
        line_start = piece.endswith(b"\r\n")
        yield dot + piece.replace(b"\r\n.", b"\r\n..")
    yield b".\r\n"


def _judge(answers: "Iterable[tuple[str, str]]") -> None:
    """A 5yz for one recipient ends it for all: a caller that is told "no" has sent nothing."""
    later = ""
    for command, reply in answers:
        if reply.startswith("5"):
            raise Refused(command, reply)
        if reply[:1] not in ("2", "3"):
            later = later or reply
    if later:
        raise NotNow(later)


def _xtext(text: bytes) -> bytes:
    """RFC 3461 4: what is no printable character, and ``+`` and ``=``, as ``+HH``."""
    return b"".join(b"+%02X" % octet if octet in b"+= " else bytes((octet,)) for octet in text)


def _show(arrow: str, text: str) -> None:
    for line in text.split("\n"):
        os.write(2, f"{arrow} {line}\n".encode())
