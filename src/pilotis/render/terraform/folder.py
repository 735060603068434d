"""One root of Terraform per env: its own state, account, network and key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from pilotis.derive.workload import SERVERS
from pilotis.render.files import File, Scene
from pilotis.render.terraform import cluster, network, root, search, secrets, stores
from pilotis.render.terraform.hcl import Block, document
from pilotis.render.terraform.modules import TERRAFORM

if TYPE_CHECKING:
    from jinja2 import Template

    from pilotis.derive.site import Site


def files(scene: Scene) -> Iterator[File]:
    for name, site in scene.sites.items():
        for path, blocks in parts(scene, site).items():
            if found := list(blocks):
                yield File(path=f"terraform/{name}/{path}", content=document(found, banner=scene.banner()), env=name)
        yield File(path=f"terraform/{name}/README.md", content=_readme(scene, site), env=name)


def parts(scene: Scene, site: Site) -> dict[str, Iterable[Block]]:
    contract = scene.plan.contract
    return {
        "versions.tf": root.versions(),
        "backend.tf": root.backend(contract, site),
        "providers.tf": root.providers(contract, site),
        "variables.tf": root.variables(site),
        "network.tf": network.network(site),
        "key.tf": network.key(site),
        "cluster.tf": cluster.cluster(site),
        "identity.tf": cluster.identity(site, scene.plan.sources_of(site.env.name)),
        "secrets.tf": secrets.store(site),
        "database.tf": stores.database(site),
        "caches.tf": stores.caches(site),
        "blobs.tf": stores.blobs(site),
        "index.tf": search.search(site),
        "snapshots.tf": stores.snapshots(site),
        "outputs.tf": root.outputs(site),
    }


def _readme(scene: Scene, site: Site) -> str:
    return _template().render(
        origin=scene.origin,
        contract=scene.plan.contract,
        site=site,
        state_key=root.state_key(scene.plan.contract, site),
        terraform=TERRAFORM,
        prefix=secrets.prefix(site),
        servers=SERVERS,
        by_hand=secrets.by_hand(site),
        judge=secrets.JUDGE,
        recovery_days=secrets.RECOVERY_DAYS,
        most_days=secrets.MOST_DAYS,
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    found = Environment(  # noqa: S701 (Markdown)
        loader=PackageLoader("pilotis.render.terraform", "."),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return found.get_template("readme.md.j2")
