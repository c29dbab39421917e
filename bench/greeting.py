"""When somebody greets: ``python -m bench.greeting ADDRESS PORT`` prints the moment of the 220, by the monotonic clock."""

from __future__ import annotations

import json
import socket
import sys
import time

#: Seconds between two tries, and until it gives up.
PAUSE, PATIENCE = 0.002, 60.0


def main(address: str, port: str) -> None:
    """Wait and print, as a JSON list."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with socket.create_connection((address, int(port)), PATIENCE) as connection:
                if connection.recv(3) == b"220":
                    print(json.dumps([time.monotonic()]))
                    return
        except OSError:
            time.sleep(PAUSE)
    sys.exit("nobody greets")


if __name__ == "__main__":
    main(*sys.argv[1:])
