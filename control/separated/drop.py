"""The drop, for an ingress that may not read the files of others: root opens them and hands the descriptors over.

The frames are JSON on a `delivery.wire.Wire`: one method of `ingress.dropdoor.DropDoor` each.

Guarantees: root touches nothing but names inside the drop, and reads nothing of what it opens.

Failure: `RemoteDrop` raises what `DropDoor` does, and `OSError` when root's process has gone.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any, Final

from delivery.wire import Hangup, Wire
from ingress.dropdoor import DropFolder, SetAside, Unfit

#: Seconds that root may take.
PATIENCE: Final = 60.0
#: Names in one frame.
PAGE: Final = 50_000
#: Octets of a name; the kernel has no longer ones.
MAX_NAME: Final = 255

_log: Final = logging.getLogger("control.daemon")


class RemoteDrop:
    """`ingress.dropdoor.DropDoor`, through root's process; safe from every thread."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(True)
        end.settimeout(PATIENCE)
        self._wire = Wire(end)
        self._lock = threading.Lock()

    def changed(self) -> int:
        """See `DropDoor`."""
        with self._lock:
            return int(self._ask("changed")["value"])

    def names(self) -> list[str]:
        """See `DropDoor`."""
        with self._lock:
            answer = self._ask("names")
            names: list[str] = answer["value"]
            while answer["more"]:
                answer = self._wire.receive_json()
                names += answer["value"]
            return names

    def open(self, name: str) -> int:
        """See `DropDoor`."""
        with self._lock:
            self._ask("open", name)
            return self._wire.take_descriptor()

    def unlink(self, name: str) -> None:
        """See `DropDoor`."""
        with self._lock:
            self._ask("unlink", name)

    def set_aside(self, name: str) -> SetAside:
        """See `DropDoor`."""
        with self._lock:
            return SetAside(*self._ask("set_aside", name)["value"])

    def count_aside(self) -> int:
        """See `DropDoor`."""
        with self._lock:
            return int(self._ask("count_aside")["value"])

    def close(self) -> None:
        """Nothing more is asked."""
        self._wire.close()

    def _ask(self, what: str, name: str = "") -> dict[str, Any]:
        try:
            self._wire.send_json({"ask": what, "name": name})
            answer: dict[str, Any] = self._wire.receive_json()
        except (Hangup, TimeoutError) as error:
            raise OSError(None, f"root's process does not answer: {error}") from error
        if "unfit" in answer:
            raise Unfit(answer["unfit"])
        if "trouble" in answer:
            raise OSError(answer["errno"], answer["trouble"])
        return answer


class DropErrands:
    """Root's side; for a thread."""

    def __init__(self, folder: DropFolder) -> None:
        self._folder = folder

    def serve(self, end: socket.socket) -> None:
        """Until ingress hangs up."""
        wire = Wire(end)
        try:
            while True:
                order = wire.receive_json()
                self._handle(wire, str(order["ask"]), _checked(str(order["name"])))
        except Hangup:
            pass
        except (KeyError, TypeError, ValueError) as error:
            _log.error("the ingress process asks for what is not in the drop: %s", error)
        finally:
            wire.close()

    def _handle(self, wire: Wire, what: str, name: str) -> None:
        try:
            match what:
                case "changed":
                    wire.send_json({"value": self._folder.changed()})
                case "names":
                    self._send_names(wire, self._folder.names())
                case "open":
                    self._send_file(wire, name)
                case "unlink":
                    self._folder.unlink(name)
                    wire.send_json({})
                case "set_aside":
                    aside = self._folder.set_aside(name)
                    wire.send_json({"value": [aside.uid, aside.path]})
                case "count_aside":
                    wire.send_json({"value": self._folder.count_aside()})
                case _:
                    raise ValueError(f"{what} is no errand")
        except Unfit as error:
            wire.send_json({"unfit": str(error)})
        except OSError as error:
            wire.send_json({"trouble": error.strerror, "errno": error.errno})

    def _send_names(self, wire: Wire, names: list[str]) -> None:
        for start in range(0, max(len(names), 1), PAGE):
            wire.send_json({"value": names[start : start + PAGE], "more": start + PAGE < len(names)})

    def _send_file(self, wire: Wire, name: str) -> None:
        descriptor = self._folder.open(name)
        try:
            wire.send(b"{}", descriptor)
        finally:
            os.close(descriptor)


def _checked(name: str) -> str:
    """A name in the drop and nowhere else."""
    if "/" in name or "\0" in name or name in (".", "..") or len(name.encode(errors="surrogateescape")) > MAX_NAME:
        raise ValueError(f"{name!a} is no name of a file")
    return name
