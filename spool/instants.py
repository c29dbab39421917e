"""The instants at which the spool can be stopped, by the names that ``docs/durability.md`` gives them.

Between two of them nothing becomes durable, or only what one call to the kernel makes so.
"""

from __future__ import annotations

import enum


class Instant(enum.StrEnum):
    """Said to `spool.files.Ops.reached` when the spool stands there."""

    #: A large body has its file, empty.
    BODY_CREATED = "body-created"
    #: The large bodies of a batch are fsynced, their names perhaps not.
    BODIES_SYNCED = "bodies-synced"
    #: Their directories are fsynced too; no row names them.
    BODIES_PUBLISHED = "bodies-published"
    #: All rows of a transaction are written, none is committed.
    BEFORE_COMMIT = "before-commit"
    #: The transaction is durable; nobody was answered.
    AFTER_COMMIT = "after-commit"
    #: A commit has forgotten a large body whose file is still there.
    BEFORE_UNLINK = "before-unlink"
    #: An orphan is about to be moved aside.
    BEFORE_ORPHAN = "before-orphan"
    #: The log is about to be written back to the database file, and has been.
    BEFORE_CHECKPOINT = "before-checkpoint"
    AFTER_CHECKPOINT = "after-checkpoint"
    #: The same, after an unclean stop, before anything is accepted.
    BEFORE_RECOVERY = "before-recovery"
    AFTER_RECOVERY = "after-recovery"
    #: The tables of a new spool are there; it has no name and no start yet.
    TABLES_MADE = "tables-made"
    #: Everything is done, and the stop not yet marked as clean; it is marked, and the log not yet written back.
    BEFORE_CLOSE = "before-close"
    MARKED_CLEAN = "marked-clean"
