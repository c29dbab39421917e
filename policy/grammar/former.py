"""Lines of the grammar before OpenSMTPD 6.4: one error each, which says what the line is now."""

from __future__ import annotations

from collections import ChainMap
from typing import Final, NoReturn

from policy.errors import Place
from policy.grammar.cursor import Cursor
from policy.grammar.syntax import PkiStatement, Script, Word
from policy.migrate.phrase import Untranslatable
from policy.migrate.recognition import FORMER
from policy.migrate.translation import present_form

#: The present grammar has lines with these first words, too.
_SHARED: Final = ("ca", "filter", "listen", "pki")


def refuse_former(cursor: Cursor, script: Script) -> None:
    """Give up the directive that begins here if it is of the older grammar."""
    if not cursor.at_word(*FORMER, *_SHARED):
        return
    place = cursor.token.place
    try:
        now = _now(cursor, script)
    except Untranslatable as error:
        _refuse(cursor, script, cursor.token.source.place(error.offset), f", and cannot be said anew: {error.message}")
    if now is not None:
        _refuse(cursor, script, place, f"; it is now: {now}")


def _now(cursor: Cursor, script: Script) -> str | None:
    token, macros = cursor.token, cursor.lexer.macros
    # Asked for only if the line is of the older grammar: a long configuration has many lines, and names.
    pkis = (name for kind, name in script.begun if kind == "pki")
    return present_form(token.source.text, token.offset, ChainMap(dict(macros.persistent), macros.defined), pkis)


def _refuse(cursor: Cursor, script: Script, place: Place, said: str) -> NoReturn:
    token = cursor.advance()
    name = cursor.token
    # What the line would have declared is not missed elsewhere, so that one line makes one error.
    script.begun.add(("match", ""))
    if token.text in ("ca", "pki") and name.is_string:
        script.begun.add((token.text, name.text.lower()))
    if token.text == "pki" and name.is_string:
        word = Word(name.text.lower(), name.place)
        script.pkis.setdefault(word.text, PkiStatement(word)).is_misread = True
    anew = f'"smtpd --migrate {token.source.path}" prints the whole file anew'
    cursor.fail(place, f"this is the grammar before OpenSMTPD 6.4{said} ({anew})")
