"""What is about to be appended to an mbox, committed before the first octet of it.

A repetition after a crash compares the mailbox with the intent: the whole of it there means delivered, a strict prefix at
the end is our own torn write and is cut off, anything else means that nothing was written.
"""

from __future__ import annotations

from dataclasses import dataclass

from spool.ids import EnvelopeId


@dataclass(frozen=True, slots=True)
class MboxIntent:
    """``length`` octets with this ``checksum``, at ``offset`` of the file that ``device`` and ``inode`` name."""

    envelope: EnvelopeId
    path: str
    device: int
    inode: int
    offset: int
    length: int
    checksum: bytes
