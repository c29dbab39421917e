"""``ciphers`` and ``protocols``: what they say is tried out when the configuration is read."""

from __future__ import annotations

from collections.abc import Callable

from policy.build.workbench import Workbench
from policy.grammar.syntax import Options, Word


def ciphers_of(bench: Workbench, options: Options) -> str:
    """The ciphers of one listener or relay: its own, or those of ``smtp ciphers``; empty for the usual ones."""
    given = options.find("ciphers")
    if given is None:
        return bench.script.ciphers.text if bench.script.ciphers else ""
    return check_ciphers(bench, given.string())


def check_ciphers(bench: Workbench, word: Word) -> str:
    """The list of ciphers ``word``; an error when it leaves none."""
    # The TLS library costs 20 ms: only those pay who ask for something.
    from policy.tls_choice import check_ciphers as check

    return _tried(bench, word, check)


def protocols_of(bench: Workbench, options: Options) -> str:
    """The TLS versions of one listener or relay; empty for the usual ones."""
    given = options.find("protocols")
    if given is None:
        return ""
    # As in `check_ciphers`.
    from policy.tls_choice import versions_of

    return _tried(bench, given.string(), versions_of)


def _tried(bench: Workbench, word: Word, check: Callable[[str], object]) -> str:
    from policy.tls_choice import TlsChoiceError

    if not word.text:
        bench.complain(word.place, "an empty string allows nothing")
        return ""
    try:
        check(word.text)
    except TlsChoiceError as error:
        bench.complain(word.place, str(error))
    return word.text
