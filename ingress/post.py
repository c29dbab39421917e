"""One message on its way from standard input to the daemon, or to the drop while the daemon cannot take it.

Guarantees: when `post` returns, the message is on disk: in the spool, or whole in the drop.

Failure: `ingress.flags.Stop`; the message is in neither then.

Imports little: see `ingress.enqueue`.
"""

import os
import time

from ingress.compose import MAX_LINE, BadMessage, Header, LineWatch, quoted_printable, read_header, wire_form
from ingress.dropfile import MAX_FIRST_LINES, Draft, first_lines
from ingress.flags import Flags, Stop, Usage
from ingress.handin import EVERYTHING, Letter, NotNow, Refused, Transaction, submit, verify
from ingress.mailboxes import BadAddress, mailboxes
from ingress.source import BrokenSource, Source
from spool.layout import Layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: Characters of a full name that go into From.
MAX_NAME = 200


def post(flags: Flags, layout: Layout) -> None:
    """Send the message on standard input as ``flags`` say."""
    if not flags.recipients and not flags.from_header:
        raise Usage("no recipients; name some, or take them from the header with -t")
    try:
        source = Source(0, flags.dot_ends)
        header = read_header(source)
        transaction = addressed(flags, header)
        if not flags.gateway:
            _complete(header, transaction.sender or _login(), flags, layout)
        letter, draft = _Composer(header, transaction, layout.drop_dir).compose(source)
        _send(letter, draft, transaction, layout, flags.verbose)
    except (BadMessage, BadAddress) as error:
        raise Stop(os.EX_DATAERR, str(error)) from None
    except BrokenSource as error:
        raise Stop(os.EX_IOERR, str(error)) from None
    except OSError as error:
        raise Stop(os.EX_TEMPFAIL, f"cannot keep the message in {layout.drop_dir}: {error.strerror}") from None


def probe(flags: Flags, layout: Layout) -> int:
    """Ask the daemon whether it would take mail for the recipients (``-bv``), and print its answers."""
    try:
        transaction = addressed(flags, Header())
        answers = verify(layout.submission_socket, transaction, flags.verbose)
    except (BadMessage, BadAddress) as error:
        raise Stop(os.EX_DATAERR, str(error)) from None
    except Refused as refusal:
        raise Stop(_exit_status(refusal), str(refusal)) from None
    except NotNow as reason:
        raise Stop(os.EX_TEMPFAIL, str(reason)) from None
    for recipient, (_, reply) in zip(transaction.recipients, answers, strict=True):
        print(f"{recipient.decode()}... {reply}")
    first_digits = {reply[:1] for _, reply in answers}
    if "5" in first_digits:
        return os.EX_NOUSER
    return os.EX_OK if first_digits == {"2"} else os.EX_TEMPFAIL


def addressed(flags: Flags, header: Header) -> Transaction:
    """Sender and recipients, from the arguments and, where they leave it to the header, from there.

    Without ``-f`` the sender is the author that the header names, or the user.
    """
    sender = header.author() or _login() if flags.sender is None else _one_address(flags.sender)
    recipients = [address for operand in flags.recipients for address in mailboxes(operand) if address]
    if flags.from_header:
        recipients += header.recipients()
    recipients = list(dict.fromkeys(recipients))
    if not recipients:
        raise BadMessage("no recipients")
    return Transaction(sender, recipients, flags.ret, flags.envid, flags.notify)


def _one_address(operand: bytes) -> bytes:
    """The address in the operand of ``-f``; nothing and ``<>`` mean the null sender."""
    found = mailboxes(operand)
    if len(found) > 1:
        raise BadAddress("more than one sender")
    return found[0] if found else b""


def _login() -> bytes:
    """The name of the user; the number where the system has no name for it."""
    from pwd import getpwuid  # a shared object, and most callers name a sender

    try:
        return os.fsencode(getpwuid(os.getuid()).pw_name)
    except KeyError:
        return b"%d" % os.getuid()


