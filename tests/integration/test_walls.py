"""What each role cannot do behind its walls, and what it has to be able to do there, in forked children."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import mmap
import os
import platform
import signal
import socket
import sqlite3
import struct
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
import uvloop

from control.walls.kernel import CALLS
from control.walls.landlock import ANY_FREE_PORT, Reach, landlock_version
from control.walls.presets import Wall, delivery_wall, helper_wall, ingress_wall, queue_wall
from control.walls.raising import Standing, WallsBroken, raise_walls
from control.walls.seccomp import Ban, has_seccomp
from tests.tools.walled import GAMES, Killed, behind, in_child

pytestmark = pytest.mark.skipif(landlock_version() < 6 or not has_seccomp(), reason="the kernel lacks some walls")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")

MSG_FASTOPEN = 0x20000000
AF_UNSPEC = struct.pack("=H14x", 0)


@pytest.fixture
def spool() -> Iterator[str]:
    """A folder of the user behind the walls, who can reach it."""
    with tempfile.TemporaryDirectory() as above:
        os.chmod(above, 0o755)
        folder = Path(above) / "spool"
        folder.mkdir()
        (folder / "message").write_text("From: a\n\n")
        if GAMES is not None:
            for path in (folder, folder / "message"):
                os.chown(path, GAMES.uid, GAMES.gid)
        yield str(folder)


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def everyone(spool: str) -> list[Wall]:
    return [queue_wall(spool), ingress_wall(), delivery_wall(), helper_wall()]


def refusal(wall: Wall, act: Callable[[], object]) -> int | None:
    """The number of the error."""
    try:
        behind(wall, act)
    except OSError as error:
        return error.errno
    pytest.fail(f"{wall.name} was let through")


def reads(path: str) -> Callable[[], object]:
    return lambda: Path(path).read_bytes()


def connects(address: tuple[str, int] | str) -> Callable[[], object]:
    def act() -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        with socket.socket(family) as made:
            made.connect(address)

    return act


# -- ingress ----------------------------------------------------------------------------------------------------------


def test_ingress_cannot_open_shadow() -> None:
    assert refusal(ingress_wall(), reads("/etc/shadow")) == errno.EACCES


@needs_root
def test_ingress_could_not_even_open_shadow_as_root() -> None:
    with pytest.raises(PermissionError):
        behind(ingress_wall(), reads("/etc/shadow"), person=None)


def test_ingress_cannot_open_the_spool(spool: str) -> None:
    assert refusal(ingress_wall(), reads(f"{spool}/message")) == errno.EACCES
    assert refusal(ingress_wall(), partial(os.listdir, spool)) == errno.EACCES


def test_ingress_cannot_write_anywhere(spool: str) -> None:
    for folder in (spool, "/tmp", "/var/tmp", "/dev/shm", "/run"):
        assert refusal(ingress_wall(), partial(os.open, f"{folder}/x", os.O_WRONLY | os.O_CREAT)) == errno.EACCES


@pytest.mark.parametrize("start", ["execve", "fork", "spawn", "memory"])
def test_nobody_starts_a_program(spool: str, start: str) -> None:
    def from_memory() -> None:
        descriptor = os.memfd_create("x")
        os.write(descriptor, Path("/bin/true").read_bytes())
        os.execve(descriptor, ["true"], {})

    ways: dict[str, Callable[[], object]] = {
        "execve": partial(os.execv, "/bin/true", ["true"]),
        "fork": os.fork,
        "spawn": partial(os.posix_spawn, "/bin/true", ["true"], {}),
        "memory": from_memory,
    }
    for wall in everyone(spool):
        assert refusal(wall, ways[start]) in {errno.EPERM, errno.EACCES}, wall.name


def test_ingress_cannot_connect_out(listening: socket.socket) -> None:
    assert refusal(ingress_wall(), connects(listening.getsockname())) == errno.EPERM
    assert refusal(ingress_wall(), connects("/dev/log")) == errno.EPERM


def test_ingress_cannot_connect_out_with_a_socket_that_it_was_given(listening: socket.socket) -> None:
    with socket.socket() as given:
        assert refusal(ingress_wall(), partial(given.connect, listening.getsockname())) == errno.EPERM


def test_ingress_cannot_connect_out_by_sending_fast(listening: socket.socket) -> None:
    with socket.socket() as given:
        send = partial(given.sendto, b"x", MSG_FASTOPEN, listening.getsockname())
        assert refusal(ingress_wall(), send) == errno.EPERM
        send_message = partial(given.sendmsg, [b"x"], [], MSG_FASTOPEN, listening.getsockname())
        assert refusal(ingress_wall(), send_message) == errno.EPERM


def test_ingress_cannot_turn_a_client_into_a_connection_to_somebody_else(listening: socket.socket) -> None:
    with socket.create_connection(listening.getsockname()), listening.accept()[0] as session:

        def turn() -> None:
            libc = ctypes.CDLL(None, use_errno=True)
            if libc.connect(session.fileno(), AF_UNSPEC, len(AF_UNSPEC)):
                raise OSError(ctypes.get_errno(), "connect")

        assert refusal(ingress_wall(), turn) == errno.EPERM


def test_ingress_cannot_bind(spool: str) -> None:
    with socket.socket() as given:
        assert refusal(ingress_wall(), partial(given.bind, ("127.0.0.1", 0))) == errno.EPERM


def test_ingress_serves_at_the_sockets_that_it_is_given() -> None:
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        given.listen()
        with socket.create_connection(given.getsockname()) as client:

            def serve() -> bytes:
                given.listen()
                with given.accept()[0] as session:
                    session.sendall(b"220 ready")
                    return session.recv(100)

            client.sendall(b"QUIT")
            assert behind(ingress_wall(), serve) == b"QUIT"
            assert client.recv(100) == b"220 ready"


def test_ingress_finds_no_user_and_the_helper_does() -> None:
    def look() -> str:
        import pwd

        return pwd.getpwnam("games").pw_dir

    assert behind(helper_wall(), look) == "/usr/games"
    with pytest.raises(KeyError):
        behind(ingress_wall(), look)


# -- delivery ---------------------------------------------------------------------------------------------------------


def test_delivery_cannot_listen() -> None:
    def listen() -> None:
        with socket.socket() as made:
            made.listen()

    assert refusal(delivery_wall(), listen) == errno.EPERM


def test_delivery_cannot_take_a_port() -> None:
    def bind() -> None:
        with socket.socket() as made:
            made.bind(("127.0.0.1", 40125))

    assert refusal(delivery_wall(), bind) == errno.EACCES


def test_delivery_connects_from_an_address_of_its_choice(listening: socket.socket) -> None:
    def connect() -> str:
        with socket.create_connection(listening.getsockname(), source_address=("127.0.0.9", ANY_FREE_PORT)) as made:
            return str(made.getsockname()[0])

    assert behind(delivery_wall(), connect) == "127.0.0.9"


def test_delivery_connects_to_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "lmtp")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        behind(delivery_wall(), connects(path), person=None)


def test_delivery_sends_datagrams_and_looks_up_names() -> None:
    def look() -> bytes:
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as two,
        ):
            one.bind(("127.0.0.1", 0))
            two.connect(one.getsockname())
            two.send(b"question")
            assert socket.getaddrinfo("localhost", 25)
            return one.recv(100)

    assert behind(delivery_wall(), look) == b"question"


def test_delivery_reads_the_certificates_of_authorities() -> None:
    def load() -> int:
        import ssl

        return len(ssl.create_default_context().get_ca_certs())

    assert behind(delivery_wall(), load) == load()


def test_delivery_and_helper_cannot_open_the_spool_or_shadow(spool: str) -> None:
    for wall in (delivery_wall(), helper_wall()):
        assert refusal(wall, reads(f"{spool}/message")) == errno.EACCES
        if GAMES is not None:
            assert refusal(wall, reads("/etc/shadow")) == errno.EACCES


# -- the queue --------------------------------------------------------------------------------------------------------


def test_the_queue_keeps_a_database_in_its_spool(spool: str) -> None:
    def keep() -> int:
        os.mkdir(f"{spool}/a")
        os.mkdir(f"{spool}/b")
        Path(f"{spool}/a/body").write_text("x")
        os.rename(f"{spool}/a/body", f"{spool}/b/body")
        os.unlink(f"{spool}/b/body")
        os.rmdir(f"{spool}/a")
        with sqlite3.connect(f"{spool}/queue.db") as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.execute("CREATE TABLE mail (id INTEGER PRIMARY KEY, text TEXT)")
            database.executemany("INSERT INTO mail (text) VALUES (?)", [("x" * 100,)] * 1000)
            found = database.execute("SELECT count(*) FROM mail").fetchone()[0]
        database.close()
        return int(found)

    assert behind(queue_wall(spool), keep) == 1000


def test_the_queue_makes_no_socket_and_no_fifo_in_its_spool(spool: str) -> None:
    def bind() -> None:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(f"{spool}/sock")

    assert refusal(queue_wall(spool), bind) == errno.EACCES
    assert refusal(queue_wall(spool), partial(os.mkfifo, f"{spool}/fifo")) == errno.EACCES
    assert refusal(queue_wall(spool), partial(os.symlink, "/etc/shadow", f"{spool}/link")) == errno.EACCES


def test_the_queue_writes_nothing_beside_its_spool(spool: str) -> None:
    for folder in (str(Path(spool).parent), "/tmp", "/var/tmp", "/dev/shm"):
        assert refusal(queue_wall(spool), partial(os.open, f"{folder}/x", os.O_WRONLY | os.O_CREAT)) == errno.EACCES


def test_the_queue_connects_to_name_servers_alone(spool: str, listening: socket.socket) -> None:
    assert refusal(queue_wall(spool), connects(listening.getsockname())) == errno.EACCES
    assert refusal(queue_wall(spool), connects(("127.0.0.1", 53))) == errno.ECONNREFUSED


def test_a_spool_that_is_not_there_is_no_spool_to_be_walled_in(tmp_path: Path) -> None:
    with pytest.raises(WallsBroken, match="No such file"):
        behind(queue_wall(str(tmp_path / "nothing")), lambda: None)


# -- everybody --------------------------------------------------------------------------------------------------------


def test_nobody_reads_what_another_process_has_open(spool: str) -> None:
    def peek() -> None:
        os.listdir(f"/proc/{os.getppid()}/fd")

    for wall in everyone(spool):
        with pytest.raises(PermissionError):
            behind(wall, peek)


def test_nobody_signals_another_process(spool: str) -> None:
    for wall in everyone(spool):
        assert refusal(wall, lambda: os.kill(os.getppid(), 0)) == errno.EPERM
        assert behind(wall, lambda: os.kill(os.getpid(), 0)) is None


@pytest.mark.parametrize(
    "name",
    ["ptrace", "bpf", "mount", "unshare", "chroot", "keyctl", "io_uring_setup", "userfaultfd", "perf_event_open"],
)
def test_nobody_makes_a_call_that_none_of_ours_needs(spool: str, name: str) -> None:
    def call() -> int:
        libc = ctypes.CDLL(None, use_errno=True)
        libc.syscall(CALLS[platform.machine()][name], 0, 0, 0, 0, 0)
        return ctypes.get_errno()

    for wall in everyone(spool):
        assert behind(wall, call) == errno.EPERM, wall.name


@pytest.mark.parametrize("family", [socket.AF_PACKET, 38, 40], ids=["packet", "alg", "vsock"])
def test_nobody_makes_a_socket_of_a_strange_family(spool: str, family: int) -> None:
    for wall in everyone(spool):
        assert refusal(wall, partial(socket.socket, family, socket.SOCK_RAW)) == errno.EPERM, wall.name


@pytest.mark.skipif(platform.machine() != "x86_64", reason="calls of i386")
def test_a_call_by_the_door_for_programs_of_32_bits_ends_the_process(spool: str) -> None:
    def knock() -> int:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        # mov eax, 20 (getpid); int 0x80; ret
        page.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")
        function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        return int(function())

    for wall in everyone(spool):
        with pytest.raises(Killed, match=str(int(signal.SIGSYS))):
            behind(wall, knock)


def test_nobody_has_a_capability_or_gets_one(spool: str) -> None:
    def status() -> dict[str, str]:
        lines = Path("/proc/self/status").read_text().splitlines()
        return dict(line.split(":\t", 1) for line in lines if ":\t" in line)

    for wall in everyone(spool):
        found = behind(wall, status)
        sets = {found[name] for name in ("CapInh", "CapPrm", "CapEff", "CapAmb")}
        assert sets == {"0" * 16}
        assert found["CapBnd"] == "0" * 16 or GAMES is None
        assert (found["NoNewPrivs"], found["Seccomp"]) == ("1", "2")


@needs_root
def test_nobody_is_root_again_or_in_a_group_of_roots(spool: str) -> None:
    def who() -> tuple[object, ...]:
        return os.getresuid(), os.getresgid(), os.getgroups()

    assert GAMES is not None
    for wall in everyone(spool):
        assert behind(wall, who) == ((GAMES.uid,) * 3, (GAMES.gid,) * 3, [])
        assert refusal(wall, partial(os.setuid, 0)) == errno.EPERM


def test_the_walls_hold_for_threads_that_come_later(spool: str) -> None:
    def act() -> list[int | None]:
        found: list[int | None] = []

        def try_it() -> None:
            for attempt in (reads(f"{spool}/message"), os.fork):
                try:
                    attempt()
                except OSError as error:
                    found.append(error.errno)

        thread = threading.Thread(target=try_it)
        thread.start()
        thread.join()
        return found

    assert behind(ingress_wall(), act) == [errno.EACCES, errno.EPERM]


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"])
def test_everybody_runs_a_loop_with_threads_and_modules_that_come_late(spool: str, loop: Callable[[], object]) -> None:
    async def main() -> str:
        import wave  # nobody has loaded it yet

        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        running = asyncio.get_running_loop()
        await running.sock_sendall(far, b"hello")
        await asyncio.sleep(0.001)
        await asyncio.to_thread(os.urandom, 8)
        time.strftime("%b %e %H:%M:%S %Z")
        near_said = await running.sock_recv(near, 100)
        return near_said.decode() + wave.__name__

    def run() -> str:
        with asyncio.Runner(loop_factory=loop) as runner:  # type: ignore[arg-type]
            return runner.run(main())

    for wall in everyone(spool):
        # Below /root, where the interpreter may be on this machine, only root reads.
        assert behind(wall, run, person=None) == "hellowave"


def test_a_process_that_has_threads_gets_no_walls() -> None:
    def act() -> object:
        release = threading.Event()
        thread = threading.Thread(target=release.wait)
        thread.start()
        try:
            return raise_walls(ingress_wall(), None)
        finally:
            release.set()
            thread.join()

    with pytest.raises(WallsBroken, match="one thread"):
        in_child(act)


@needs_root
def test_nobody_is_walled_in_as_root_by_name() -> None:
    from tests.tools.walled import Somebody

    with pytest.raises(WallsBroken, match="rights of root"):
        in_child(lambda: raise_walls(ingress_wall(), Somebody("toor", 0, 0)))


def test_what_stands_is_told_in_one_line(spool: str) -> None:
    standing: Standing = in_child(lambda: raise_walls(queue_wall(spool), GAMES))
    assert standing.is_whole
    assert standing.describe().startswith(f"queue: no privileges, Landlock {landlock_version()}, ")
    assert "system calls refused" in standing.describe()


def test_a_database_that_the_configuration_names_is_read_behind_the_wall(spool: str) -> None:
    wall = ingress_wall().with_files((f"{spool}/message",))
    assert behind(wall, reads(f"{spool}/message")) == b"From: a\n\n"


@pytest.mark.parametrize(
    ("version", "gaps"),
    [
        (0, ("files", "truncating files", "TCP", "signals")),
        (2, ("truncating files", "TCP", "signals")),
        (3, ("TCP", "signals")),
        (4, ("signals",)),
        (6, ()),
    ],
)
def test_an_older_kernel_holds_what_it_can_and_says_what_it_cannot(
    spool: str, monkeypatch: pytest.MonkeyPatch, version: int, gaps: tuple[str, ...]
) -> None:
    monkeypatch.setattr("control.walls.landlock.landlock_version", lambda: version)

    def act() -> tuple[Standing, bool]:
        standing = raise_walls(Wall("ingress", Reach(), Ban()), GAMES)
        return standing, os.access(f"{spool}/message", os.R_OK) and _can_open(f"{spool}/message")

    standing, can_open = in_child(act)
    assert standing.fence.gaps == gaps
    assert not standing.is_whole or version >= 6
    assert can_open is (version == 0)
    assert ("no Landlock" in standing.describe()) is (version == 0)


def _can_open(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDONLY))
    except PermissionError:
        return False
    return True
