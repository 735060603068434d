"""Secrets that slipped into what is rendered: keys by their form, passwords in addresses, and values that look like nothing but one.

What is rendered is committed, reviewed and copied: it names secrets and never holds one. The forms of keys are those their makers
publish, so that scanners find them; what has no form is told by the name it is assigned to, and by its entropy (Shannon, bits a character).
"""

from __future__ import annotations

import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from math import log2
from types import MappingProxyType

from pilotis.render.files import File

FORMS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "an AWS access key": ("AKIA ASIA ABIA ACCA", r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{16}\b"),
        "a key of OpenAI or Anthropic": ("sk-", r"\bsk-[A-Za-z0-9_-]{20,}"),
        "a key of Pilotis": ("plt_", r"\bplt_[A-Za-z0-9_-]{43}"),
        "a token of Slack": ("xox", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
        "a webhook of Slack": ("hooks.slack.com", r"hooks\.slack\.com/(?:services|workflows|triggers)/[A-Za-z0-9/_-]{20,}"),
        "a token of GitHub": (
            "gho_ ghp_ ghr_ ghs_ ghu_ github_pat_",
            r"\b(?:gh[oprsu]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{50,})",
        ),
        "a token of GitLab": ("glpat-", r"\bglpat-[A-Za-z0-9_-]{20,}"),
        "a key of Google": ("AIza", r"\bAIza[A-Za-z0-9_-]{35}"),
        "a token of Vault": ("hvb. hvr. hvs.", r"\bhv[brs]\.[A-Za-z0-9_-]{20,}"),
        "a token of npm": ("npm_", r"\bnpm_[A-Za-z0-9]{36}"),
        "a JSON Web Token": ("eyJ", r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]{10,}"),
        "a private key": ("PRIVATE", r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    }
)
"""The words one of which begins or marks it, by which most texts are passed over at once; and the form of the whole."""

IN_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]{1,20}://[^\s:/@\"'<>]{0,64}:(?P<value>[^\s/@\"']{1,200})@")
ASSIGNED = re.compile(
    r"""(?P<name>[A-Za-z_][\w.-]{2,63})["']?[ \t]{0,20}(?::|=>|=)[ \t]{0,20}(?P<quote>["']?)(?=(?P<value>[^\s"',;`|{}\[\]()<>]{6,300}))""",
)
NAMED = re.compile(
    r"(?i)(?:^|[_.-])(?:password|passwd|passphrase|pwd|secret|token|api_?key|access_?key|secret_?key|private_?key|routing_?key|service_?key"
    r"|credentials?)$"
)
"""What a name ends in that holds a secret itself; one that goes on (`secret_name`, `token_file`) says where it is."""
NAMED_RUN_TOGETHER = re.compile(
    r"(?:[Pp]assword|[aA]pi[kK]ey|[aA]ccess[kK]ey|[sS]ecret[kK]ey|[aA]uth[tT]oken|[rR]outing[kK]ey)$"
)

