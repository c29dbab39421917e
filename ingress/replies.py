"""Every reply the server can give: code, enhanced status and text, paired once.

Texts follow OpenSMTPD's, because people and scripts look for them. A refusal that policy words itself (an unknown recipient,
a rule that rejects) is a `Reply` of policy's own. Nothing here names a path, a version or an exception.

RFC 5321 4.2.3 (codes), RFC 3463 and RFC 5248 (enhanced status codes), RFC 4954 6 (AUTH), RFC 3207 4 (STARTTLS).
"""

from __future__ import annotations

from typing import Final

from spool.ids import MessageId
from spool.reply import Reply

# -- success ----------------------------------------------------------------------------------------------------------

OK: Final = Reply(250, "2.0.0", "Ok")
RESET: Final = Reply(250, "2.0.0", "Reset state")
BYE: Final = Reply(221, "2.0.0", "Bye")
RECIPIENT_OK: Final = Reply(250, "2.1.5", "Destination address valid: Recipient ok")
#: RFC 5321 3.5.3: we neither confirm nor deny.
CANNOT_VERIFY: Final = Reply(252, "2.0.0", "Cannot verify the user, but will accept a message and attempt delivery")
AUTHENTICATED: Final = Reply(235, "2.0.0", "Authentication succeeded")
READY_FOR_TLS: Final = Reply(220, "2.0.0", "Ready to start TLS")
#: 3yz replies carry no enhanced status (RFC 2034 4).
START_MAIL: Final = Reply(354, "", 'Enter mail, end with "." on a line by itself')


def accepted(message: MessageId) -> Reply:
    """We own the message."""
    return Reply(250, "2.0.0", f"{message} Message accepted for delivery")


# -- commands that are wrong ------------------------------------------------------------------------------------------

UNRECOGNIZED: Final = Reply(500, "5.5.1", "Invalid command: Command unrecognized")
BARE_LINE_END: Final = Reply(500, "5.5.2", "Syntax error: lines end in CR LF, and neither stands alone")
BAD_CHARACTER: Final = Reply(500, "5.5.2", "Syntax error: control character or malformed UTF-8 in command")
LINE_TOO_LONG: Final = Reply(500, "5.5.2", "Syntax error: Command line too long")
NOT_NOW: Final = Reply(503, "5.5.1", "Invalid command: Command not allowed at this point.")
NOT_SUPPORTED: Final = Reply(503, "5.5.1", "Invalid command: Command not supported")
NOT_IMPLEMENTED: Final = Reply(502, "5.5.1", "Invalid command: Command not implemented")
NO_ARGUMENTS: Final = Reply(501, "5.5.4", "Invalid command arguments: command does not accept arguments.")
NAME_MISSING: Final = Reply(501, "5.5.1", "Invalid command: HELO and EHLO require a domain name")
NAME_MALFORMED: Final = Reply(501, "5.5.4", "Invalid command arguments: Invalid domain name")
MAIL_SYNTAX: Final = Reply(501, "5.5.4", "Invalid command arguments: Syntax is MAIL FROM:<address>")
RCPT_SYNTAX: Final = Reply(501, "5.5.4", "Invalid command arguments: Syntax is RCPT TO:<address>")
NO_RECIPIENT: Final = Reply(503, "5.5.1", "Invalid command: No recipient specified")

# -- the session ------------------------------------------------------------------------------------------------------

TLS_FIRST: Final = Reply(530, "5.7.0", "Must issue a STARTTLS command first")
AUTH_FIRST: Final = Reply(530, "5.7.0", "Must issue an AUTH command first")
ALREADY_SECURE: Final = Reply(503, "5.5.1", "Invalid command: Channel already secured")
TOO_MANY_ERRORS: Final = Reply(421, "4.7.0", "Too many errors")
TOO_MANY_CONNECTIONS: Final = Reply(421, "4.3.2", "Too many connections, try again later")
TOO_MANY_FROM_ADDRESS: Final = Reply(421, "4.7.0", "Too many connections from your address")
TOO_MANY_FROM_USER: Final = Reply(421, "4.7.0", "Too many connections of this user")
SHUTTING_DOWN: Final = Reply(421, "4.3.2", "Service is shutting down, try again later")
PAUSED: Final = Reply(421, "4.3.2", "Service is paused, try again later")
TOO_MANY_TOO_FAST: Final = Reply(421, "4.7.0", "Too many new connections from your address, try again later")
TOO_MANY_COMMANDS: Final = Reply(421, "4.7.0", "Too many commands without a message")
TIMED_OUT: Final = Reply(421, "4.4.2", "Timeout")
NOT_SMTP: Final = Reply(421, "4.7.0", "This is a mail server")
TROUBLE: Final = Reply(451, "4.3.0", "Temporary failure")
TROUBLE_CLOSING: Final = Reply(421, "4.3.0", "Temporary failure")
NAME_TROUBLE: Final = Reply(451, "4.4.3", "Temporary failure: the name of your address cannot be looked up")
#: The code of every reply that ends a session (RFC 5321 3.8).
CLOSING: Final = 421


