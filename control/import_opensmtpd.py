"""``smtpd --import-opensmtpd DIR``: the mail of an OpenSMTPD spool moves into ours, while neither daemon runs.

Guarantees: nothing in DIR is changed. A message comes in with all its envelopes that can be read, in one transaction, and
once, however often this runs within 7 days.

Failure: exit status 1 when something was left behind, each file with its reason on standard error; 75 while smtpd runs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import anyio

from control.old_mail import OldMail, Translator
from control.old_spool import OldMessage, OldSpool, OldSpoolError
from control.printing import counted, one_line
from policy.config import Config
from scheduler.planner import lane_by
from spool.archive import Moved, MovedEnvelope
from spool.bodies import CHUNK, SMALL_BODY, StoredBody
from spool.errors import SpoolError, SpoolInUse
from spool.ids import MessageId
from spool.lane import Lane
from spool.layout import Layout
from spool.moving import AlreadyHere, Arrival, destination_of
from spool.seal import Sealing
from spool.writer import SpoolWriter

_EX_TROUBLE: Final = 1
#: What stands for the name of an archive: all that comes from an OpenSMTPD.
ARCHIVE: Final = "opensmtpd"


@dataclass(slots=True)
class Figures:
    """What was done."""

    messages: int = 0
    envelopes: int = 0
    skipped: int = 0
    left: int = 0


def import_opensmtpd(folder: str, places: Layout, config: Config, sealing: Sealing, *, only_lists: bool) -> int:
    """Take, or only list, the mail in ``folder``; the exit status."""
    keys = [key for key in (sealing.key, *sealing.old) if key]
    importing = _Import(OldSpool(folder, keys), config)
    try:
        if only_lists:
            importing.list()
        else:
            anyio.run(importing.take, places, sealing)
    except SpoolInUse as error:
        _say(f"{error}: stop smtpd first")
        return os.EX_TEMPFAIL
    except OSError as error:
        _say(f"{error.filename or folder}: {error.strerror}")
        return _EX_TROUBLE
    except SpoolError as error:
        _say(str(error))
        return _EX_TROUBLE
    return importing.end("would be imported" if only_lists else "imported")


class _Import:
    def __init__(self, old: OldSpool, config: Config) -> None:
        self._old = old
        self._config = config
        self._translator = Translator(config, time.time())
        self._figures = Figures()

    def list(self) -> None:
        """Say what would be taken, a line for each envelope."""
        for moved, _ in self._mail():
            self._count(moved)
            sender = _address(moved.sender_local, moved.sender_domain)
            for envelope in moved.envelopes:
                to = _address(envelope.destination.local, envelope.destination.domain)
                what = envelope.kind.value if envelope.kind.is_report else f"action {envelope.action}"
                print(one_line(f"{moved.id}.{envelope.ordinal} {what}: from <{sender}> to <{to}>, {moved.size} octets"))

    async def take(self, places: Layout, sealing: Sealing) -> None:
        """Take it."""
        spool = await SpoolWriter.open(places)
        try:
            spool.seal_with(sealing)
            for moved, body in self._mail():
                try:
                    await spool.require_new(ARCHIVE, moved.id)
                    content = await _stored(spool, moved, body)
                    await spool.take_in(Arrival(moved, content, ARCHIVE, self._lane_of))
                except AlreadyHere:
                    self._figures.skipped += 1
                else:
                    self._count(moved)
        finally:
            await spool.aclose()

    def end(self, what: str) -> int:
        """Say what was done; the exit status."""
        figures = self._figures
        if offline := self._old.offline():
            self._leave("offline", f"{counted(offline, 'message')} that sendmail left: give them to sendmail again")
        skipped = f", {counted(figures.skipped, 'message')} skipped that came before" if figures.skipped else ""
        print(f"{counted(figures.messages, 'message')}, {counted(figures.envelopes, 'envelope')} {what}{skipped}")
        return _EX_TROUBLE if figures.left else os.EX_OK

    def _mail(self) -> Iterator[tuple[Moved, bytes]]:
        for message in self._old.messages():
            envelopes = list(self._envelopes(message))
            if not envelopes:
                continue
            try:
                body = self._old.body(message)
            except OldSpoolError as error:
                self._leave(f"{message.folder}/message", str(error))
                continue
            for sender in sorted({fields["sender"] for fields in envelopes}):
                same = [fields for fields in envelopes if fields["sender"] == sender]
                yield self._translator.moved(OldMail(f"{message.id} {sender}", body, same)), body

    def _envelopes(self, message: OldMessage) -> Iterator[dict[str, str]]:
        for name in message.envelopes:
            try:
                fields = dict(self._old.envelope(message, name))
                self._translator.check(fields)
                if fields["type"] != "bounce" and fields["dispatcher"] not in self._config.actions:
                    _say(
                        f"{message.folder}/{name}: no action {fields['dispatcher']!a} here: it waits until there is one"
                    )
            except OldSpoolError as error:
                self._leave(f"{message.folder}/{name}", str(error))
            else:
                yield fields

    def _lane_of(self, envelope: MovedEnvelope) -> Lane:
        action = self._config.actions.get(envelope.action)
        if action is None or envelope.kind.is_report:
            return Lane(envelope.action, envelope.key)
        return lane_by(action)(destination_of(envelope.destination))

    def _count(self, moved: Moved) -> None:
        self._figures.messages += 1
        self._figures.envelopes += len(moved.envelopes)

    def _leave(self, path: str, reason: str) -> None:
        self._figures.left += 1
        _say(f"{path}: {reason}")


async def _stored(spool: SpoolWriter, moved: Moved, body: bytes) -> bytes | StoredBody:
    if len(body) <= SMALL_BODY:
        return body
    writer = await spool.new_body(MessageId(moved.id))
    try:
        for start in range(0, len(body), CHUNK):
            writer.write(body[start : start + CHUNK])
        return writer.finish()
    except BaseException:
        writer.abandon()
        raise


def _address(local: str, domain: str) -> str:
    return f"{local}@{domain}" if local else ""


def _say(line: str) -> None:
    print(f"smtpd: {one_line(line)}", file=sys.stderr)
