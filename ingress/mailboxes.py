"""The addresses in a header field or an operand of ``sendmail``, read octet by octet.

Guarantees: what `mailboxes` returns holds no control character and, outside quotes, no blank and no angle bracket, so
that it can stand between the angle brackets of an SMTP command. Whether it is an address that can be served is for
the server to say.

Failure: `BadAddress`, whose text says what is wrong.

RFC 5322 3.4 (lists, groups, comments), 4.4 (source routes); RFC 5321 4.1.2 (addresses). Imports next
to nothing: see `ingress.enqueue`.
"""


class BadAddress(ValueError):
    """Not an address, or not a list of them."""


#: Octets of a local part, and of a domain: what the daemon takes (`spool.address`).
MAX_OCTETS = 255
#: How deep comments may lie in comments: no honest header has more, and a hostile one costs no stack.
MAX_COMMENT_DEPTH = 100

_QUOTE, _OPEN, _CLOSE, _COMMA, _COLON, _SEMICOLON, _LEFT, _RIGHT, _BRACKET, _BACKSLASH = b'"(),:;<>[\\'
_BLANKS = b" \t\r\n"
_BEYOND_ASCII = bytes(range(128, 256))
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_ATEXT = _LETTERS + b"!#$%&'*+-/=?^_`{|}~" + _BEYOND_ASCII
_LABEL = _LETTERS + b"-_" + _BEYOND_ASCII


def mailboxes(text: bytes) -> list[bytes]:
    """The addresses in ``text``, without names, comments and groups; ``<>`` gives an empty one."""
    return _Scanner(text).scan()


class _Scanner:
    """One pass over a list of addresses."""

    __slots__ = ("_angle", "_found", "_position", "_text", "_words")

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._position = 0
        self._found: list[bytes] = []
        #: What stands outside angle brackets: a name, or the address itself.
        self._words = bytearray()
        #: What stands inside them; None when there are none.
        self._angle: bytearray | None = None

    def scan(self) -> list[bytes]:
        text = self._text
        while self._position < len(text):
            octet = text[self._position]
            if octet == _QUOTE:
                self._words += self._enclosed(b'"')
            elif octet == _BRACKET:
                self._words += self._enclosed(b"]")
            elif octet == _OPEN:
                self._skip_comment()
            elif octet == _LEFT:
                self._read_angle()
            elif octet in (_COMMA, _SEMICOLON):
                self._finish()
            elif octet == _COLON:
                self._words.clear()  # it was the name of a group
            else:
                self._words.append(octet)
            self._position += 1
        self._finish()
        return self._found

    def _enclosed(self, closing: bytes) -> bytes:
        """From the present octet to ``closing``, both included; leaves the position on the latter."""
        start = position = self._position
        while True:
            position += 1
            octet = self._text[position : position + 1]
            if not octet:
                raise BadAddress(f"no {closing.decode()} where an address needs one")
            if octet == closing:
                self._position = position
                return self._text[start : position + 1]
            if octet == b"\\":
                position += 1

    def _skip_comment(self) -> None:
        depth = 0
        while self._position < len(self._text):
            octet = self._text[self._position]
            if octet == _BACKSLASH:
                self._position += 1
            elif octet == _OPEN:
                depth += 1
                if depth > MAX_COMMENT_DEPTH:
                    raise BadAddress("comments too deep in an address")
            elif octet == _CLOSE:
                depth -= 1
                if not depth:
                    self._words += b" "
                    return
            self._position += 1
        raise BadAddress("no ) where an address needs one")

    def _read_angle(self) -> None:
        if self._angle is not None:
            raise BadAddress("no comma between two addresses")
        outside, self._words = self._words, bytearray()
        self._position += 1
        while self._text[self._position : self._position + 1] != b">":
            if self._position >= len(self._text):
                raise BadAddress("no > where an address needs one")
            octet = self._text[self._position]
            if octet == _QUOTE:
                self._words += self._enclosed(b'"')
            elif octet == _OPEN:
                self._skip_comment()
            else:
                self._words.append(octet)
            self._position += 1
        self._angle, self._words = self._words, outside

    def _finish(self) -> None:
        if self._angle is not None:
            self._found.append(_checked(_without_route(bytes(self._angle).strip(_BLANKS))))
        elif words := bytes(self._words).strip(_BLANKS):
            self._found.append(_checked(words))
        self._words.clear()
        self._angle = None


def _without_route(address: bytes) -> bytes:
    """``@a,@b:user@c`` means ``user@c`` (RFC 5321 appendix C)."""
    return address.partition(b":")[2] if address.startswith(b"@") else address


def _checked(address: bytes) -> bytes:
    if not address:
        return address
    local, at, domain = _split(address)
    if not _is_local(local) or (at and not _is_domain(domain)) or not _is_text(address):
        raise BadAddress(f"{address.decode(errors='replace')!a} is not an address")
    return local + at + domain


def _split(address: bytes) -> tuple[bytes, bytes, bytes]:
    """Local part, ``@`` and domain; the latter two are empty in an address without a domain."""
    start = 0
    if address.startswith(b'"'):
        start = 1
        while address[start : start + 1] not in (b'"', b""):
            start += 2 if address[start] == _BACKSLASH else 1
    found = address.rfind(b"@", start)
    if found < 0:
        return address, b"", b""
    return address[:found].rstrip(_BLANKS), b"@", address[found + 1 :].lstrip(_BLANKS)


def _is_local(local: bytes) -> bool:
    if len(local) > MAX_OCTETS:
        return False
    if not local.startswith(b'"'):
        return all(local.split(b".")) and not local.replace(b".", b"").translate(None, _ATEXT)
    inside = local[1:-1].replace(b"\\\\", b"").replace(b'\\"', b"")
    escaped = inside.split(b"\\")[1:]
    return (
        len(local) > 2 and local.endswith(b'"') and b'"' not in inside and all(b"" < each < b"\x80" for each in escaped)
    )


def _is_domain(domain: bytes) -> bool:
    if domain.startswith(b"[") and domain.endswith(b"]"):
        return _is_literal(domain[1:-1])
    labels = domain.split(b".")
    return len(domain) <= MAX_OCTETS and all(
        label and not label.translate(None, _LABEL) and b"-" not in (label[:1], label[-1:]) for label in labels
    )


def _is_literal(text: bytes) -> bool:
    from _socket import AF_INET, AF_INET6, inet_pton  # rarely needed

    v6 = text[:5].lower() == b"ipv6:"
    try:
        inet_pton(AF_INET6 if v6 else AF_INET, (text[5:] if v6 else text).decode("ascii"))
    except (OSError, ValueError):
        return False
    return True


def _is_text(address: bytes) -> bool:
    """Whether it is UTF-8 without control characters (RFC 6532 3.1)."""
    try:
        return address.decode().isprintable()
    except UnicodeDecodeError:
        return False
