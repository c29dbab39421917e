"""smtpd.conf as tokens: words, quoted strings, numbers, keywords and marks, each with its place.

A newline ends a directive; a backslash before it joins two lines, in a comment too. A macro ``$name`` stands at the
beginning of a token; its value is read as if it stood there, so that it may be several tokens, but no macro is expanded
within it.

Guarantees: every call of `Lexer.next` makes progress, and after the last token of the last source it returns END for ever.
The text of a token holds no control character but a tab.

Failure: none is raised. What is not a token comes as one of kind BAD, whose text is the message for its place.

smtpd.conf(5).
"""

from __future__ import annotations

import bisect
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, NamedTuple

from policy.errors import Finding, Place

#: OpenSMTPD's limit for one token, in octets: what fits there fits here.
MAX_TOKEN_OCTETS: Final = 8095

#: Words with a meaning of their own unless they are quoted.
KEYWORDS: Final = frozenset(
    re.findall(
        r"\S+",
        """
        action admd alias any auth auth-optional backup bounce bypass ca cert chain chroot ciphers commit
        compression connect data data-line dhe disconnect domain ehlo encryption expand-only fcrdns filter for
        forward-only from group helo helo-src host hostname hostnames include inet4 inet6 junk key limit listen
        lmtp local mail-from maildir mask-src masquerade match max-deferred max-message-size mbox mda mta mx
        no-dsn no-verify noop on phase pki port proc proc-exec protocols proxy-v2 queue quit rcpt-to rdns
        received-auth recipient regex reject relay report rewrite rset scheduler senders smtp smtp-in smtp-out
        smtps socket src srs sub-addr-delim table tag tagged tls tls-require ttl user userbase verify virtual
        warn-interval wrapper
        """,
    )
)

_TOKEN: Final = re.compile(
    r"""
    (?: \\?[ \t] | \\\r?\n )*+
    (?:
      (?P<comment> \\?\# (?: \\\r?\n | [^\n] )*+ )
    | (?P<newline> \r?\n )
    | (?P<quote>   \\?["'] )
    | (?P<number>  -?[0-9]++ (?= [\s),/}=] | \Z ) )
    | (?P<word>    \\?[\w:] (?: \\\r?\n | \\\\ | \\?[^\s(){}<>!=\#,\\] )*+ )
    | (?P<macro>   \\?\$ [A-Za-z0-9_]*+ )
    | (?P<mark>    \\?(?: => | [(){}<>!=,] ) )
    | (?P<stray>   \\?[\s\S] (?: \\?[^\s(){}<>!=\#,\\] )*+ )
    | (?P<end>     \Z )
    )
    """,
    re.VERBOSE,
)
_QUOTED: Final = {quote: re.compile(rf"((?: \\{quote} | [^{quote}] )*+){quote}", re.VERBOSE) for quote in "\"'"}
_QUOTED_ESCAPE: Final = {quote: re.compile(rf"\\?\r?\n|\\([{quote} \t])") for quote in "\"'"}
_WORD_ESCAPE: Final = re.compile(r"\\\r?\n|\\([\s\S])")
_NUMBER: Final = re.compile(r"-?[0-9]+")
_ENDS_NUMBER: Final = re.compile(r"[\s),/}=]|\Z")
#: Quotes as word processors make them.
_TYPOGRAPHIC: Final = (
    "\N{LEFT DOUBLE QUOTATION MARK}\N{RIGHT DOUBLE QUOTATION MARK}\N{DOUBLE LOW-9 QUOTATION MARK}"
    "\N{LEFT SINGLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"
)
_MACRO_NAME: Final = re.compile(r"[A-Za-z0-9_]+")
_MACRO: Final = re.compile(rf"\$({_MACRO_NAME.pattern})")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_CONTROL_BUT_LINE_END: Final = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
#: Characters that fit in `MAX_TOKEN_OCTETS` whatever they are.
_SURELY_SHORT: Final = MAX_TOKEN_OCTETS // 4


class Kind(enum.Enum):
    """What a token is."""

    #: An unquoted word that is no keyword.
    WORD = "word"
    QUOTED = "quoted string"
    #: One of `KEYWORDS`, unquoted.
    KEYWORD = "keyword"
    NUMBER = "number"
    #: Punctuation: ``{ } ( ) < > ! = => ,``.
    MARK = "mark"
    NEWLINE = "end of line"
    END = "end of file"
    #: Not a token; its text says why.
    BAD = "error"


#: Each token is asked for its kind many times, and an enum's own names take ten times as long to be found.
WORD, QUOTED, KEYWORD, NUMBER = Kind.WORD, Kind.QUOTED, Kind.KEYWORD, Kind.NUMBER
MARK, NEWLINE, END, BAD = Kind.MARK, Kind.NEWLINE, Kind.END, Kind.BAD


