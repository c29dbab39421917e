"""What the operating system's refusals mean for mail: a full disk, a quota, a mailbox that is not to be opened.

Everything here is temporary: whoever owns the mailbox can put it right, and the mail still waits.
"""

from __future__ import annotations

import errno

from delivery.deposit import deferred
from spool.outcome import Deferred, Stage
from spool.reply import Reply


def trouble(error: OSError) -> Deferred:
    """The outcome for one message that could not be written."""
    return _outcome(error, error.strerror or str(error), Stage.LOCAL)


def mailbox_trouble(error: OSError, path: str) -> Deferred:
    """The outcome for everything that goes to the mailbox ``path``, which could not be opened or made."""
    return _outcome(error, f"{path}: {error.strerror or error}", Stage.CONNECT)


def _outcome(error: OSError, text: str, stage: Stage) -> Deferred:
    if error.errno in (errno.EDQUOT, errno.EFBIG):
        return Deferred(Reply(452, "4.2.2", text), stage=stage)
    if error.errno == errno.ENOSPC:
        return Deferred(Reply(452, "4.3.1", text), stage=stage)
    if error.errno in (errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.ELOOP, errno.EISDIR):
        return deferred("4.2.0", text, stage)
    return deferred("4.3.0", text, stage)
