"""How often one may ask, and how much one may spend, in one env."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Self

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from pilotis.contract.fields import Count, Limit, PerSecond, Record, UnitName


class Rate(Record):
    """Requests a second in the long run, and how many may come at once. In the file a plain number is `per_s`."""

    per_s: PerSecond = Field(description="Requests a second in the long run.")
    burst: Count | None = Field(default=None, description="How many may come at once; those of one second when left out.")

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        table = handler.resolve_ref_schema(handler(core_schema))
        number = {key: value for key, value in table["properties"]["per_s"].items() if key not in {"description", "title"}}
        return {"anyOf": [number, table]}

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        full: dict[str, Any] = handler(self)
        return self.per_s if self.burst is None else full


def _rated(value: Any) -> Any:
    return {"per_s": value} if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else value


RateRef = Annotated[Rate, BeforeValidator(_rated)]


class Rates(Record):
    """`[envs.NAME.rates]`: requests a second, as a number or as `{ per_s = 5, burst = 20 }`. A limit that is left out is none."""

    env: RateRef | None = Field(default=None, description="Of all requests together.")
    ip: RateRef | None = Field(default=None, description="Of each address; for IPv6, of each /64.")
    bu: RateRef | None = Field(default=None, description="Of each business unit that `bus` does not name.")
    bus: Mapping[UnitName, RateRef] = Field(default_factory=dict, description="Of single business units, by name.")


class Budget(Record):
    """What may be spent in an hour, a day and a calendar month of the contract's time zone. A limit that is left out is none."""

    hour_eur: Limit | None = Field(default=None, description="Euros from one full hour to the next.")
    day_eur: Limit | None = Field(default=None, description="Euros of a day.")
    month_eur: Limit | None = Field(default=None, description="Euros of a calendar month.")

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.hour_eur is None and self.day_eur is None and self.month_eur is None:
            raise ValueError("names no limit", "Write hour_eur, day_eur or month_eur, or leave the budget out.")
        return self


class PlaneBudgets(Record):
    """`[envs.NAME.budgets.planes]`: the budget of each plane."""

    online: Budget | None = Field(default=None, description="Of questions and searches.")
    batch: Budget | None = Field(default=None, description="Of the ingestion of documents.")


class Budgets(Record):
    """`[envs.NAME.budgets]`: who may spend how much. A request has to fit into all budgets that apply to it."""

    env: Budget | None = Field(
        default=None, description="Of the whole env; its month is that of costs.month_eur when left out."
    )
    planes: PlaneBudgets = Field(default_factory=PlaneBudgets, description="Of online requests and of ingestion.")
    bu: Budget | None = Field(default=None, description="Of each business unit that `bus` does not name.")
    bus: Mapping[UnitName, Budget] = Field(default_factory=dict, description="Of single business units, by name.")
    key: Budget | None = Field(default=None, description="Of each API key that has none of its own.")
