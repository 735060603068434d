"""What can go wrong, sorted by what the caller must do about it.

    PilotisError
    ├── ContractError     the contract file is wrong: fix the file
    ├── SetupError        the machine or the environment is not ready: run what the message says
    ├── Refused           this request cannot be served: change it (4xx), never retry it as it is
    │   ├── Invalid       its content is wrong (400, 413, 415, 422)
    │   ├── Unauthorised  no key, an unknown key, a revoked key (401)
    │   ├── NotFound      the thing named does not exist for this business unit (404)
    │   ├── Forbidden     the key lacks the right (403)
    │   ├── Conflict      it contradicts what is stored (409)
    │   └── Limited       a rate, a budget or the guardrail says: not now (402, 429, 503), with when to come back
    ├── Transient         try again later: a server is away, slow, or overloaded (503)
    └── Permanent         trying again cannot help: a broken file, a model that answers garbage (502)

Every error carries a remedy: the one thing to do next. Edges (cli, api, tasks) turn errors into exit codes,
problem details or retries; nobody else does.
"""

from __future__ import annotations

from datetime import datetime


class PilotisError(Exception):
    """Something went wrong in Pilotis."""

    def __init__(self, message: str = "", *, remedy: str = "") -> None:
        super().__init__(message or (self.__doc__ or "").strip().split("\n", 1)[0])
        self.message = str(self.args[0])
        self.remedy = remedy


class ContractError(PilotisError):
    """The contract is wrong."""


class SetupError(PilotisError):
    """The machine or the environment is not ready."""


class Refused(PilotisError):
    """The request is refused."""

    status = 400
    code = "refused"


class Invalid(Refused):
    """The request is not valid."""

    code = "invalid"

    def __init__(self, message: str = "", *, remedy: str = "", status: int = 422, code: str = "invalid") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.code = code


class Unauthorised(Refused):
    """The API key is missing, unknown or revoked."""

    status = 401
    code = "unauthorised"


class NotFound(Refused):
    """There is no such thing here."""

    status = 404
    code = "not_found"


class Forbidden(Refused):
    """The API key has no right to this."""

    status = 403
    code = "forbidden"


class Limited(Refused):
    """A limit is reached: the same request may pass later.

    `code` is one of `rate_limited` (429), `budget_exceeded` (402: spent until the window ends), `budget_held` (429: what is left is
    held by requests under way), `guardrail` (503) and `overloaded` (503). `scope` and `window` say whose limit it is.
    """

    code = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        remedy: str = "",
        status: int = 429,
        code: str = "rate_limited",
        retry_after_s: float = 1.0,
        scope: str | None = None,
        window: str | None = None,
        limit: str | None = None,
        resets_at: datetime | None = None,
    ) -> None:
        super().__init__(message, remedy=remedy)
        self.status = status
        self.code = code
        self.retry_after_s = retry_after_s
        self.scope = scope
        self.window = window
        self.limit = limit
        self.resets_at = resets_at


class Conflict(Refused):
    """The request contradicts what is stored."""

    status = 409
    code = "conflict"


class Transient(PilotisError):
    """A service is away for now."""

    def __init__(self, message: str = "", *, remedy: str = "", retry_after_s: float = 1.0) -> None:
        super().__init__(message, remedy=remedy)
        self.retry_after_s = retry_after_s


class Permanent(PilotisError):
    """Trying again cannot help."""
