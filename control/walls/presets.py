"""Which walls each role has: what it may read, write and connect to. None of them starts programs or makes processes.

| role | reads | writes | connects | listens |
|---|---|---|---|---|
| queue | its spool, ``/etc`` | its spool | name servers, and Unix sockets | no |
| ingress | our code | nothing | nowhere: it cannot make a socket | at the sockets that it is given |
| delivery | ``/etc``, certificates | nothing | anywhere | no |
| helper | ``/etc`` | nothing | anywhere | no |

``/etc`` is readable as a whole where names are looked up: useradd(8) and resolvconf(8) put new files in place of ``passwd``
and ``resolv.conf``, and a rule for the file alone would be for the one that has gone. What in there is secret is root's, and
no role is. Ingress, the only role that strangers reach, has the helper look up names.

Guarantees: a preset names folders, so that what is replaced in them stays readable; only the spool can be written.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import sysconfig
from dataclasses import dataclass, replace
from typing import Final

from control.walls.landlock import ANY_FREE_PORT, Reach
from control.walls.seccomp import Ban

_DNS: Final = 53

#: Libraries of the system's, loaded when they are needed first; the zones of times in the log; what the C library, the
#: interpreter and OpenSSL look at to see where they run.
_SYSTEM: Final = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache"),
    *("/usr/share/zoneinfo", "/etc/localtime", "/etc/ssl/openssl.cnf"),
    *("/dev/null", "/dev/urandom", "/dev/random", "/dev/zero"),
    *("/proc/self", "/proc/meminfo", "/proc/stat", "/proc/cpuinfo", "/proc/sys/kernel", "/proc/sys/vm"),
    *("/proc/sys/crypto", "/sys/devices/system/cpu", "/sys/fs/cgroup"),
)
#: Where names of users, hosts and services come from: files, and what the services of the system keep for all.
_NAMES: Final = (
    "/etc",
    "/run/systemd",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/nscd",
    "/var/lib/sss",
    "/var/db",
)
#: Where the distributions keep the certificates of authorities, `/etc` apart.
_AUTHORITIES: Final = (
    *("/usr/share/ca-certificates", "/usr/local/share/ca-certificates", "/usr/share/pki"),
    "/var/lib/ca-certificates",
)
_UNIX: Final = (socket.AF_UNIX,)
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)
#: With it the C library asks the kernel for the addresses of this machine.
_NETLINK: Final = (int(getattr(socket, "AF_NETLINK", 16)),)


@dataclass(frozen=True, slots=True)
class Wall:
    """What keeps the process of one role in."""

    #: The role, for the log.
    name: str
    reach: Reach
    ban: Ban

    def with_files(self, read: tuple[str, ...]) -> Wall:
        """The same wall, with these to read as well: databases that the configuration names."""
        return replace(self, reach=replace(self.reach, read=(*self.reach.read, *read)))


def queue_wall(spool_dir: str) -> Wall:
    """The queue: its spool, and name servers for ``smtpctl explain``."""
    reach = Reach(read=(*_code(), *_SYSTEM, *_NAMES), write=(spool_dir,), connect=(_DNS,))
    families = _UNIX + _INTERNET + _NETLINK
    return Wall("queue", reach, Ban(families, connect=False, bind=False))


def ingress_wall() -> Wall:
    """Ingress: descriptors that it is given, and nothing else; the helper asks for users and names of hosts."""
    return Wall("ingress", Reach(read=(*_code(), *_SYSTEM)), Ban(listen=False))


def delivery_wall() -> Wall:
    """Delivery: every server in the world, and the agents' sockets."""
    reach = Reach(
        read=(*_code(), *_SYSTEM, *_NAMES, *_AUTHORITIES, *_own_authorities()), connect=None, bind=(ANY_FREE_PORT,)
    )
    return Wall("delivery", reach, Ban(_UNIX + _INTERNET + _NETLINK, connect=False, bind=False))


def helper_wall() -> Wall:
    """The helper: whatever the name services of this machine need."""
    reach = Reach(read=(*_code(), *_SYSTEM, *_NAMES), connect=None, others=True)
    return Wall("helper", reach, Ban(_UNIX + _INTERNET + _NETLINK, connect=False, bind=False))


def _code() -> tuple[str, ...]:
    """Where modules are, of ours and of others; some are imported when they are needed first."""
    return (sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *(path for path in sys.path if path))


def _own_authorities() -> tuple[str, ...]:
    """Where this OpenSSL looks, wherever it came from."""
    paths = ssl.get_default_verify_paths()
    found = (os.path.dirname(paths.openssl_cafile), paths.openssl_capath)
    return tuple(path for path in found if path)
