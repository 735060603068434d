"""`[deploy]`: how a release goes out, when it does not, and what sends it back."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from pilotis.contract import freeze
from pilotis.contract.fields import Count, Name, Record, listed


def _window(text: str) -> str:
    if not freeze.is_window(text):
        raise ValueError(
            "is no window of time",
            'Write it as "fri 16:00-mon 08:00", or as "2026-12-24/2027-01-02" (both days included).',
        )
    return text


Freeze = Annotated[str, AfterValidator(_window)]


class Deploy(Record):
    """`[deploy]`: how a release goes out."""

    strategy: Literal["canary", "blue_green"] = Field(default="canary", description="How traffic moves to a release.")
    stages: Annotated[tuple[Annotated[int, Field(ge=1, le=100)], ...], BeforeValidator(listed)] = Field(
        default=(5, 25, 100), description="Shares of traffic, in per cent."
    )
    rollback_on: Literal["slo_breach", "never"] = Field(
        default="slo_breach", description="What sends a release back by itself."
    )
    approvals: Annotated[tuple[Name, ...], BeforeValidator(listed)] = Field(
        default=("business", "sre"), description="Who must agree before a release reaches prod."
    )
    min_sample: Count = Field(default=200, description="Requests a verdict needs.")
    max_hold_s: Annotated[int, Field(ge=10, le=2_678_400)] = Field(default=86_400, description="Longest wait at a stage.")
    on_no_data: Literal["abort", "hold"] = Field(
        default="abort", description="What follows once it is over without enough to judge by: back, or a person decides."
    )
    watch_s: Annotated[int, Field(ge=0, le=604_800)] = Field(
        default=3600, description="How long a release that has all traffic is watched before it counts as stable."
    )
    golden: str | None = Field(
        default=None,
        description="File of golden questions, from the contract's folder, that are put to both releases; as `pilotis eval` reads it.",
    )
    golden_bu: Name = Field(default="default", description="Whose documents they are asked of.")
    freeze: Annotated[tuple[Freeze, ...], BeforeValidator(listed)] = Field(
        default=(),
        description='When no release begins or goes further: weekly, "fri 16:00-mon 08:00", or by days, "2026-12-24/2027-01-02".',
    )

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if not self.stages or self.stages[-1] != 100 or any(a >= b for a, b in zip(self.stages, self.stages[1:], strict=False)):
            raise ValueError(f"stages = {list(self.stages)} must rise and end at 100", "Write them as [5, 25, 100].")
        return self