def closing(reply: Reply) -> Reply:
    """The same words, and the end."""
    return Reply(CLOSING, reply.status, reply.text)


# -- AUTH -------------------------------------------------------------------------------------------------------------

AUTH_NEEDS_TLS: Final = Reply(538, "5.7.11", "Encryption required for authentication")
ALREADY_AUTHENTICATED: Final = Reply(503, "5.5.1", "Invalid command: Already authenticated")
NO_MECHANISM: Final = Reply(501, "5.5.4", "Invalid command arguments: No parameters given")
UNKNOWN_MECHANISM: Final = Reply(504, "5.5.4", "Security features not supported: AUTH method not supported")
AUTH_SYNTAX: Final = Reply(501, "5.5.2", "Syntax error: Syntax error")
AUTH_ABORTED: Final = Reply(501, "5.7.0", "Authentication aborted")
AUTH_FAILED: Final = Reply(535, "5.7.8", "Authentication failed")
TOO_MANY_GUESSES: Final = Reply(421, "4.7.0", "Too many failed logins from your address, try again later")
AUTH_TROUBLE: Final = Reply(454, "4.7.0", "Temporary authentication failure")

# -- MAIL and RCPT ----------------------------------------------------------------------------------------------------

SENDER_SYNTAX: Final = Reply(553, "5.1.7", "Sender address syntax error")
RECIPIENT_SYNTAX: Final = Reply(501, "5.1.3", "Recipient address syntax error")
NEEDS_SMTPUTF8: Final = Reply(553, "5.6.7", "Non-ASCII addresses need the SMTPUTF8 parameter")
SENDER_REJECTED: Final = Reply(530, "5.7.1", "Sender rejected")
TOO_MANY_MAILS: Final = Reply(452, "4.5.3", "Too many messages sent, start another session")
TOO_MANY_RECIPIENTS: Final = Reply(452, "4.5.3", "Too many recipients: Too many recipients")
TOO_MANY_FOR_ONE_MESSAGE: Final = Reply(552, "5.5.3", "Too many recipients: send them another message")
DECLARED_TOO_BIG: Final = Reply(552, "5.3.4", "Message too big for system: declared size exceeds the maximum")
PARAMETER_SYNTAX: Final = Reply(501, "5.5.4", "Invalid command arguments: Options are KEYWORD or KEYWORD=VALUE")


def unsupported_parameter(name: str) -> Reply:
    """A parameter of MAIL or RCPT that we do not know, or that this listener does not offer (RFC 5321 4.1.1.11)."""
    return Reply(555, "5.5.4", f"Invalid command arguments: Unsupported option {name}")


def bad_parameter(name: str) -> Reply:
    """A parameter that we know, with a value that it cannot have, or given twice."""
    return Reply(501, "5.5.4", f"Invalid command arguments: Invalid value of option {name}")


# -- the message ------------------------------------------------------------------------------------------------------

TOO_BIG: Final = Reply(552, "5.3.4", "Message too big for system: Transaction failed, message too big")
HEADER_TOO_BIG: Final = Reply(552, "5.3.4", "Message too big for system: header too big")
#: X.6.11 was registered for exactly this, after the SMTP smuggling attacks of 2023.
BARE_CR_OR_LF: Final = Reply(550, "5.6.11", "Message refused: CR and LF stand only together at the end of a line")
NUL_IN_MESSAGE: Final = Reply(550, "5.6.11", "Message refused: NUL in the message")
TEXT_LINE_TOO_LONG: Final = Reply(554, "5.6.0", "Message refused: line too long")
MALFORMED: Final = Reply(550, "5.7.1", "Delivery not authorized, message refused: Message is not RFC 2822 compliant")
LOOP: Final = Reply(554, "5.4.6", "Routing loop detected: too many Received headers")
NO_MEMORY: Final = Reply(452, "4.3.1", "Insufficient system resources, try again later")
SPOOL_FULL: Final = Reply(452, "4.3.1", "Insufficient system storage, try again later")
