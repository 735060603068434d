"""The contract as it is written in a file: frozen records, unknown keys refused, money exact.

What a file leaves out has the default given here; what depends on the env has its default in `contract.presets`.
`derive.plan` turns these records into the flat, resolved `Env` that the service runs on.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)
from pydantic_core import CoreSchema

from pilotis.contract.budgets import Budgets, Rates
from pilotis.contract.costs import Costs
from pilotis.contract.deploy import Deploy
from pilotis.contract.fields import (
    Amount,
    Count,
    Flag,
    KeyEnv,
    Language,
    ModelName,
    Name,
    PerSecond,
    Place,
    Record,
    Seconds,
    Share,
    Url,
    Zone,
    listed,
)
from pilotis.contract.infra import Alerts, Host, Infra, Secrets
from pilotis.contract.sources import SourceSection, none_missing

EXTRACTIVE = "extractive"
"""The `llm` that is none: the sentences that answer, verbatim."""


RetrievalStep = Literal["phrases", "distinct", "abstain"]
RETRIEVAL: tuple[RetrievalStep, ...] = ("phrases", "distinct", "abstain")
"""Every step of retrieval that an env may leave out; `docs/benchmarks.md` says what each gains and costs."""


def _named(value: Any) -> Any:
    return {"model": value} if isinstance(value, str) else value


class Endpoint(Record):
    """A model and where it is served. In the file a plain string is its model name."""

    model: ModelName = Field(description="Name of the model, as its server knows it.")
    provider: Name | None = Field(default=None, description="Who serves it; guessed from the model's name when left out.")
    base_url: Url | None = Field(default=None, description="Address of an OpenAI-compatible server.")
    key_env: KeyEnv | None = Field(
        default=None,
        description="Name of the environment variable that holds the key. With `base_url` and without this, no key is sent.",
    )

    @model_validator(mode="after")
    def _extractive_is_local(self) -> Self:
        if self.model == EXTRACTIVE and (self.base_url or self.key_env or self.provider not in {None, "local"}):
            raise ValueError(
                '"extractive" runs in the service itself: it takes no provider, base_url or key_env', "Remove those keys."
            )
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"type": "string", "minLength": 1}, handler.resolve_ref_schema(handler(core_schema))]}

    @model_serializer(mode="wrap")
    def _short(self, handler: SerializerFunctionWrapHandler) -> Any:
        full: dict[str, Any] = handler(self)
        return self.model if all(value is None for key, value in full.items() if key != "model") else full


class EmbedderEndpoint(Endpoint):
    """An embedding model and where it is served."""

    dimension: Annotated[int, Field(ge=8, le=4000)] | None = Field(
        default=None, description="Length of its vectors; known for common models. The index takes at most 4000."
    )
    requests_per_min: Annotated[int, Field(ge=1, le=10_000_000)] | None = Field(
        default=None, description="Calls that its provider allows in a minute; batches take four fifths of it."
    )
    tokens_per_min: Annotated[int, Field(ge=1, le=10_000_000_000)] | None = Field(
        default=None, description="Tokens that its provider allows in a minute; batches take four fifths of it."
    )


ModelRef = Annotated[Endpoint, BeforeValidator(_named)]
EmbedderRef = Annotated[EmbedderEndpoint, BeforeValidator(_named)]


class Snapshots(Record):
    """`[envs.NAME.snapshot]`: where snapshots of this env live, when one is taken, and which stay."""

    place: Place = Field(description="A folder, or s3://bucket/prefix.")
    hour: Annotated[int, Field(ge=0, le=23)] = Field(
        default=3, description="The hour of the day, in the contract's time zone, after which the day's snapshot is taken."
    )
    keep_days: Annotated[int, Field(ge=0, le=3660)] = Field(default=7, description="How many days keep their newest snapshot.")
    keep_months: Annotated[int, Field(ge=0, le=1200)] = Field(
        default=12, description="How many months keep their newest snapshot."
    )


class EnvSection(Record):
    """`[envs.NAME]`: what one env has of its own. Whatever is left out comes from the preset of that name."""

    flags: Annotated[tuple[Flag, ...], BeforeValidator(listed)] | None = Field(
        default=None,
        description="The features switched on: hybrid, rerank, prompt_v2. The list is complete: what it omits is off.",
    )
    retrieval: Annotated[tuple[RetrievalStep, ...], BeforeValidator(listed)] | None = Field(
        default=None,
        description="Steps after the search: phrases (words side by side), distinct (no copies in the prompt), abstain (extractive answers may "
        "say that nothing was found). The list is complete; all of them when left out.",
    )
    llm: ModelRef | None = Field(
        default=None, description='Who writes the answer: a model, or "extractive" for verbatim sentences at no cost.'
    )
    top_k: Annotated[int, Field(ge=1, le=200)] | None = Field(default=None, description="Passages retrieved for a question.")
    reranker: ModelRef | None = Field(default=None, description="Which reranker the flag `rerank` switches on.")
    compact: ModelRef | None = Field(default=None, description="The cheaper model of the guardrail's step `compact_model`.")
    compact_top_k: Annotated[int, Field(ge=1, le=200)] | None = Field(
        default=None,
        description="Passages at the guardrail's step `smaller_top_k`; a quarter of top_k, 3 at least, when left out.",
    )
    fallback: ModelRef | None = Field(default=None, description="Who writes the answer where `llm` cannot be reached.")
    embedder: EmbedderRef | None = Field(
        default=None, description="Which model turns texts into vectors; an env has one index."
    )
    cache_ttl_s: Annotated[int, Field(ge=0, le=604_800)] | None = Field(
        default=None, description="Life of a cached answer, in seconds; 0 for no cache."
    )
    trace_sampling: Share | None = Field(
        default=None, description="Share of requests that are traced, 0 to 1. Costs are always recorded in full."
    )
    requests_per_day: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = Field(
        default=None, description="Requests expected on a usual day; `contract check` holds budgets and guardrail against it."
    )
    rps: PerSecond | None = Field(
        default=None, description="Requests a second at the busiest time: what the infrastructure is sized for."
    )
    rates: Rates | None = Field(default=None, description="Requests a second.")
    budgets: Budgets | None = Field(default=None, description="Who may spend how much.")
    snapshot: Snapshots | None = Field(default=None, description="Daily snapshots of everything; none when left out.")
    secrets: Secrets | None = Field(default=None, description="Where secrets are kept; environment variables when left out.")
    hosts: Annotated[tuple[Host, ...], BeforeValidator(listed)] | None = Field(
        default=None, description="Virtual machines of this env, where it runs on some rather than on Kubernetes."
    )


class Perf(Record):
    """`[perf]`: sizes, token caps and deadlines."""

    batch_emb: Annotated[int, Field(ge=1, le=2048)] = Field(
        default=128, description="Passages taken at once by an embedding worker."
    )
    streaming: bool = Field(default=True, description="Send the answer as it is written.")
    tok_in_max: Annotated[int, Field(ge=64, le=2_000_000)] = Field(
        default=1200, description="Cap of a request's input tokens; passages are pruned to it."
    )
    tok_out_max: Count = Field(default=400, description="Cap of a request's output tokens.")
    first_byte_s: Seconds = Field(default=Decimal(30), description="Deadline of the answer's first byte.")
    total_s: Seconds = Field(default=Decimal(120), description="Deadline of the whole answer.")
    pool_min: Annotated[int, Field(ge=0, le=1000)] = Field(default=10, description="Database connections a process keeps open.")
    pool_max: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=50, description="Database connections a process opens at most."
    )
    in_flight: Count = Field(default=1000, description="Requests a process serves at once; the next one is told to come back.")
    passage_tokens: Annotated[int, Field(ge=16, le=8192)] = Field(default=200, description="Length of a passage.")
    passage_overlap: Annotated[int, Field(ge=0, le=4096)] = Field(
        default=0, description="Tokens a passage repeats from the one before."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        for low, high, gap in (
            ("pool_min", "pool_max", 0),
            ("first_byte_s", "total_s", 0),
            ("passage_overlap", "passage_tokens", 1),
        ):
            if getattr(self, low) + gap > getattr(self, high):
                bound = "at most" if not gap else "less than"
                raise ValueError(
                    f"{low} = {getattr(self, low)} must be {bound} {high} = {getattr(self, high)}",
                    f"Lower {low} or raise {high}.",
                )
        return self


class Limits(Record):
    """`[limits]`: how much one document may take."""

    max_file_mib: Annotated[int, Field(ge=1, le=10_240)] = Field(default=100, description="Largest file taken in.")
    parse_timeout_s: Annotated[int, Field(ge=1, le=3600)] = Field(default=60, description="Time to read one file.")
    parse_memory_mib: Annotated[int, Field(ge=256, le=65_536)] = Field(default=1024, description="Memory to read one file.")


class Reading(Record):
    """`[reading]`: how files become text."""

    ocr: bool = Field(default=False, description="Read scanned pages and images with Tesseract, whose data must be installed.")
    ocr_languages: Annotated[tuple[Language, ...], BeforeValidator(listed), Field(min_length=1)] | None = Field(
        default=None, description="Languages of the scans; those of the contract when left out."
    )


class Slo(Record):
    """`[slo]`: what counts as healthy."""

    error_rate: Share = Field(default=Decimal("0.01"), description="Share of requests that may fail.")
    p95_ms: Annotated[int, Field(ge=1, le=86_400_000)] | None = Field(
        default=None, description="95 of 100 answers arrive within."
    )
    hit_at_5: Share | None = Field(
        default=None, description="Share of golden questions whose source is among the first five passages."
    )
    eur_per_req: Amount | None = Field(default=None, description="Mean cost of a request; the guardrail when left out.")
    cpu: Share = Field(default=Decimal("0.70"), description="Processor use that is still healthy.")
    ram: Share = Field(default=Decimal("0.70"), description="Memory use that is still healthy.")


Deliverable = Literal["iac", "runbook", "scaling_matrix", "budget_alerts"]


def _matrix() -> dict[str, EnvSection]:
    return {"dev": EnvSection(), "staging": EnvSection(), "prod": EnvSection()}


class Contract(Record):
    """What was agreed: environments, infrastructure, speed, costs and the way to deploy."""

    name: Name = Field(default="rag", description="Name of the service.")
    timezone: Zone = Field(default="Europe/Paris", description="Where days and months begin.")
    languages: Annotated[tuple[Language, ...], BeforeValidator(listed), Field(min_length=1)] = Field(
        default=("en", "fr"), description="Languages of documents and questions, as ISO 639-1 codes."
    )
    infra: Infra = Field(default_factory=Infra, description="Which technology stands where.")
    perf: Perf = Field(default_factory=Perf, description="Sizes, token caps and deadlines.")
    limits: Limits = Field(default_factory=Limits, description="How much one document may take.")
    costs: Costs = Field(default_factory=Costs, description="What a request may cost, and at which prices.")
    reading: Reading = Field(default_factory=Reading, description="How files become text.")
    slo: Slo = Field(default_factory=Slo, description="What counts as healthy.")
    deploy: Deploy = Field(default_factory=Deploy, description="How a release goes out.")
    alerts: Alerts = Field(default_factory=Alerts, description="Who is told of what.")
    envs: Annotated[Mapping[Name, EnvSection], Field(min_length=1)] = Field(
        default_factory=_matrix, description="The environments; dev, staging and prod start from the built-in matrix."
    )
    sources: Mapping[Name, SourceSection] = Field(
        default_factory=dict, description="Folders, buckets and web sites that are kept in step with."
    )
    deliverables: Annotated[tuple[Deliverable, ...], BeforeValidator(listed)] = Field(
        default=("iac", "runbook", "scaling_matrix", "budget_alerts"), description="What is rendered from the contract."
    )

    @model_validator(mode="after")
    def _sources_have_their_envs(self) -> Self:
        none_missing(self.sources, self.envs)
        return self