def _full_name(flags: Flags) -> str:
    """``-F``, ``$NAME``, or what the system's users are told of this one, in which ``&`` stands for the login."""
    from pwd import getpwuid

    name = flags.full_name or os.environ.get("NAME", "")
    if not name:
        try:
            user = getpwuid(os.getuid())
            name = user.pw_gecos.partition(",")[0].replace("&", user.pw_name.capitalize())
        except KeyError:
            pass
    return name[:MAX_NAME]


def _complete(header: Header, author: bytes, flags: Flags, layout: Layout) -> None:
    if not header.has(b"from"):
        header.add_author(author if b"@" in author else author + b"@" + host_name(layout), _full_name(flags))
    header.add_addressee()
    header.add_date(time.time())


def host_name(layout: Layout) -> bytes:
    """The name of this machine in mail, by the rule of the daemon's server name: ``mailname``, else the host's own.

    A host name without a dot is looked up, which may ask the network.
    """
    try:
        with open(layout.conf_dir + "/mailname", "rb") as file:
            name = file.readline(256).strip()
    except OSError:
        name = b""
    return name or _canonical(os.uname().nodename).encode()


def _canonical(name: str) -> str:
    if "." in name:
        return name
    from _socket import AI_CANONNAME, getaddrinfo

    try:
        # As octets: text would be encoded by the idna codec, which imports re.
        return getaddrinfo(name.encode(), None, 0, 0, 0, AI_CANONNAME)[0][3] or name
    except OSError:
        return name


class _Composer:
    """Turns what is read into a letter; its body goes to a draft."""

    def __init__(self, header: Header, transaction: Transaction, drop_dir: str) -> None:
        self._header = header
        self._start = first_lines(transaction.mail(EVERYTHING), transaction.rcpts(EVERYTHING))
        if len(self._start) > MAX_FIRST_LINES:
            raise BadMessage(f"{len(transaction.recipients)} recipients are too many for one message")
        self._drop_dir = drop_dir
        self._watch = LineWatch()

    def compose(self, source: Source) -> tuple[Letter, Draft]:
        """Read the body to its end; when it has lines that SMTP cannot carry, encode it."""
        draft = self._draft(wire_form(source))
        if self._watch.longest > MAX_LINE and self._header.can_be_encoded():
            self._header.add_encoding()
            self._watch = LineWatch()
            raw = draft
            try:
                draft = self._draft(quoted_printable(raw.pieces()))
            finally:
                raw.discard()
        header = self._header.encode()
        return Letter(header, draft.pieces(), draft.octets, self._watch.eight_bit or not header.isascii()), draft

    def _draft(self, pieces: "Iterable[bytes]") -> Draft:
        draft = Draft(self._drop_dir, self._start + self._header.encode())
        try:
            for piece in pieces:
                self._watch.see(piece)
                draft.write(piece)
        except BaseException:
            draft.discard()
            raise
        return draft


def _send(letter: Letter, draft: Draft, transaction: Transaction, layout: Layout, trace: bool) -> None:
    try:
        submit(layout.submission_socket, transaction, letter, trace)
    except NotNow as reason:
        _keep(draft, layout.drop_dir, f"the daemon cannot take the message now ({reason})")
        if trace:
            os.write(2, f"sendmail: {reason}; left in {layout.drop_dir}\n".encode())
    except Refused as refusal:
        raise Stop(_exit_status(refusal), str(refusal)) from None
    finally:
        draft.discard()


def _keep(draft: Draft, drop_dir: str, why: str) -> None:
    try:
        draft.keep()
    except OSError as error:
        raise Stop(os.EX_TEMPFAIL, f"{why}, nor can {drop_dir}: {error.strerror}") from None


def _exit_status(refusal: Refused) -> int:
    if refusal.status.startswith("5.7."):
        return os.EX_NOPERM
    return os.EX_NOUSER if refusal.command.startswith("RCPT") else os.EX_DATAERR
