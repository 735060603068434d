"""A release as its contract sees it: what it is called, and which env it makes of the one that was agreed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pilotis.contract.model import Contract
from pilotis.derive.plan import Env, Plan, derive
from pilotis.derive.variant import variant
from pilotis.errors import Invalid

PROMPT_FLAG = "prompt_"
DIGEST = "sha256:"
ID_LENGTH = 12


def release_id(
    env: str, contract: str, settings: Sequence[str], *, image: str | None = None, generation: int | None = None
) -> str:
    """What a bundle is called: the first 12 hex digits of the SHA-256 of what it holds, so that the same bundle is the same release."""
    held = {"env": env, "contract": contract, "settings": sorted(settings), "image": image, "generation": generation}
    return hashlib.sha256(json.dumps(held, sort_keys=True, separators=(",", ":")).encode()).hexdigest()[:ID_LENGTH]


def baseline(plan: Plan, env: str) -> str:
    """The id of the release that serves where none was made: the contract as it stands."""
    return release_id(env, plan.digest, ())


def settings(contract: Contract, env: str, changes: Sequence[str], *, prompt: str | None = None) -> tuple[str, ...]:
    """The settings of a release, sorted, the last of a name only; `prompt` is the version among the flags.

    Raises Invalid and ContractError as `variant` does.
    """
    variant(contract, env, changes)
    kept = dict(change.split("=", 1) for change in changes)
    if prompt is not None:
        if "flags" in kept:
            flags = [flag for flag in kept["flags"].split(",") if flag]
        else:
            flags = list(_flags(derive(contract).env(env), contract))
        kept["flags"] = ",".join([*(flag for flag in flags if not flag.startswith(PROMPT_FLAG)), PROMPT_FLAG + prompt])
    found = tuple(f"{key}={value}" for key, value in sorted(kept.items()))
    variant(contract, env, found)
    return found


def digest_of(image: str) -> str:
    """The sha256:… at the end of an image's name. Raises Invalid for a tag, which may mean another image tomorrow."""
    digest = image.rpartition("@")[2]
    if not digest.startswith(DIGEST) or len(digest) != len(DIGEST) + 64 or not _is_hex(digest.removeprefix(DIGEST)):
        raise Invalid(
            f"--image {image!r} names no digest",
            remedy="give NAME@sha256:… : a tag may mean another image tomorrow, and could not be brought back",
            code="invalid_image",
        )
    return image


def applied(plan: Plan, env: str, changes: Sequence[str]) -> tuple[Plan, Env]:
    """The plan and the env that a release with these settings runs on. Raises as `variant` does."""
    made = derive(variant(plan.contract, env, changes)) if changes else plan
    return made, made.env(env)


def _flags(env: Env, contract: Contract) -> tuple[str, ...]:
    written = contract.envs[env.name].flags
    if written is not None:
        return tuple(written)
    from pilotis.contract.presets import MATRIX

    return tuple(MATRIX.get(env.name, MATRIX["dev"]).flags or ())


def _is_hex(text: str) -> bool:
    return all(one in "0123456789abcdef" for one in text)
