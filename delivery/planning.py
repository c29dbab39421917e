"""Plans: of a claimed envelope and its action, whose deposit it is and what exactly is to be done.

Guarantees: the plan of an envelope is the same at every attempt, as long as the configuration and the user are; so a
repetition recognises what an attempt before it left. An address is never more than data in it.

Failure: `Refused` with a deferral for what the operator can mend (no such user, a wrong format specifier), and with a
failure for what nobody can (a command for root, an address that leads out of its directory).

RFC 5321 4.4 (Return-Path; written for the null sender too). smtpd.conf(5), MDA COMMANDS (the environment).
"""

from __future__ import annotations

import os
import pwd
from dataclasses import dataclass, replace
from typing import Final

from delivery.deposit import Deposit, Method, Refused, ToCommand, ToMaildir, ToMbox, deferred, failed
from delivery.identity import Identity, NoSuchUser, identity_in, identity_of
from delivery.specifiers import SpecifierError, UnfitValue, Values, expand_path
from delivery.words import arguments
from policy.command_line import SHELL
from policy.config import Command, LocalAction, Maildir, Mbox
from policy.errors import TableUnavailable
from spool.address import Address
from spool.intent import MboxIntent
from spool.layout import Layout
from spool.message import Claimed
from spool.outcome import Stage

#: Who runs commands and writes files that aliases name, when the daemon runs as root.
ALIAS_USER: Final = "_smtpm"
#: Where a command without a slash is looked for.
COMMAND_PATH: Final = "/usr/local/bin:/usr/bin:/bin"
#: Where mail goes that nobody wants: an alias may say so.
NOWHERE: Final = "/dev/null"
#: Who a message without a sender comes from, as mailboxes put it.
NO_SENDER: Final = "MAILER-DAEMON"


@dataclass(frozen=True, slots=True)
class Plan:
    """A deposit, and who makes it."""

    who: Identity
    deposit: Deposit


def local_header(one: Claimed) -> bytes:
    """What is put before every message that stays on this machine; lines end in LF."""
    sender, recipient = one.message.return_path, one.envelope.recipient.address
    return f"Return-Path: <{sender}>\nDelivered-To: {recipient}\n".encode("utf-8", "surrogateescape")


