"""libpam, through ctypes: one question, one answer.

Guarantees: the password goes to the conversation's hidden prompt and nowhere else; whatever else a module asks ends the
question. The account is checked too: one that has expired or is barred lets nobody in. No delay of PAM's own: who asks has
better ones.

Failure: `Verdict.TROUBLE` where PAM or a module of it is out of order. `OSError` when there is no libpam.

pam(3), pam_conv(3), pam_fail_delay(3), pam_start_confdir(3).
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable
from typing import Any, ClassVar, Final

from policy.login_frames import Question, Verdict
from policy.pam_service import LIBRARY, SERVICE

_SUCCESS: Final = 0
_CONVERSATION_ERROR: Final = 19
#: Where PAM itself, or what a module asks, is out of order; every other code says no. <security/_pam_types.h>.
_TROUBLE: Final = frozenset({1, 2, 3, 4, 5, 9, 26})
_RHOST: Final = 4
_FAIL_DELAY: Final = 10
_PROMPT_ECHO_OFF: Final = 1
_ERROR_MESSAGE: Final = 3
_TEXT: Final = 4
#: What one conversation may say, by PAM_MAX_NUM_MSG.
_MAX_MESSAGES: Final = 32


class _Message(ctypes.Structure):
    _fields_: ClassVar = [("style", ctypes.c_int), ("text", ctypes.c_char_p)]


class _Response(ctypes.Structure):
    _fields_: ClassVar = [("text", ctypes.c_void_p), ("code", ctypes.c_int)]


_Converse = ctypes.CFUNCTYPE(
    ctypes.c_int,
    ctypes.c_int,
    ctypes.POINTER(ctypes.POINTER(_Message)),
    ctypes.POINTER(ctypes.c_void_p),
    ctypes.c_void_p,
)
_Delay = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)


class _Conversation(ctypes.Structure):
    _fields_: ClassVar = [("converse", _Converse), ("data", ctypes.c_void_p)]


@functools.cache
def load() -> ctypes.CDLL:
    """The library. Raises `OSError`."""
    library = ctypes.CDLL(LIBRARY)
    handle = ctypes.c_void_p
    conversation, made = ctypes.POINTER(_Conversation), ctypes.POINTER(handle)
    library.pam_start.argtypes = [ctypes.c_char_p, ctypes.c_char_p, conversation, made]
    library.pam_set_item.argtypes = [handle, ctypes.c_int, ctypes.c_void_p]
    for name in ("pam_authenticate", "pam_acct_mgmt", "pam_end"):
        getattr(library, name).argtypes = [handle, ctypes.c_int]
    return library


def ask(question: Question, folder: bytes = b"") -> Verdict:
    """What PAM says by its service file in ``folder``, or where the system has it."""
    library = load()
    converse = _Converse(_answering(bytes(question.password)))
    no_delay = _Delay(lambda *_: None)
    handle = ctypes.c_void_p()
    conversation = _Conversation(converse, None)
    start: Callable[..., int] = library.pam_start
    arguments: list[Any] = [SERVICE.encode(), question.login, ctypes.byref(conversation)]
    if folder:
        # Linux-PAM 1.4 and newer.
        start = library.pam_start_confdir
        start.argtypes = [*library.pam_start.argtypes[:3], ctypes.c_char_p, library.pam_start.argtypes[3]]
        arguments.append(folder)
    code = start(*arguments, ctypes.byref(handle))
    if code != _SUCCESS:
        return Verdict.TROUBLE
    try:
        library.pam_set_item(handle, _RHOST, question.address)
        library.pam_set_item(handle, _FAIL_DELAY, ctypes.cast(no_delay, ctypes.c_void_p))
        code = library.pam_authenticate(handle, 0)
        if code == _SUCCESS:
            code = library.pam_acct_mgmt(handle, 0)
    finally:
        library.pam_end(handle, code)
    if code == _SUCCESS:
        return Verdict.YES
    return Verdict.TROUBLE if code in _TROUBLE else Verdict.NO


def _answering(password: bytes) -> Callable[..., int]:
    libc = ctypes.CDLL(None)
    libc.calloc.restype = libc.strdup.restype = ctypes.c_void_p
    libc.calloc.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
    libc.strdup.argtypes = [ctypes.c_char_p]

    def converse(count: int, messages: Any, answers: Any, _: Any) -> int:
        styles = [messages[each].contents.style for each in range(min(count, _MAX_MESSAGES))]
        if count != len(styles) or not set(styles) <= {_PROMPT_ECHO_OFF, _ERROR_MESSAGE, _TEXT}:
            return _CONVERSATION_ERROR
        # PAM frees them.
        made = libc.calloc(count, ctypes.sizeof(_Response))
        if not made:
            return _CONVERSATION_ERROR
        responses = ctypes.cast(made, ctypes.POINTER(_Response))
        for number, style in enumerate(styles):
            if style == _PROMPT_ECHO_OFF:
                responses[number].text = libc.strdup(password)
        answers[0] = made
        return _SUCCESS

    return converse
