"""Where things lie: configuration, spool, sockets, mailboxes; below ``--root`` a whole system lives in a folder.

Imports nothing but ``os``, because ``sendmail`` reads it at every start.

Without a root, root's system paths apply; an ordinary user gets paths that follow the XDG base directories.
"""

from __future__ import annotations

import os


class Layout:
    """The built-in paths. ``root`` is empty, or the folder that stands in front of each of them."""

    __slots__ = ("conf_dir", "mail_dir", "root", "run_dir", "spool_dir")

    def __init__(self, root: str, conf_dir: str, spool_dir: str, run_dir: str, mail_dir: str) -> None:
        self.root = root
        self.conf_dir = conf_dir
        self.spool_dir = spool_dir
        self.run_dir = run_dir
        self.mail_dir = mail_dir

    @property
    def conf_file(self) -> str:
        """The configuration that is read without ``-f``."""
        return self.conf_dir + "/smtpd.conf"

    @property
    def drop_dir(self) -> str:
        """Where ``sendmail`` leaves mail while nobody listens (mode 1733)."""
        return self.spool_dir + "/drop"

    @property
    def drop_damaged_dir(self) -> str:
        """Where what was found in the drop and cannot be mail is set aside."""
        return self.spool_dir + "/drop-damaged"

    @property
    def submission_socket(self) -> str:
        """The local SMTP socket (mode 0666)."""
        return self.run_dir + "/smtpd-submission.sock"

    @property
    def control_socket(self) -> str:
        """The socket that ``smtpctl`` asks (mode 0666)."""
        return self.run_dir + "/smtpd.sock"

    def inside(self, path: str) -> str:
        """``path`` of a configuration file, moved below the root if it is absolute."""
        return self.root + path if self.root and path.startswith("/") else path


def layout(root: str = "") -> Layout:
    """The layout for ``root``, for ``SMTPD_ROOT`` when that is empty, or for the user who runs this."""
    root = root or os.environ.get("SMTPD_ROOT", "")
    if root:
        return _system_layout(os.path.abspath(root).rstrip("/"))
    return _system_layout("") if os.geteuid() == 0 else _user_layout()


def nearest_layout(root: str = "") -> Layout:
    """The layout of the daemon that a command of this user talks to: the system's where there is one, else the user's own.

    There is one where its submission socket or its drop directory exists: mail may be left for it even while it rests.
    """
    if root or os.environ.get("SMTPD_ROOT"):
        return layout(root)
    system = _system_layout("")
    there = os.path.exists(system.submission_socket) or os.path.exists(system.drop_dir)
    return system if there else layout()


def _system_layout(root: str) -> Layout:
    return Layout(root, root + "/etc/smtpd", root + "/var/spool/smtpd", root + "/var/run", root + "/var/mail")


def _user_layout() -> Layout:
    home = os.path.expanduser("~")
    config = os.environ.get("XDG_CONFIG_HOME") or home + "/.config"
    state = os.environ.get("XDG_STATE_HOME") or home + "/.local/state"
    run = os.environ.get("XDG_RUNTIME_DIR") or state
    return Layout("", config + "/smtpd", state + "/smtpd", run, state + "/smtpd/mail")