class Planner:
    """Plans for one batch. ``instance`` is the spool's name. May block for as long as name services do.

    ``delimiter`` separates users from tags. When it ``becomes_others``, what aliases name is `ALIAS_USER`'s to do.
    """

    def __init__(self, layout: Layout, instance: str, since: int, delimiter: str, *, becomes_others: bool) -> None:
        self._layout = layout
        self._instance = instance
        self._since = since
        self._delimiter = delimiter
        self._becomes_others = becomes_others
        self._known: dict[str, Identity] = {}

    def goes_nowhere(self, one: Claimed) -> bool:
        """Whether an alias throws this away; the null device is never looked for below a root."""
        return one.envelope.destination.target in (NOWHERE, self._layout.root + NOWHERE)

    def plan(self, one: Claimed, action: LocalAction, earlier: MboxIntent | None) -> Plan:
        """See the module. ``earlier`` is what the attempt before was about to append to an mbox."""
        try:
            who = self._who(one, action)
            method = self._method(one, action, who, earlier)
        except NoSuchUser as error:
            raise Refused(deferred("4.3.0", str(error), Stage.ROUTE)) from error
        except TableUnavailable as error:
            raise Refused(deferred("4.3.0", str(error), Stage.ROUTE)) from error
        except SpecifierError as error:
            raise Refused(deferred("4.3.5", str(error), Stage.ROUTE)) from error
        except UnfitValue as error:
            raise Refused(failed("5.1.3", str(error))) from error
        deposit = Deposit(
            envelope=one.envelope.id,
            method=method,
            header=local_header(one),
            address=str(one.envelope.destination.address),
            body=one.body,
            tried_before=was_tried(one, self._since),
        )
        return Plan(who, deposit)

    def _identity(self, name: str) -> Identity:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = identity_of(name)
        return known

    def _recipient(self, name: str, action: LocalAction) -> Identity:
        return self._identity(name) if action.userbase is None else identity_in(action.userbase, name)

    def _who(self, one: Claimed, action: LocalAction) -> Identity:
        if action.user:
            return self._identity(action.user)
        if name := one.envelope.destination.user:
            return self._recipient(name, action)
        if not self._becomes_others:
            return self._identity(own_name())
        try:
            return self._identity(ALIAS_USER)
        except NoSuchUser as error:
            raise NoSuchUser(f"{error}, who handles the commands and files of aliases") from error

    def _method(self, one: Claimed, action: LocalAction, who: Identity, earlier: MboxIntent | None) -> Method:
        target = one.envelope.destination.target
        if target.startswith("|"):
            return self._command(one, target[1:].strip(), who, action)
        if target:
            return self._mbox(one, target, earlier)
        match action:
            case Maildir(path=path, junk=junk):
                return replace(self._maildir(one, path, who, action), sorts_junk=junk)
            case Mbox():
                return self._mbox(one, f"{self._layout.mail_dir}/{_file_name(who.name)}", earlier)
            case Command(command=command):
                return self._command(one, command, who, action)
            case _:
                raise SpecifierError(f'action "{action.name}" is not for local deposits')

    def _maildir(self, one: Claimed, path: str, who: Identity, action: LocalAction) -> ToMaildir:
        path = expand_path(path, self._values(one, who, path, action))
        if path.startswith("~/"):
            path = path[2:]
        name = ".".join((str(int(one.message.received_at)), f"M{one.message.id}E{_ordinal(one)}", self._instance))
        folder = one.envelope.destination.extension.replace("/", ":").replace("%", ":")
        # A folder's name begins where the dot of its directory ends: "." would be the parent.
        return ToMaildir(os.path.join(who.home, path), name, folder.lstrip("."))

    def _mbox(self, one: Claimed, path: str, earlier: MboxIntent | None) -> ToMbox:
        sender = str(one.message.return_path) or NO_SENDER
        return ToMbox(path, sender, float(int(one.message.received_at)), earlier)

    def _values(self, one: Claimed, who: Identity, text: str, action: LocalAction) -> Values:
        """What the specifiers in ``text`` may stand for. The user is the recipient, whoever makes the deposit."""
        destination = one.envelope.destination
        user = destination.user or who.name
        values = {"user.username": user, "mbox.from": str(one.message.return_path) or NO_SENDER}
        if "user.directory" in text.lower():
            values["user.directory"] = self._recipient(user, action).home if destination.user else who.home
        values.update(_parts("sender", one.message.return_path))
        values.update(_parts("rcpt", one.envelope.recipient.address))
        values.update(_parts("dest", destination.address))
        return Values(values, self._delimiter, who.home)

    def _command(self, one: Claimed, command: str, who: Identity, action: LocalAction) -> ToCommand:
        if who.uid == 0:
            raise Refused(failed("5.7.1", f"MDA not allowed to deliver to: {who.name}"))
        values = self._values(one, who, command + action.wrapper, action)
        return ToCommand(arguments(command, values, action.wrapper), _environment(one, who), who.home or "/")


def was_tried(one: Claimed, since: int) -> bool:
    """Whether an attempt before this one may have left something in the mailbox.

    ``since`` is when this process began (spool ms): a process before it may have ended in the middle of an attempt.
    """
    return one.was_in_flight or one.envelope.attempts > 0 or one.message.arrived < since


def own_name() -> str:
    """The name of the user who runs this; raises `NoSuchUser`."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError as error:
        raise NoSuchUser(f"no user has the uid {os.geteuid()} on this system") from error


def _ordinal(one: Claimed) -> str:
    return one.envelope.id.partition(".")[2]


def _file_name(user: str) -> str:
    if "/" in user or user.startswith("."):
        raise UnfitValue(f"{user!r} is no name for a mailbox")
    return user


def _parts(name: str, address: Address) -> dict[str, str]:
    return {name: str(address), f"{name}.user": address.local, f"{name}.domain": address.domain}


def _environment(one: Claimed, who: Identity) -> dict[str, str]:
    """Exactly what smtpd.conf(5) promises, and two names that stay the same when a command is run again."""
    recipient, destination = one.envelope.recipient.address, one.envelope.destination
    environment = {
        "PATH": COMMAND_PATH,
        "DOMAIN": recipient.domain,
        "HOME": who.home,
        "ORIGINAL_RECIPIENT": str(recipient),
        "RECIPIENT": str(destination.address),
        "SHELL": SHELL,
        "LOCAL": recipient.local,
        "LOGNAME": who.name,
        "USER": who.name,
        "SENDER": str(one.message.return_path),
        "MESSAGE_ID": one.message.id,
        "ENVELOPE_ID": one.envelope.id,
    }
    if destination.extension:
        environment["EXTENSION"] = destination.extension
    return {name: _no_function(value) for name, value in environment.items()}


def _no_function(value: str) -> str:
    """Shells of old read a variable that begins so as a function, and ran what stood behind it (CVE-2014-6271)."""
    return value.replace("()", "::", 1) if value.lstrip().startswith("()") else value
