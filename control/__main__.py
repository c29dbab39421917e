"""``smtpd``: understands its command line, checks the configuration, and hands over to the daemon.

What only looks (``-h``, ``-n``) loads nothing of the daemon.

Failure: exit status 1 for wrong usage or configuration; `control.daemon` has the others.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

from control.options import USAGE, Options, UsageError, read_options
from control.process import has_syslog, prepare_process
from spool.layout import Layout, layout

if TYPE_CHECKING:
    from control.separated.cradled import Cradle
    from policy.parser import Loaded

#: What OpenSMTPD's smtpd ends with for anything wrong on its command line or in its configuration.
EX_WRONG: Final = 1


def smtpd() -> int:
    """The command; its exit status."""
    try:
        options = read_options(sys.argv[1:])
    except UsageError as error:
        _say(f"smtpd: {error}", USAGE)
        return EX_WRONG
    if options.help:
        from importlib.metadata import version

        _say(f"version: Mailspool {version('mailspool')}", USAGE)
        return EX_WRONG
    places = layout(options.root)
    if options.migrate:
        from control.migrate import print_migrated

        return print_migrated(options.migrate, places, options.macros)
    cradle = _cradle_ahead(options)
    from policy.errors import ConfigError
    from policy.parser import load_config

    try:
        loaded = load_config(options.file or places.conf_file, places, options.macros)
    except ConfigError as error:
        _say(*map(str, error.findings))
        return EX_WRONG
    if options.import_opensmtpd:
        return _import(options, places, loaded)
    if options.check:
        return _report(loaded, is_verbose=options.verbose)
    return _serve(options, places, loaded, cradle)


def _cradle_ahead(options: Options) -> Cradle | None:
    """What forks the roles, where there will be roles to fork: it reads its code while this process reads everything else.

    Who leaves the terminal first is another process afterwards, and starts it then.
    """
    serves = not options.check and not options.import_opensmtpd and (options.debug or options.foreground)
    if not serves or options.one_process or os.geteuid() != 0:
        return None
    from control.separated.cradled import Cradle

    prepare_process()
    cradle = Cradle(to_syslog=_goes_to_syslog(options))
    cradle.start()
    return cradle


def _goes_to_syslog(options: Options) -> bool:
    return not options.debug and has_syslog()


def _report(loaded: Loaded, *, is_verbose: bool) -> int:
    _say(*map(str, loaded.warnings))
    if is_verbose:
        from policy.text import config_text

        _say(*loaded.notes)
        print(config_text(loaded.config), end="", flush=True)
    _say("configuration OK")
    return os.EX_OK


def _import(options: Options, places: Layout, loaded: Loaded) -> int:
    from control.import_opensmtpd import import_opensmtpd
    from control.sealing import ask_key, sealing_of
    from policy.queue_key import KeyUnusable

    config = loaded.config
    try:
        sealing = sealing_of(config, ask_key(config))
    except KeyUnusable as error:
        _say(f"smtpd: {error}")
        return EX_WRONG
    return import_opensmtpd(options.import_opensmtpd, places, config, sealing, only_lists=options.check)


def _serve(options: Options, places: Layout, loaded: Loaded, cradle: Cradle | None) -> int:
    from control.background import into_background
    from control.daemon import run
    from control.generation import Source, log_warnings
    from control.journal import open_journal
    from control.sealing import ask_key
    from control.start import Start
    from policy.queue_key import KeyUnusable

    try:
        asked = ask_key(loaded.config)
    except KeyUnusable as error:
        _say(f"smtpd: {error}")
        return EX_WRONG
    to_syslog = _goes_to_syslog(options)
    # A reload happens in another folder than the one in which the command line was typed.
    source = Source(places, os.path.abspath(options.file or places.conf_file), options.macros, asked)
    starting = None
    if not (options.debug or options.foreground):
        starting = into_background(keep_stderr=not to_syslog)
    journal = open_journal(to_syslog, options.verbose)
    for subsystem in options.traces:
        journal.trace(subsystem)
    log_warnings(loaded)
    return run(Start(source, loaded.config, journal, options.paused, options.one_process, cradle), starting)


def _say(*lines: str) -> None:
    for line in lines:
        print(line, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(smtpd())
