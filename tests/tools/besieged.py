"""A daemon with a next server behind it, for tests that attack the one and look at what comes to the other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from anyio.from_thread import start_blocking_portal

from tests.tools.daemon import Daemon, wait_for
from tests.tools.recording_sink import Received, RecordingSink


@dataclass
class Besieged:
    """Both, while they run."""

    daemon: Daemon
    sink: RecordingSink

    @property
    def messages(self) -> list[Received]:
        """What the next server has been given."""
        return self.sink.messages

    def relayed(self, text: bytes) -> Received:
        """Wait for the message that holds ``text`` to come to the next server."""
        found: list[Received] = []

        def is_there() -> bool:
            found[:] = [message for message in self.messages if text in message.body]
            return bool(found)

        wait_for(is_there, f"{text!r} at the next server")
        return found[0]

    def mailbox(self) -> list[bytes]:
        """What lies in the Maildir that configurations call ``/Maildir``."""
        return [path.read_bytes() for path in (self.daemon.root / "Maildir/new").glob("*")]

    def delivered(self, text: bytes) -> bytes:
        """Wait for the message that holds ``text`` in the mailbox."""
        wait_for(lambda: any(text in message for message in self.mailbox()), f"{text!r} in the mailbox")
        return next(message for message in self.mailbox() if text in message)


@contextmanager
def besieged(
    root: Path, configuration: str, tables: Mapping[str, str] | None = None, sink: RecordingSink | None = None
) -> Iterator[Besieged]:
    """Run both; ``configuration`` may say ``$port`` and ``$sink``."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(sink or RecordingSink()) as running:
        text = configuration.replace("$sink", str(running.port))
        with Daemon(root, text, tables=tables or {}) as daemon:
            yield Besieged(daemon, running)
