"""``sendmail``: how the programs of this machine hand in mail, whether or not the daemon runs.

The message goes to the submission socket. While nobody answers there, or the answer is "not now", it is left in the
drop directory, from where the daemon takes it when it is back. Needs no privilege: the socket can be written by
everybody, the drop directory too.

Guarantees: exit status 0 means that the message is on disk, once, in the spool or in the drop. 75 means that it is in
neither, as does every other status. Memory does not grow with the message.

Failure: exit statuses of sysexits.h. 64: the arguments make no sense; 65: the message cannot be sent, or the daemon
will not take it; 67: the daemon will not take a recipient; 75: try again; 77: the daemon does not allow it; a line on
standard error says why.

Every start of ``sendmail`` pays for every import. So the modules that it reads use no dataclasses, enum, re, typing,
argparse, socket, email or anything of ours that does, and no ``__future__``; a test keeps it so.

sendmail(8) describes the options and what happens to a message.
"""

import os
import sys

from ingress.flags import Flags, Mode, Stop, Usage, read_flags
from spool.layout import nearest_layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

#: Other names of this program, and what they ask for.
_PERSONALITIES = {"mailq": Mode.QUEUE, "newaliases": Mode.ALIASES}
#: What other commands do, as module and function; they share no process with us, because they import more.
_COMMANDS = {
    Mode.QUEUE: ("control.mailq", "main"),
    Mode.ALIASES: ("control.table_files", "newaliases"),
    Mode.FLUSH: ("control.smtpctl", "main"),
}


def main() -> int:
    """The command; returns its exit status."""
    _keep_standard_descriptors()
    try:
        return _run(os.path.basename(sys.argv[0]), sys.argv[1:])
    except Usage as usage:
        _say(f"{usage}\nusage: sendmail [-itv] [-F name] [-f sender] [recipient ...]; see sendmail(8)")
        return usage.status
    except Stop as stop:
        _say(str(stop))
        return stop.status


def _keep_standard_descriptors() -> None:
    """Some callers close them; a drop file that became descriptor 2 would collect complaints."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _say(text: str) -> None:
    try:  # noqa: SIM105 - contextlib costs a start 4 ms
        os.write(2, f"sendmail: {text}\n".encode(errors="replace"))
    except OSError:
        pass  # nobody listens; the exit status remains


def _run(name: str, arguments: list[str]) -> int:
    if name in _PERSONALITIES:
        _become(_PERSONALITIES[name], arguments)
    flags = read_flags(arguments)
    if flags.mode in _COMMANDS:
        _become(flags.mode, _arguments_of_command(flags))
    layout = nearest_layout(flags.root)
    if flags.mode == Mode.SMTP:
        from ingress.bridge import carry

        return carry(layout.submission_socket)
    from ingress.post import post, probe

    if flags.mode == Mode.VERIFY:
        return probe(flags, layout)
    post(flags, layout)
    return os.EX_OK


def _arguments_of_command(flags: Flags) -> list[str]:
    root = ["--root", flags.root] if flags.root else []
    return [*root, "schedule", _what_to_flush(flags.flush)] if flags.mode == Mode.FLUSH else root


def _what_to_flush(text: str) -> str:
    """``-q`` and ``-q30m`` mean everything, ``-qIid`` one message."""
    if text.startswith("I"):
        return text[1:]
    if text and not text[0].isdigit():
        raise Usage(f"-q{text} is not supported; smtpctl(8) lists the queue and schedules by id")
    return "all"


def _become(mode: str, arguments: list[str]) -> "NoReturn":
    """Run the command that does this, of the installation that this interpreter belongs to."""
    module, function = _COMMANDS[mode]
    start = f"import sys; from {module} import {function} as command; sys.exit(command())"
    os.execv(sys.executable, [sys.executable, "-I", "-c", start, *arguments])  # noqa: S606 - no shell is wanted
