"""The command line of ``smtpd``.

Failure: `UsageError` with a sentence, for anything that is not on the usage line; nothing is accepted and ignored.
"""

from __future__ import annotations

import getopt
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

USAGE: Final = (
    "usage: smtpd [-dFhnv] [-D macro=value] [-f file] [-P mda|mta|smtp] [-T subsystem] "
    "[--migrate file] [--import-opensmtpd directory] [--one-process] [--root directory]"
)

#: What can start paused.
_PARTS: Final = ("mda", "mta", "smtp")
#: What has a meaning with ``--import-opensmtpd``.
_IMPORTING: Final = frozenset({"--import-opensmtpd", "--root", "-D", "-f", "-n"})


class UsageError(Exception):
    """The command line makes no sense."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    #: Foreground, log to standard error.
    debug: bool = False
    #: Foreground, log to syslog.
    foreground: bool = False
    help: bool = False
    #: Check the configuration and end.
    check: bool = False
    verbose: bool = False
    #: Empty for the built-in path.
    file: str = ""
    macros: dict[str, str] = field(default_factory=dict)
    traces: tuple[str, ...] = ()
    #: Parts that start paused.
    paused: tuple[str, ...] = ()
    root: str = ""
    #: As root too, all roles in one process.
    one_process: bool = False
    #: A configuration of the grammar before 6.4, to be printed anew; empty to run.
    migrate: str = ""
    #: The spool of an OpenSMTPD, to be taken over; with ``check`` it is only listed. Empty to run.
    import_opensmtpd: str = ""


def read_options(arguments: Sequence[str]) -> Options:
    """Understand ``arguments``, without the program's name."""
    try:
        pairs, operands = getopt.getopt(
            list(arguments), "dFhnvD:f:P:T:", ["root=", "migrate=", "import-opensmtpd=", "one-process"]
        )
    except getopt.GetoptError as error:
        raise UsageError(error.msg) from None
    if operands:
        raise UsageError(f"unexpected operand: {operands[0]}")
    given = {name for name, _ in pairs}
    values = dict(pairs)
    if "--migrate" in given and (other := sorted(given - {"--migrate", "--root", "-D"})):
        raise UsageError(f"--migrate only prints: {other[0]} has no meaning with it")
    if "--import-opensmtpd" in given and (other := sorted(given - _IMPORTING)):
        raise UsageError(f"--import-opensmtpd does not start smtpd: {other[0]} has no meaning with it")
    return Options(
        debug="-d" in given,
        foreground="-F" in given,
        help="-h" in given,
        check="-n" in given,
        verbose="-v" in given,
        file=values.get("-f", ""),
        macros=dict(_macro(value) for name, value in pairs if name == "-D"),
        traces=tuple(_subsystem(value) for name, value in pairs if name == "-T"),
        paused=tuple(dict.fromkeys(_part(value) for name, value in pairs if name == "-P")),
        root=values.get("--root", ""),
        one_process="--one-process" in given,
        migrate=values.get("--migrate", ""),
        import_opensmtpd=values.get("--import-opensmtpd", ""),
    )


def _macro(text: str) -> tuple[str, str]:
    name, equals, value = text.rpartition("=")
    if not equals or not name:
        raise UsageError(f"-D {text}: not macro=value")
    return name, value


def _subsystem(text: str) -> str:
    from control.journal import SUBSYSTEMS  # the log and all that it stands on

    if text not in SUBSYSTEMS:
        raise UsageError(f"-T {text}: not one of {' '.join(SUBSYSTEMS)}")
    return text


def _part(text: str) -> str:
    if text not in _PARTS:
        raise UsageError(f"-P {text}: not one of {' '.join(_PARTS)}")
    return text