class Source:
    """One file's text, and where its lines begin."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._shown: dict[int, str] = {}

    def place(self, offset: int) -> Place:
        """The line and column of the character at ``offset``."""
        line = bisect.bisect_right(self._line_starts, offset)
        start = self._line_starts[line - 1]
        shown = self._shown.get(line)
        if shown is None:
            shown = self._shown[line] = self._line(start)
        return Place(self.path, line, offset - start + 1, shown)

    def _line(self, start: int) -> str:
        end = self.text.find("\n", start)
        source = self.text[start : end if end >= 0 else len(self.text)]
        return _CONTROL.sub("?", source.removesuffix("\r"))

    @cached_property
    def _line_starts(self) -> list[int]:
        return [0, *(match.end() for match in re.finditer("\n", self.text))]


class Token(NamedTuple):
    """A token: its text without quotes and escapes, and where it begins.

    A tuple, because a long configuration has tens of thousands, and a frozen dataclass takes three times as long to make.
    """

    kind: Kind
    text: str
    source: Source
    offset: int
    #: Whether it is a quoted string that goes on over the end of its line.
    spans_lines: bool = False

    @property
    def place(self) -> Place:
        """Where it stands; a token out of a macro stands where the macro is used."""
        return self.source.place(self.offset)

    @property
    def is_string(self) -> bool:
        """Whether the grammar's strings may be written so: quoted, or a word that is no keyword."""
        return self.kind is WORD or self.kind is QUOTED


@dataclass(slots=True)
class Macros:
    """What ``$name`` stands for. Those of the command line hold against later definitions in the file."""

    persistent: Mapping[str, str]
    defined: dict[str, str] = field(default_factory=dict)
    #: Those whose definition could not be read.
    broken: set[str] = field(default_factory=set)

    def define(self, name: str, value: str) -> None:
        """A definition in the file; it replaces an earlier one."""
        self.defined[name] = value

    def get(self, name: str) -> str | None:
        """The value, or None when nobody has defined it."""
        return self.persistent.get(name, self.defined.get(name))

    def names(self) -> list[str]:
        """Every name that is defined now."""
        return sorted({*self.persistent, *self.defined})


@dataclass(slots=True)
class _Reading:
    """How far one source has been read. While a macro is expanded, its value is spliced into ``text`` at ``position``."""

    source: Source
    text: str
    position: int = 0
    #: What to add to an index of ``text`` behind the value to get the offset in the source.
    shift: int = 0
    #: Where in ``text`` the value ends, and where in the source the macro was used.
    value_end: int = 0
    used_at: int = 0
    #: The end of line behind its last token was read.
    is_ended: bool = False
    #: Whether no token can hold a control character.
    is_plain: bool = field(init=False)

    def __post_init__(self) -> None:
        self.is_plain = not _CONTROL_BUT_LINE_END.search(self.text)

    def expand(self, value: str, used_at: int) -> None:
        self.text, self.shift = value + self.text[self.position :], self.shift + self.position - len(value)
        self.position, self.value_end, self.used_at = 0, len(value), used_at
        self.is_plain = self.is_plain and not _CONTROL.search(value)


