"""The DNS, as far as mail needs it: MX, AAAA and A records, asked of the servers in resolv.conf.

Guarantees: an answer "there is no such domain" is an authoritative NXDOMAIN; whatever keeps a server from answering is
`DnsTrouble` and therefore temporary. Answers are kept as long as they allow, at most `MAX_KEPT` seconds; troubles are not.
resolv.conf is read again when it changes: a machine that moves between networks needs no restart.

Failure: `NoSuchDomain`, `DnsTrouble`.

RFC 5321 5.1 (locating the target host), RFC 7505 (null MX), RFC 1035.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

import idna
from anyio import to_thread

from spool.layout import Layout

if TYPE_CHECKING:
    import dns.asyncresolver

#: Seconds an answer is kept at most, however long it says it is good.
MAX_KEPT: Final = 300.0
#: Answers kept; when there are more, all are forgotten, which is simple and rare.
MAX_ANSWERS: Final = 10_000
#: Seconds for one question, all servers and repetitions together.
PATIENCE: Final = 15.0


class DnsTrouble(Exception):
    """The DNS gives no answer now: a time-out, SERVFAIL, REFUSED, nonsense, no server to ask."""


class NoSuchDomain(Exception):
    """NXDOMAIN: there is no such domain, and no such name can receive mail."""


@dataclass(frozen=True, slots=True)
class Mx:
    """One MX record; the host is without its final dot, empty in a null MX."""

    preference: int
    host: str


class Resolver:
    """Asks the DNS. ``nameservers`` (address and port) take the place of those in ``resolv_conf``."""

    def __init__(
        self,
        resolv_conf: str = "/etc/resolv.conf",
        nameservers: Sequence[tuple[str, int]] = (),
        patience: float = PATIENCE,
    ) -> None:
        self._resolv_conf = resolv_conf
        self._nameservers = tuple(nameservers)
        self._patience = patience
        self._asker: dns.asyncresolver.Resolver | None = None
        self._stamp: object = None
        self._answers: dict[tuple[str, str], tuple[float, tuple[str, ...]]] = {}

    @classmethod
    def of_machine(cls, layout: Layout) -> Self:
        """The resolver of this machine. Below a root its own ``/etc/resolv.conf`` counts, where there is one."""
        inside = layout.inside("/etc/resolv.conf")
        return cls(inside if os.path.exists(inside) else "/etc/resolv.conf")

    async def mx(self, domain: str) -> tuple[Mx, ...]:
        """The MX records of ``domain``; none when it exists without any."""
        records = await self._ask(domain, "MX")
        pairs = (record.split(" ", 1) for record in records)
        return tuple(Mx(int(preference), host.rstrip(".")) for preference, host in pairs)

    async def addresses(self, host: str) -> tuple[str, ...]:
        """The IPv6 and IPv4 addresses of ``host``, in this order; none when it exists without any.

        Name servers that stumble over AAAA are not rare: addresses of one kind are enough.
        """
        found: tuple[str, ...] = ()
        trouble: DnsTrouble | None = None
        for kind in ("AAAA", "A"):
            try:
                found += await self._ask(host, kind)
            except DnsTrouble as error:
                trouble = error
        if trouble and not found:
            raise trouble
        return found

    async def _ask(self, name: str, kind: str) -> tuple[str, ...]:
        kept = self._answers.get((name, kind))
        if kept is not None and kept[0] > time.monotonic():
            return kept[1]
        seconds, answer = await self._ask_now(name, kind)
        if len(self._answers) >= MAX_ANSWERS:
            self._answers.clear()
        self._answers[name, kind] = (time.monotonic() + min(seconds, MAX_KEPT), answer)
        return answer

    async def _ask_now(self, name: str, kind: str) -> tuple[float, tuple[str, ...]]:
        # dnspython takes 130 ms and 8 MB to import; who relays to a smarthost never needs it.
        asker = await to_thread.run_sync(self._present_asker)
        import dns.exception
        import dns.name
        import dns.resolver

        try:
            answer = await asker.resolve(_absolute(name), kind, search=False, raise_on_no_answer=False)
        except (dns.resolver.NXDOMAIN, dns.name.LabelTooLong, dns.name.NameTooLong, dns.name.EmptyLabel) as error:
            raise NoSuchDomain(f"{name}: no such domain") from error
        except (dns.exception.DNSException, OSError) as error:
            raise DnsTrouble(f"{name}: {_words(error)} ({kind} record)") from error
        seconds = max(0.0, answer.expiration - time.time())
        return seconds, tuple(record.to_text() for record in answer.rrset or ())

    def _present_asker(self) -> dns.asyncresolver.Resolver:
        stamp = self._file_stamp()
        asker = self._asker
        if asker is None or stamp != self._stamp:
            asker = self._make_asker()
            self._asker, self._stamp = asker, stamp
        return asker

    def _make_asker(self) -> dns.asyncresolver.Resolver:
        import dns.asyncresolver
        import dns.nameserver
        import dns.resolver

        asker = dns.asyncresolver.Resolver(configure=False)
        asker.lifetime = self._patience
        if self._nameservers:
            asker.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._nameservers]
            return asker
        try:
            asker.read_resolv_conf(self._resolv_conf)
        except (dns.resolver.NoResolverConfiguration, OSError, ValueError) as error:
            raise DnsTrouble(f"{self._resolv_conf} names no server to ask") from error
        return asker

    def _file_stamp(self) -> object:
        if self._nameservers:
            return None
        try:
            found = os.stat(self._resolv_conf)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_ino, found.st_size


def _absolute(name: str) -> str:
    """The name as the DNS knows it: A-labels and a final dot. Raises `NoSuchDomain` for what can be no domain."""
    try:
        return (name if name.isascii() else idna.encode(name, uts46=True).decode()) + "."
    except idna.IDNAError as error:
        raise NoSuchDomain(f"{name}: not a domain name") from error


def _words(error: Exception) -> str:
    import dns.exception
    import dns.resolver

    match error:
        case dns.exception.Timeout():
            return "the DNS does not answer"
        case dns.resolver.NoNameservers():
            return "no name server could say"
        case _:
            return str(error) or type(error).__name__
