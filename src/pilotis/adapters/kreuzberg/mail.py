"""A message as text: who, when, about what, then what was said."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Callable, Sequence
from email.errors import MessageError
from email.message import EmailMessage

from pilotis.adapters.kreuzberg.unreadable import Unreadable

_FIELDS = ("From", "To", "Cc", "Date")
_SHOWN = 5


def mail_text(content: bytes, html_text: Callable[[bytes], str]) -> tuple[str, str | None, list[str]]:
    """Text, subject and warnings of an RFC 5322 message. Attachments are named, not read."""
    try:
        message = email.message_from_bytes(content, policy=email.policy.default)
        subject = _field(message, "Subject")
        lines = [f"{name}: {value}" for name in _FIELDS if (value := _field(message, name))]
        part = message.get_body(("plain", "html"))
        body = _body(part, html_text) if isinstance(part, EmailMessage) else ""
        attached = [part.get_filename() or part.get_content_type() for part in message.iter_attachments()]
    except (MessageError, LookupError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise Unreadable("not a readable e-mail message", "send the original .eml") from error
    if not lines and not subject:
        raise Unreadable("not an e-mail message: it has neither sender, date nor subject", "send the original .eml")
    if attached:
        lines.append("Attachments: " + ", ".join(attached))
    head = [f"# {subject}"] if subject else []
    warnings = attachments_left_out(attached)
    return "\n\n".join(filter(None, [*head, "\n".join(f"- {line}" for line in lines), body.strip()])), subject or None, warnings


def attachments_left_out(names: Sequence[str]) -> list[str]:
    """The warning that names them, where there are any."""
    if not names:
        return []
    shown = ", ".join(" ".join(name.split())[:60] for name in names[:_SHOWN])
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    what = "1 attachment was" if len(names) == 1 else f"{len(names)} attachments were"
    return [f"{what} not read ({shown}{more}): ingest what matters as files"]


def _field(message: EmailMessage, name: str) -> str:
    try:
        return " ".join(str(message.get(name, "")).split())
    except (
        ValueError,
        OverflowError,
        IndexError,
        AttributeError,
        TypeError,
    ):  # a date of the year 10^30 is no reason to drop the rest
        return ""


def _body(part: EmailMessage, html_text: Callable[[bytes], str]) -> str:
    payload = part.get_content()
    text = payload if isinstance(payload, str) else bytes(payload).decode("utf-8", "replace")
    return html_text(text.encode("utf-8", "replace")) if part.get_content_type() == "text/html" else text
