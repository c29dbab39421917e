"""``bounce``, ``ca``, ``pki``, ``queue``, ``smtp`` lines, and macros."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final, NoReturn

from policy.errors import Place
from policy.grammar.arguments import count, delay, literal, options, size
from policy.grammar.cursor import Cursor, Misread
from policy.grammar.syntax import EncryptionStatement, PkiStatement, Script, Word
from policy.grammar.vocabulary import (
    COMPRESSIONS,
    DIRECTIVES,
    LATER,
    MAX_PROCESSES,
    OLD_KEYS,
    PKI_OPTIONS,
    SMTP_LIMITS,
)
from policy.suggestion import did_you_mean

#: What cannot be read of this line may be a key, and is not repeated.
_WRONG_ENCRYPTION: Final = 'expected "queue encryption", a key or where it is, and "old" with keys that only open'
_PKI_NAME: Final = re.compile(r"\*|[a-z0-9._-]{1,255}")


def macro(cursor: Cursor, name: Word) -> None:
    """The rest of ``name = value``, the equals sign being next."""
    cursor.advance()
    cursor.lexer.macros.broken.add(name.text)
    value = cursor.string("a string as the value of the macro")
    if re.search(r"\s", name.text):
        cursor.fail(name.place, "the name of a macro cannot hold whitespace")
    cursor.end_directive()
    cursor.lexer.macros.define(name.text, value.text)


def bounce(cursor: Cursor, script: Script, _place: Place) -> None:
    """``warn-interval DELAY, DELAY ...``: when senders hear that their mail still waits."""
    second_word(cursor, "bounce")
    delays = [delay(cursor).value]
    while cursor.accept_mark(","):
        delays.append(delay(cursor).value)
    cursor.end_directive()
    script.warn_intervals = sorted(set(delays))


def ca(cursor: Cursor, script: Script, _place: Place) -> None:
    """``NAME cert FILE``."""
    name = _pki_name(cursor, "ca")
    script.begun.add(("ca", name.text))
    if not cursor.accept_word("cert"):
        cursor.fail_expecting('"cert"')
    path = cursor.string("the file of the certificates")
    cursor.end_directive()
    script.cas[name.text] = path


def pki(cursor: Cursor, script: Script, _place: Place) -> None:
    """``NAME cert FILE``, ``NAME key FILE``; the lines of one name add up."""
    name = _pki_name(cursor, "pki")
    script.begun.add(("pki", name.text))
    statement = script.pkis.setdefault(name.text, PkiStatement(name))
    # A line that could not be read may have said what the others do not.
    was_misread, statement.is_misread = statement.is_misread, True
    given = options(cursor, PKI_OPTIONS, f"pki {name.text}")
    cursor.end_directive()
    statement.is_misread = was_misread
    if cert := given.find("cert"):
        statement.cert = cert.string()
    if key := given.find("key"):
        statement.key = key.string()
    if dhe := given.find("dhe"):
        statement.dhe = dhe.string()


def queue(cursor: Cursor, script: Script, _place: Place) -> None:
    """``compression [WAY]``, ``encryption [KEY] [old KEYS]``, ``ttl DELAY``."""
    match second_word(cursor, "queue"):
        case "ttl":
            script.queue_ttl = delay(cursor).value
        case "compression":
            script.compression = _compression(cursor)
        case _:
            script.encryption = _encryption(cursor)
            return
    cursor.end_directive()


def smtp(cursor: Cursor, script: Script, _place: Place) -> None:
    """``ciphers LIST``, ``limit KEY N ...``, ``max-message-size SIZE``, ``processes N``, ``sub-addr-delim CHAR``."""
    match second_word(cursor, "smtp"):
        case "limit":
            _smtp_limits(cursor, script)
        case "ciphers":
            script.ciphers = cursor.string("a list of ciphers")
        case "max-message-size":
            script.max_message_size = size(cursor).value
        case "processes":
            script.smtp_processes = processes(cursor)
        case _:
            script.sub_addr_delim = _delimiter(cursor)
    cursor.end_directive()


def processes(cursor: Cursor) -> int:
    """Take how many processes there are to be."""
    found = count(cursor)
    if found.value > MAX_PROCESSES:
        cursor.fail(found.place, f"{found.value} processes are too many: at most {MAX_PROCESSES}")
    return found.value


def second_word(cursor: Cursor, directive: str) -> str:
    """Take the word that says which ``directive`` this is."""
    token = cursor.token
    if not cursor.accept_word(*DIRECTIVES[directive]):
        _fail_second_word(cursor, directive)
    return token.text


def _fail_second_word(cursor: Cursor, directive: str) -> NoReturn:
    known = DIRECTIVES[directive]
    token = cursor.token
    if later := LATER.get(f"{directive} {token.text}"):
        cursor.fail(token.place, f'not supported yet: "{directive} {token.text}" ({later})')
    if token.is_string:
        cursor.fail(token.place, f'unknown setting "{directive} {token.text}"{_second_hint(directive, token.text)}')
    cursor.fail_expecting(" or ".join(f'"{word}"' for word in known) + f' after "{directive}"')


def _second_hint(directive: str, word: str) -> str:
    known = DIRECTIVES[directive]
    later = [each.partition(" ")[2] for each in LATER if each.startswith(f"{directive} ")]
    hint = did_you_mean(word, [*known, *later])
    return hint if hint.endswith("?") else did_you_mean(word, known)


def _compression(cursor: Cursor) -> str:
    if cursor.at_line_end:
        return COMPRESSIONS[0]
    word = cursor.string(f"a way to compress ({', '.join(COMPRESSIONS)}), or the end of the line")
    if word.text not in COMPRESSIONS:
        cursor.fail(word.place, f'unknown compression "{word.text}"{did_you_mean(word.text, COMPRESSIONS)}')
    return word.text


def _encryption(cursor: Cursor) -> EncryptionStatement:
    """To the end of the line. What is wrong with it is said without the line, where a key may stand."""
    try:
        cursor.accept_word("key")
        key = None if cursor.at_line_end or cursor.at_word(OLD_KEYS) else cursor.string("a key, or where it is")
        old = _old_keys(cursor) if cursor.accept_word(OLD_KEYS) else ()
        cursor.end_directive()
    except Misread as misread:
        raise Misread(replace(misread.finding, message=_WRONG_ENCRYPTION, source="")) from None
    return EncryptionStatement(key, old)


def _old_keys(cursor: Cursor) -> tuple[Word, ...]:
    return literal(cursor).keys if cursor.at_mark("{") else (cursor.string("a key, or where it is"),)


def _smtp_limits(cursor: Cursor, script: Script) -> None:
    while not cursor.at_line_end:
        key = cursor.string(f"a limit ({', '.join(SMTP_LIMITS)})")
        if key.text == "max-mails":
            script.max_mails = count(cursor).value
        elif key.text == "max-rcpt":
            script.max_recipients = count(cursor).value
        else:
            cursor.fail(key.place, f'unknown limit "{key.text}" of smtp{did_you_mean(key.text, SMTP_LIMITS)}')


def _delimiter(cursor: Cursor) -> str:
    word = cursor.string("one character between user and tag")
    if len(word.text) != 1:
        cursor.fail(word.place, "the sub-address delimiter must be one character")
    if not word.text.isprintable() or word.text in "@ ":
        cursor.fail(word.place, f'"{word.text}" cannot be the sub-address delimiter')
    return word.text


def _pki_name(cursor: Cursor, directive: str) -> Word:
    word = cursor.string(f'the name after "{directive}"')
    if not _PKI_NAME.fullmatch(word.text.lower()):
        cursor.fail(word.place, f'"{word.text}" is not a valid name here: expected a host name or "*"')
    return Word(word.text.lower(), word.place)
