"""How ``smtpctl`` writes rows: the 14 fields of ``show queue``, readable pages, and JSON, one object a line.

Guarantees: one row takes one line (an envelope's page one line a field), whatever an address or a remote server's reply
holds. JSON names are stable; its times are RFC 3339 in UTC.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from control.protocol import Answer, AttemptRow, CountRow, EnvelopeRow, LaneRow, StatusRow, TroubleRow, WallRow

#: Fields of any row that hold a time.
_TIMES: Final = frozenset({"arrived", "expires", "next_try", "since", "last_try", "started", "ended"})
#: A row's field that JSON calls otherwise.
_JSON_NAMES: Final = {"key": "lane"}

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_CONTROL_OR_BAR = re.compile(r"[|\x00-\x1f\x7f-\x9f\u2028\u2029]")


def json_line(row: Answer) -> str:
    """A row as a JSON object."""
    fields = msgspec.structs.asdict(row)
    return json.dumps({_JSON_NAMES.get(name, name): _json_value(name, value) for name, value in fields.items()})


def queue_line(row: EnvelopeRow, now: float, running: bool) -> str:
    """``show queue``: the fields of OpenSMTPD, separated by ``|``.

    id, family, type, flags, sender, recipient as given, destination, created, expires, last try, tries, state, seconds to
    the next try, error. Without a daemon the state is ``offline``.
    """
    state, seconds = _run_state(row, now) if running else ("offline", "")
    fields = (
        row.id,
        _family(row.client),
        _transport(row),
        _flags(row),
        row.sender or "@",
        row.recipient,
        row.destination,
        int(row.arrived),
        int(row.expires),
        int(row.last_try or 0),
        row.attempts,
        state,
        seconds,
    )
    return _fields(fields, row.error)


def count_line(row: CountRow) -> str:
    """``show queue --count``: how many, and of what."""
    value = "(others)" if row.others else _CONTROL.sub(_escape, row.value)
    return f"{row.count} {value}".rstrip()


def envelope_page(row: EnvelopeRow) -> Iterator[str]:
    """``show envelope``: ``name: value`` lines, those without a value left out."""
    for name, value in msgspec.structs.asdict(row).items():
        label = _JSON_NAMES.get(name, name).replace("_", "-")
        if name in _TIMES and value is not None:
            value = moment(value)
        if value is True:
            value = "yes"
        if value not in ("", None, False):
            yield f"{label}: {one_line(str(value))}"


def attempt_line(row: AttemptRow) -> str:
    """``show attempts``: id, started, ended, event, stage, route, remote host, recipient, reply, separated by ``|``."""
    fields = (
        row.envelope,
        int(row.started),
        int(row.ended),
        row.event,
        row.stage,
        row.route,
        row.remote,
        row.destination,
    )
    return _fields(fields, row.reply)


def lane_line(row: LaneRow, now: float) -> str:
    """``show lanes``: action, key, envelopes, state, seconds to the next try, failures in a row, error."""
    state = "parked" if row.parked else "paused" if row.paused else "failing" if row.failures else "open"
    seconds = "" if row.next_try is None else str(max(0, int(row.next_try - now)))
    fields = (row.action or "(reports)", row.key, str(row.waiting), state, seconds, str(row.failures))
    return _fields(fields, row.error)


def status_line(row: StatusRow | TroubleRow | WallRow) -> str:
    """``show status``: a part and how it stands, what keeps a process in, or a sentence about what is wrong."""
    if isinstance(row, TroubleRow | WallRow):
        return one_line(row.text)
    return f"{row.part.upper()} {'running' if row.running else 'paused'}"


def why_page(envelopes: list[EnvelopeRow], attempts: list[AttemptRow], now: float) -> Iterator[str]:
    """``why``: the history in sentences, then where each envelope stands."""
    for attempt in attempts:
        host = f" by {attempt.remote}" if attempt.remote else ""
        tried = f"{attempt.destination} {attempt.event}{host} via {attempt.route}: {attempt.reply}"
        yield f"{moment(attempt.ended)} {one_line(tried)}"
    for row in envelopes:
        yield f"{moment(now)} {one_line(row.destination)} {one_line(_standing(row, now))}"


def moment(wall: float) -> str:
    """A time for people, in this machine's zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(wall))


def duration(seconds: float) -> str:
    """``1d2h3m4s``, parts that are zero left out; ``0s``."""
    rest = max(0, int(seconds))
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def one_line(text: str) -> str:
    """``text`` with its control characters escaped."""
    return text if text.isprintable() else _CONTROL.sub(_escape, text)


def _fields(fields: Iterable[object], last: str) -> str:
    """Fields between bars, no bar within any but the last."""
    return "|".join([*(_CONTROL_OR_BAR.sub(_escape, str(field)) for field in fields), one_line(last)])


def _standing(row: EnvelopeRow, now: float) -> str:
    because = f": {row.error}" if row.error else ""
    if row.state == "inflight":
        return "is being tried now"
    if row.state == "held":
        return f"is held until an operator releases it{because}"
    if row.state == "damaged":
        return f"is set aside{because}"
    if row.next_try is None:
        return f"waits behind a lane that stands still{because}"
    return f"is tried in {duration(row.next_try - now)}{because}"


def _run_state(row: EnvelopeRow, now: float) -> tuple[str, str]:
    if row.state == "inflight":
        return "inflight", "" if row.since is None else str(int(max(0, now - row.since)))
    state = "damaged" if row.state == "damaged" else "pending"
    return state, "" if row.next_try is None else str(int(max(0, row.next_try - now)))


def _family(client: str) -> str:
    if client == "local":
        return "local"
    return "inet6" if ":" in client else "inet4"


def _transport(row: EnvelopeRow) -> str:
    if row.kind != "mail":
        return "bounce"
    return "mda" if row.user else "mta"


def _flags(row: EnvelopeRow) -> str:
    flags = {
        "bounce": row.kind != "mail",
        "auth": bool(row.login),
        "suspend": row.state == "held",
        "hold": row.lane_stopped,
    }
    return ",".join(name for name, on in flags.items() if on)


def _json_value(name: str, value: object) -> object:
    if name in _TIMES and isinstance(value, float):
        return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return value


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def counted(number: int, what: str) -> str:
    """A number of things."""
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