class Lexer:
    """Reads a source, and those that it includes, token by token."""

    def __init__(self, source: Source, macros: Macros) -> None:
        self.macros = macros
        #: What is read otherwise than it looks.
        self.doubts: list[Finding] = []
        self._readings = [_Reading(source, source.text)]

    @property
    def depth(self) -> int:
        """How many files are being read, each included by the one before it."""
        return len(self._readings)

    def enter(self, source: Source) -> None:
        """Read ``source`` to its end before anything else; an end of line is read behind it."""
        self._readings.append(_Reading(source, source.text))

    def next(self) -> Token:
        """The next token."""
        while True:
            reading = self._readings[-1]
            found = _TOKEN.match(reading.text, reading.position)
            # Whatever the text, something of it is a token, if only a stray one.
            assert found is not None
            kind = found.lastgroup or ""
            text = found[kind]
            # Every token ends where the match does.
            reading.position = found.end()
            start = reading.position - len(text)
            offset = reading.used_at if start < reading.value_end else start + reading.shift
            if kind == "word" and reading.is_plain and "\\" not in text and len(text) <= _SURELY_SHORT:
                # What most tokens are needs no further look.
                return Token(KEYWORD if text in KEYWORDS else WORD, text, reading.source, offset)
            if kind == "newline":
                return Token(NEWLINE, "", reading.source, offset)
            if kind == "mark":
                return Token(MARK, text.removeprefix("\\"), reading.source, offset)
            if kind == "macro" and start < reading.value_end:
                # A value's own dollar means nothing: values are not expanded again.
                kind = "stray"
            token = self._token(reading, kind, text, offset)
            if token is not None:
                return token

    def _end(self, reading: _Reading) -> Token | None:
        # An included file is left one token late, so that an include on its last line still counts as within it.
        if reading.is_ended:
            self._readings.pop()
            return None
        is_included = len(self._readings) > 1
        reading.is_ended = is_included
        return Token(NEWLINE if is_included else END, "", reading.source, len(reading.source.text))

    def _token(self, reading: _Reading, kind: str, text: str, offset: int) -> Token | None:
        match kind:
            case "end":
                return self._end(reading)
            case "comment":
                self._doubt_comment(reading, text, offset)
                return None
            case "number":
                return Token(NUMBER, text, reading.source, offset)
            case "word":
                return _checked(_word(reading, text, offset))
            case "quote":
                quoted = _checked(_quoted(reading, text[-1], offset))
                if "$" in quoted.text and quoted.kind is QUOTED:
                    self._doubt_macros(quoted)
                return quoted
            case "macro":
                return self._macro(reading, text, offset)
        return Token(BAD, _stray_message(text), reading.source, offset)

    def _doubt_comment(self, reading: _Reading, text: str, offset: int) -> None:
        place = reading.source.place(offset)
        if "\n" in text:
            self._doubt(place, "the backslash makes the next line part of this comment")
        before = reading.source.text[offset - 1 : offset + 1]
        if before.endswith("#") and before[0].isalnum():
            self._doubt(place, '"#" begins a comment here, too; within quotes it is part of the word')

    def _doubt_macros(self, token: Token) -> None:
        for name in _MACRO.findall(token.text):
            if self.macros.get(name) is not None:
                self._doubt(
                    token.place, f'"${name}" stays what it is within quotes: the macro is read only outside of them'
                )

    def _doubt(self, place: Place, message: str) -> None:
        self.doubts.append(Finding.at(place, message, is_warning=True))

    def _macro(self, reading: _Reading, text: str, offset: int) -> Token | None:
        name = text.removeprefix("\\")[1:]
        value = self.macros.get(name)
        if value is None:
            return Token(BAD, _undefined(name, self.macros), reading.source, offset)
        reading.expand(value, offset)
        return None


def _undefined(name: str, macros: Macros) -> str:
    if name in macros.broken:
        # That was said where it is defined.
        return ""
    long = next((each for each in macros.names() if each.startswith(name) and not _MACRO_NAME.fullmatch(each)), "")
    if long:
        return f'"${name}" ends here, for such names have letters, digits and "_" only: "{long}" has to be called otherwise'
    return f'macro "{name}" is not defined; defined are: {", ".join(macros.names()) or "none"}'


def _word(reading: _Reading, text: str, offset: int) -> Token:
    if "\\" in text:
        text = _WORD_ESCAPE.sub(lambda match: match.group(1) or "", text)
        if _NUMBER.fullmatch(text) and _ENDS_NUMBER.match(reading.text, reading.position):
            return Token(NUMBER, text, reading.source, offset)
    return Token(KEYWORD if text in KEYWORDS else WORD, text, reading.source, offset)


def _quoted(reading: _Reading, quote: str, offset: int) -> Token:
    found = _QUOTED[quote].match(reading.text, reading.position)
    if found is None:
        reading.position = len(reading.text)
        return Token(BAD, f"this quoted string has no end: {quote} is missing", reading.source, offset)
    reading.position = found.end()
    text = found.group(1)
    spans_lines = "\n" in text
    if "\\" in text or spans_lines:
        text = _QUOTED_ESCAPE[quote].sub(lambda match: match.group(1) or "", text)
    return Token(QUOTED, text, reading.source, offset, spans_lines)


def _checked(token: Token) -> Token:
    if len(token.text) > _SURELY_SHORT and len(token.text.encode(errors="replace")) > MAX_TOKEN_OCTETS:
        return Token(BAD, f"this string is longer than {MAX_TOKEN_OCTETS} octets", token.source, token.offset)
    if token.kind is not BAD and (bad := _CONTROL.search(token.text)):
        return Token(BAD, _control_message(bad.group()), token.source, token.offset)
    return token


def _control_message(char: str) -> str:
    if "\ud800" <= char <= "\udfff":
        return f"octet 0x{ord(char) & 0xFF:02x} is not UTF-8"
    return f"control character 0x{ord(char):02x} cannot stand here"


def _stray_message(text: str) -> str:
    if bad := _CONTROL.search(text):
        return _control_message(bad.group())
    if text[0] in "\"'" or "\\" in text:
        return f"{text} cannot stand here"
    if text[0] in _TYPOGRAPHIC:
        return f'{text[0]} is no quote: write "{text.strip(_TYPOGRAPHIC)}"'
    return f'{text} must stand in quotes: "{text}"'
