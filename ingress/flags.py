"""The arguments of ``sendmail``, as thirty years of callers have come to pass them.

Options stand alone or in a bundle (``-ti``), their values attached or apart (``-fann``, ``-f ann``); they may follow
recipients, until ``--``. What other sendmails know and this one has no use for is ignored in silence, value and all.

Failure: `Usage` for what no sendmail knows, and for what is known but cannot be done here.

sendmail(8) names every option. Imports nothing but ``os``: see `ingress.enqueue`.
"""

import os

#: Options with a value. Those that `_take` does not name are for configurations, queues and servers that are not here.
VALUED = frozenset("ABbCDeFfhLNOopRrVX")
#: Options whose value, if they have one, is attached.
MAYBE_VALUED = frozenset("dEJq")
#: Options without a value.
BARE = frozenset("GIimntUvx")

_NOTIFY = frozenset({"NEVER", "SUCCESS", "FAILURE", "DELAY"})

#: RFC 3461 4.4: an ENVID is at most 100 characters. Those that are encoded become three.
MAX_ENVID = 100


class Stop(Exception):
    """The end of a run: an exit status of sysexits.h, and why."""

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status = status


class Usage(Stop):
    """The arguments make no sense, or ask for what this program cannot do."""

    def __init__(self, why: str) -> None:
        super().__init__(os.EX_USAGE, why)


class Mode:
    """What a call is for."""

    DELIVER = "m"
    VERIFY = "v"
    SMTP = "s"
    QUEUE = "p"
    ALIASES = "i"
    FLUSH = "q"


_MODES = frozenset({Mode.DELIVER, Mode.VERIFY, Mode.SMTP, Mode.QUEUE, Mode.ALIASES})


class Flags:
    """What the arguments ask for."""

    __slots__ = (
        "dot_ends", "envid", "flush", "from_header", "full_name", "gateway", "mode", "notify", "recipients", "ret", "root",
        "sender", "verbose",
    )  # fmt: skip

    def __init__(self) -> None:
        self.mode = Mode.DELIVER
        #: The operand of ``-f`` as it was given; None without one.
        self.sender: bytes | None = None
        self.full_name = ""
        #: Take recipients from the header (``-t``).
        self.from_header = False
        #: A line with nothing but a dot ends the message; not with ``-i``.
        self.dot_ends = True
        #: The message comes from elsewhere (``-G``): nothing is added to its header.
        self.gateway = False
        self.verbose = False
        #: ``FULL``, ``HDRS`` or nothing.
        self.ret = ""
        #: As given, not yet xtext.
        self.envid = b""
        #: The value for NOTIFY, or nothing.
        self.notify = ""
        #: What ``-q`` was followed by: nothing, an interval, or ``Sstring``, ``Rstring``, ``Iid``.
        self.flush = ""
        self.root = ""
        self.recipients: list[bytes] = []


def read_flags(arguments: list[str]) -> Flags:
    """Understand ``arguments`` (without the program's name)."""
    flags = Flags()
    rest = arguments[::-1]
    while rest:
        argument = rest.pop()
        if argument == "--":
            flags.recipients += map(os.fsencode, rest[::-1])
            break
        if argument == "--root" or argument.startswith("--root="):
            flags.root = argument[7:] or _value("-root", "", rest)
        elif argument.startswith("-") and argument != "-":
            _read_bundle(flags, argument[1:], rest)
        else:
            flags.recipients.append(os.fsencode(argument))
    return flags


def _read_bundle(flags: Flags, bundle: str, rest: list[str]) -> None:
    while bundle:
        letter, bundle = bundle[0], bundle[1:]
        if letter in VALUED:
            _take(flags, letter, _value(letter, bundle, rest))
            return
        if letter in MAYBE_VALUED:
            _take(flags, letter, bundle)
            return
        if letter not in BARE:
            raise Usage(f"unknown option -{letter}")
        _set(flags, letter)


def _value(letter: str, attached: str, rest: list[str]) -> str:
    if attached:
        return attached
    if not rest:
        raise Usage(f"option -{letter} needs a value")
    return rest.pop()


def _set(flags: Flags, letter: str) -> None:
    if letter == "t":
        flags.from_header = True
    elif letter == "i":
        flags.dot_ends = False
    elif letter == "v":
        flags.verbose = True
    elif letter == "G":
        flags.gateway = True
    elif letter == "I":
        flags.mode = Mode.ALIASES


def _take(flags: Flags, letter: str, value: str) -> None:
    if letter in "fr":
        flags.sender = os.fsencode(value)
    elif letter == "F":
        flags.full_name = value
    elif letter == "b":
        flags.mode = _mode(value)
    elif letter == "o":
        _set_option(flags, value[:1], value[1:])
    elif letter == "O":
        name, _, setting = value.partition("=")
        _set_option(flags, "i" if name.strip().lower() == "ignoredots" else "", setting)
    elif letter == "N":
        flags.notify = _notify(value)
    elif letter == "R":
        flags.ret = _ret(value)
    elif letter == "V":
        flags.envid = _envid(value)
    elif letter == "q":
        flags.mode, flags.flush = Mode.FLUSH, value


def _mode(value: str) -> str:
    mode = value[:1]
    if mode not in _MODES:
        raise Usage(f"-b{value} is not supported; the daemon is smtpd")
    return mode


def _set_option(flags: Flags, letter: str, setting: str) -> None:
    if letter == "i":
        flags.dot_ends = setting.strip()[:1].lower() in ("f", "n", "0")


def _notify(value: str) -> str:
    """RFC 3461 4.1: NEVER stands alone."""
    words = value.upper().replace(" ", "").split(",")
    if not _NOTIFY.issuperset(words) or ("NEVER" in words and len(words) > 1):
        raise Usage(f"-N {value}: expected never, or some of success, failure and delay with commas between")
    return ",".join(words)


def _ret(value: str) -> str:
    if value.upper() not in ("FULL", "HDRS"):
        raise Usage(f"-R {value}: expected full or hdrs")
    return value.upper()


def _envid(value: str) -> bytes:
    envid = os.fsencode(value)
    if not 0 < len(envid) + 2 * sum(map(envid.count, b"+= ")) <= MAX_ENVID or not all(
        32 <= octet < 127 for octet in envid
    ):
        raise Usage(f"-V: expected 1 to {MAX_ENVID} printable characters")
    return envid
