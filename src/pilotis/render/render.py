"""A contract becomes files: every deliverable it names, for every env, and an index of what was made.

Each deliverable is a module with one function `files(scene)`. Nothing here reads a file, a clock or the network: the same contract
always gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

from pilotis.derive.plan import Plan
from pilotis.render import kubernetes
from pilotis.render.ansible import ansible
from pilotis.render.budget import files as budget
from pilotis.render.delivery import files as delivery
from pilotis.render.diagrams.diagrams import files as diagrams
from pilotis.render.files import File, Scene, scene
from pilotis.render.image import image
from pilotis.render.index import index
from pilotis.render.matrix import files as matrix
from pilotis.render.monitoring.monitoring import files as monitoring
from pilotis.render.runbook.runbook import files as runbook
from pilotis.render.terraform import folder as terraform
from pilotis.render.wording import LANGUAGES, Language

Deliverer = Callable[[Scene], Iterator[File]]

DELIVERABLES: Mapping[str, tuple[Deliverer, ...]] = MappingProxyType(
    {
        "iac": (terraform.files, kubernetes.files, image.files, ansible.files, delivery),
        "runbook": (runbook, diagrams),
        "scaling_matrix": (matrix,),
        "budget_alerts": (monitoring, budget),
    }
)
"""What each word of the contract's `deliverables` makes."""


def render(plan: Plan, *, envs: Sequence[str] = (), languages: tuple[Language, ...] = LANGUAGES) -> dict[str, File]:
    """Every file by its path, sorted; where envs are named, their own files alone. What people read is in these languages.

    Raises ContractError for an unknown env, and where one cannot be placed (see `derive.site`).
    """
    wanted = {plan.env(name).name for name in envs}
    on = scene(plan, languages)
    found: dict[str, File] = {}
    for name in plan.contract.deliverables:
        for deliver in DELIVERABLES[name]:
            for file in deliver(on):
                if file.path in found:
                    raise RuntimeError(f"two deliverables make {file.path}")
                found[file.path] = file
    made = index(on, tuple(found.values()))
    return {path: file for path, file in sorted({**found, made.path: made}.items()) if not wanted or file.env in wanted}