REFERENCE = re.compile(
    r"(?ix) ^(?: \$.* | %.* | <.* | \*+ | x+ | \.{3}.* | …|! .* | ~ | /.* | \./.* | -+ |"
    r" true|false|null|none|yes|no|optional|required|opaque |"
    r" (?:your|my|the|some)[_-].* | change_?me | example | placeholder | redacted | password | secret | token | key )$"
)
"""What stands for a value: a variable, a file, a word that nobody takes for one."""
EXPRESSION = re.compile(r"^[a-z_][\w-]*(?:\.[\w*-]+)+$")
"""Where it is not quoted: a value of another part, as `module.db.password`."""
PROSE = re.compile(r"^\s*(?:#|//|<!--|--|\*|>|\|)|[.](?:md|svg|html|txt)$")
"""A comment by its line, a text by its path: there a word after "secret:" is a word."""
NAME_OF_VARIABLE = re.compile(r"^[A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+$")
NUMBER = re.compile(r"^[-+]?[0-9][0-9_.,eE+-]*$")
RANDOM = re.compile(r"^(?:[A-Za-z0-9+/_-]{32,}={0,2})$")
HEX = re.compile(r"^[0-9a-fA-F]{32,}$")
LEAST_BITS, LEAST_BITS_HEX = 4.2, 3.0
"""Of 32 characters of base64 drawn at random, all but one in ten thousand have more; names of things have less."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowed:
    """What looks like a secret and is none. `line` is searched for in the line of the finding."""

    line: re.Pattern[str]
    reason: str


ALLOWED = (
    Allowed(line=re.compile(r"(?i)digest"), reason="the digest of the contract, in the banner of each file"),
    Allowed(line=re.compile(r"(?i)sha(?:1|256|384|512)\b"), reason="a checksum: an image, a package, a script of a page"),
    Allowed(
        line=re.compile(r"(?i)checksum"), reason="a checksum of the contract or of a file, so that a change restarts a process"
    ),
    Allowed(line=re.compile(r"uses:\s+[\w./-]+@[0-9a-f]{40}\b"), reason="an action, pinned by its commit"),
    Allowed(line=re.compile(r"(?i)\bd=\"[Mm][-0-9 .,A-Za-z]+\""), reason="the path of a line in a drawing"),
    Allowed(line=re.compile(r"--hash="), reason="the checksum of a package"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leak:
    """One finding. `shown` has so little of it that whoever reads a log learns nothing."""

    path: str
    line: int
    what: str
    shown: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what} ({self.shown})"


def leaks(files: Iterable[File]) -> tuple[Leak, ...]:
    """Every finding, by path and line. Archives such as spreadsheets are looked into."""
    found = {leak for file in files for path, text in _texts(file) for leak in _in(path, text)}
    return tuple(sorted(found, key=lambda leak: (leak.path, leak.line, leak.what)))


def entropy(text: str) -> float:
    """Bits a character, of the characters as they are distributed in the text itself (Shannon 1948); 0 for none."""
    return -sum(n / len(text) * log2(n / len(text)) for n in Counter(text).values())


def _texts(file: File) -> Iterator[tuple[str, str]]:
    if isinstance(file.content, str):
        yield file.path, file.content
    elif zipfile.is_zipfile(BytesIO(file.content)):
        with zipfile.ZipFile(BytesIO(file.content)) as archive:
            for name in archive.namelist():
                yield f"{file.path}!{name}", archive.read(name).decode("latin-1")
    else:
        yield file.path, file.content.decode("latin-1")


def _in(path: str, text: str) -> Iterator[Leak]:
    for what, (marks, form) in FORMS.items():
        if any(mark in text for mark in marks.split()):
            for match in re.finditer(form, text):
                yield _leak(path, text, match.start(), what, match[0])
    for match in IN_ADDRESS.finditer(text):
        if not _stands_for_one(match["value"], quoted=True):
            yield _leak(path, text, match.start(), "a password in an address", match["value"])
    for match in ASSIGNED.finditer(text):
        seems = _assigned(match["name"], match["value"], quoted=bool(match["quote"]))
        if seems and not _is_allowed(path, _line(text, match.start()), match["value"]):
            yield _leak(path, text, match.start(), seems, match["value"])


def _assigned(name: str, value: str, *, quoted: bool) -> str | None:
    """What an assigned value seems to be; None for nothing of the kind."""
    if NAMED.search(name) or NAMED_RUN_TOGETHER.search(name):
        is_name = NAME_OF_VARIABLE.match(value) or (not quoted and EXPRESSION.match(value))
        return None if is_name or _stands_for_one(value, quoted=quoted) else f"a value of {name}"
    if HEX.match(value):
        return f"a random value of {name}" if entropy(value.lower()) >= LEAST_BITS_HEX else None
    if RANDOM.match(value) and entropy(value) >= LEAST_BITS and _is_mixed(value):
        return f"a random value of {name}"
    return None


def _is_allowed(path: str, line: str, value: str) -> bool:
    if value.isalpha() and (PROSE.search(line) or PROSE.search(path)):
        return True
    return any(allowed.line.search(line) for allowed in ALLOWED)


def _stands_for_one(value: str, *, quoted: bool) -> bool:
    return bool(REFERENCE.match(value)) or (not quoted and bool(NUMBER.match(value)))


def _is_mixed(value: str) -> bool:
    return any(c.isupper() for c in value) and any(c.islower() for c in value) and sum(c.isdigit() for c in value) > 1


def _leak(path: str, text: str, at: int, what: str, secret: str) -> Leak:
    shown = f"{secret[: min(4, len(secret) // 4)]}…, {len(secret)} characters"
    return Leak(path=path, line=text.count("\n", 0, at) + 1, what=what, shown=shown)


def _line(text: str, at: int) -> str:
    ends = text.find("\n", at)
    return text[text.rfind("\n", 0, at) + 1 : ends if ends >= 0 else None]
