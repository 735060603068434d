"""The inventory, the batches and the roles: they agree with the plan, tell no secret, and give every process its time."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from pilotis.contract import load
from pilotis.contract.deploy import Deploy
from pilotis.derive.plan import derive
from pilotis.derive.site import Site
from pilotis.derive.workload import DRAIN_S, LONGEST_TASK_S, roles, secrets, settings
from pilotis.render.ansible import ansible, hosts
from pilotis.render.files import Scene, scene

ROOT = Path(__file__).parents[3]
TREE = ROOT / "src/pilotis/render/ansible/tree"
WEIGH = TREE / "roles/proxy/files/weigh.py"
SECRET_NAMES = ("pilotis_secrets", "pilotis_grafana_password")
AWS = "aws secretsmanager get-secret-value --region eu-west-3 --query SecretString --output text"
NAMES_ALONE = "pilotis_secrets_missing"


def on_hosts(tmp_path: Path, *names: str, more: str = "", deploy: str = "stages = [5, 25, 100]") -> Scene:
    """The large example, whose prod has these machines."""
    text = (ROOT / "examples/pilotis.toml").read_text(encoding="utf-8")
    listed = ", ".join(f'"{name}"' for name in names)
    if names:
        text = text.replace("[envs.prod]\n", f"[envs.prod]\nhosts = [{listed}]\n{more}\n")
    text = text.replace('strategy = "canary"\nstages = [5, 25, 100]', deploy)
    path = tmp_path / "pilotis.toml"
    path.write_text(text, encoding="utf-8")
    return scene(derive(load.load(path)))


def files(on: Scene) -> dict[str, str]:
    return {file.path: file.data.decode() for file in ansible.files(on)}


def tasks(value: Any) -> Iterator[dict[str, Any]]:
    """Every task of a file, those of blocks too."""
    for item in value if isinstance(value, list) else []:
        if isinstance(item, dict):
            yield item
            for inner in ("block", "rescue", "always", "tasks", "pre_tasks", "post_tasks"):
                yield from tasks(item.get(inner))


def all_tasks() -> list[tuple[str, dict[str, Any]]]:
    found = [(path, yaml.safe_load(path.read_text(encoding="utf-8"))) for path in sorted(TREE.rglob("*.yml"))]
    return [(path.relative_to(TREE).as_posix(), task) for path, value in found for task in tasks(value)]


def test_every_file_that_takes_a_comment_says_where_it_came_from(tmp_path: Path) -> None:
    on = on_hosts(tmp_path, "10.0.0.5")
    without = {path for path, content in files(on).items() if on.plan.digest not in content}
    assert without == {"ansible/files/pilotis.json"}


def test_the_contract_that_hosts_get_is_the_contract(tmp_path: Path) -> None:
    on = on_hosts(tmp_path, "10.0.0.5")
    copy = tmp_path / "copy.json"
    copy.write_text(files(on)["ansible/files/pilotis.json"], encoding="utf-8")
    assert load.load(copy) == on.plan.contract


@pytest.mark.parametrize(
    ("stages", "batches"),
    [((5, 25, 100), ["5%", "20%", "100%"]), ((100,), ["100%"]), ((1, 2, 50, 100), ["1%", "1%", "48%", "100%"])],
)
def test_batches_add_up_to_the_stages(stages: tuple[int, ...], batches: list[str], tmp_path: Path) -> None:
    assert hosts.serial(Deploy(stages=stages)) == batches
    plays = yaml.safe_load(files(on_hosts(tmp_path, "a", deploy=f"stages = {list(stages)}"))["ansible/deploy.yml"])
    taken = [play["serial"] for play in plays if "serial" in play]
    assert taken == [batches, batches]
    assert all(play["max_fail_percentage"] == 0 for play in plays if "serial" in play)


def test_blue_green_moves_all_hosts_at_once(tmp_path: Path) -> None:
    on = on_hosts(tmp_path, "a", "b", deploy='stages = [5, 25, 100]\nstrategy = "blue_green"')
    assert 'serial: ["100%"]' in files(on)["ansible/deploy.yml"]
    assert hosts.shares(on.sites["prod"], on.plan.contract.deploy) == [100]


@pytest.mark.parametrize(("count", "shares"), [(1, [5, 25, 100]), (19, [5, 25, 100]), (20, [100]), (40, [100])])
def test_hosts_too_few_for_the_first_stage_move_their_own_requests_in_stages(
    count: int, shares: list[int], tmp_path: Path
) -> None:
    on = on_hosts(tmp_path, *(f"h{number}" for number in range(count)))
    assert hosts.shares(on.sites["prod"], on.plan.contract.deploy) == shares


def test_no_machine_is_named_where_the_contract_names_none(tmp_path: Path) -> None:
    on = on_hosts(tmp_path)
    text = files(on)["ansible/inventory/prod/hosts.yml"]
    groups = yaml.safe_load(text)["pilotis"]["children"]
    assert {name: group["hosts"] for name, group in groups.items()} == {"api": {}, "workers": {}, "alone": {}, "monitoring": {}}
    assert "hosts in [envs.prod]" in text


def test_groups_are_the_hosts_of_the_contract(tmp_path: Path) -> None:
    groups = hosts.inventory(on_hosts(tmp_path, "a", "b", "c").sites["prod"])["pilotis"]["children"]
    listed = {name: list(group["hosts"]) for name, group in groups.items()}
    assert listed == {"api": ["a", "b", "c"], "workers": ["a", "b", "c"], "alone": ["a"], "monitoring": ["c"]}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_hosts_together_carry_what_was_sized(count: int, tmp_path: Path) -> None:
    on = on_hosts(tmp_path, *(f"h{number}" for number in range(count)))
    site = on.sites["prod"]
    told = hosts.variables(on, site)
    assert {len(ports) for ports in told["pilotis_ports"].values()} == {-(-site.size.api_pods // count)}
    for role in (role for role in roles(site) if role.queue):
        here = [unit for unit in told["pilotis_workers"] if unit["command"] == list(role.command)]
        assert role.most is not None
        assert len(here) * count >= role.most > (len(here) - 1) * count


def test_every_process_of_the_plan_is_a_unit(tmp_path: Path) -> None:
    on = on_hosts(tmp_path, "a", "b")
    site, told = on.sites["prod"], hosts.variables(on, on.sites["prod"])
    units = [*told["pilotis_workers"], *told["pilotis_alone"]]
    commands = {tuple(unit["command"]) for unit in units} | {tuple(told["pilotis_api"]["command"])}
    assert commands == {role.command for role in roles(site)}
    assert len({unit["name"] for unit in units}) == len(units)
    assert told["pilotis_settings"].items() >= settings(site).items()


def test_ports_are_distinct(tmp_path: Path) -> None:
    on = on_hosts(tmp_path, "a", more="rps = 100000")
    told = hosts.variables(on, on.sites["prod"])
    taken = [
        *told["pilotis_ports"]["blue"],
        *told["pilotis_ports"]["green"],
        told["pilotis_watch_port"],
        9090,
        9093,
        3000,
        4318,
    ]
    assert len(taken) == len(set(taken))
    assert len(told["pilotis_ports"]["blue"]) == hosts.MOST_PROCESSES


def test_everything_has_its_time(tmp_path: Path) -> None:
    """What drains is waited for by docker, docker by systemd, and the proxy waits longer than the longest answer."""
    on = on_hosts(tmp_path, "a")
    told = hosts.variables(on, on.sites["prod"])
    assert told["pilotis_api"]["grace_s"] > DRAIN_S
    assert all(unit["grace_s"] >= LONGEST_TASK_S for unit in [*told["pilotis_workers"], *told["pilotis_alone"]])
    unit = (TREE / "roles/colour/templates/process.service.j2").read_text(encoding="utf-8")
    assert "TimeoutStopSec={{ colour_process.grace_s + 15 }}s" in unit
    assert told["pilotis_ready_tries"] * told["pilotis_ready_pause_s"] == hosts.READY_S
    proxy = ansible.proxy(on)
    assert f"timeout server {round(on.sites['prod'].env.total_s) + 30}s" in proxy
    assert f"hard-stop-after {DRAIN_S + 1}s" in proxy


def test_no_task_that_sees_a_secret_tells_it() -> None:
    seen = []
    for path, task in all_tasks():
        own = {key: value for key, value in task.items() if key not in ("block", "rescue", "always", "tasks")}
        text = yaml.safe_dump(own).replace(NAMES_ALONE, "")
        if any(name in text for name in SECRET_NAMES):
            seen.append(task["name"])
            assert task.get("no_log") is True, f"{path}: {task['name']}"
    assert seen == ["Secrets are there, as files that one user can read", "Grafana's password is there"]


def test_no_template_holds_a_secret() -> None:
    for path in TREE.rglob("*.j2"):
        assert not any(name in path.read_text(encoding="utf-8") for name in SECRET_NAMES), path


@pytest.mark.parametrize(
    ("secrets_of", "found"),
    [
        ("", "lookup('ansible.builtin.env', 'OPENAI_API_KEY')"),
        ('secrets = { provider = "file", path = "/srv/keys" }', "lookup('ansible.builtin.file', '/srv/keys/OPENAI_API_KEY')"),
        (
            'secrets = { provider = "vault", path = "kv/teams/rag" }',
            "lookup('ansible.builtin.pipe', 'vault kv get -mount=kv -field=value teams/rag/OPENAI_API_KEY')",
        ),
        (
            'secrets = { provider = "aws" }',
            f"lookup('ansible.builtin.pipe', '{AWS} --secret-id rag/prod/OPENAI_API_KEY')",
        ),
    ],
)
def test_secrets_are_looked_for_where_the_contract_keeps_them(secrets_of: str, found: str, tmp_path: Path) -> None:
    site = on_hosts(tmp_path, "a", more=secrets_of).sites["prod"]
    values = hosts.secret_values(site)
    assert list(values["pilotis_secrets"]) == list(secrets(site.env))
    assert values["pilotis_secrets"]["OPENAI_API_KEY"] == f"{{{{ {found} }}}}"


def test_files_that_stay_on_one_host_are_warned_of(tmp_path: Path) -> None:
    one, two = on_hosts(tmp_path, "a"), on_hosts(tmp_path, "a", "b")
    path = "ansible/inventory/prod/group_vars/all/main.yml"
    assert "shared folder" not in files(one)[path]
    assert "mount one\n# shared folder at /var/lib/pilotis/blobs" in files(two)[path]


def test_every_path_can_be_moved_into_a_folder(tmp_path: Path) -> None:
    on = on_hosts(tmp_path, "a")
    told = hosts.variables(on, on.sites["prod"])
    fixed = {name for name, value in told.items() if isinstance(value, str) and value.startswith("/")}
    assert fixed == {"pilotis_haproxy", "pilotis_data_inside", "pilotis_contract_inside"}
    for path, task in all_tasks():
        for module, arguments in task.items():
            if module.startswith("ansible.builtin.") and isinstance(arguments, dict):
                for key in ("dest", "path"):
                    assert not str(arguments.get(key, "")).startswith("/"), f"{path}: {task['name']}"


def test_what_touches_the_system_can_be_left_out() -> None:
    system = {"apt", "systemd_service", "user", "group"}
    for path, task in all_tasks():
        modules = {key.rpartition(".")[2] for key in task if key.startswith("ansible.builtin.")}
        runs_docker = "docker" in str(task.get("ansible.builtin.command", ""))
        if modules & system or runs_docker:
            assert "pilotis_services" in str(task.get("when")), f"{path}: {task['name']}"


class Haproxy:
    """HAProxy's socket, as far as weigh.py speaks to it; `refuses` names a server whose weight it will not raise."""

    def __init__(self, blue: int = 100, green: int = 0, refuses: str = "") -> None:
        self.weights = {"blue1": blue, "green1": green}
        self.refuses = refuses
        self.least = 200
        self.errors = {"blue1": 0, "green1": 0}

    def answer(self, command: str) -> str:
        words = command.split()
        if words[:2] == ["show", "stat"]:
            rows = [f"processes,{name},10,{self.errors[name]},0" for name in self.weights]
            return "\n".join(["# pxname,svname,hrsp_total,hrsp_5xx,econ", *rows, "processes,BACKEND,20,0,0", ""])
        server = words[2].partition("/")[2]
        if words[0] == "set":
            if server == self.refuses:
                return "Backend is using a static LB algorithm\n"
            self.weights[server] = int(words[4])
            self.least = min(self.least, sum(self.weights.values()))
            return "\n"
        return f"{self.weights[server]} (initial 100)\n"


@contextmanager
def listening(haproxy: Haproxy, tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "admin.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
        server.bind(str(path))
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    command = connection.recv(1000).decode()
                    if command == "over\n":
                        return
                    connection.sendall(haproxy.answer(command).encode())

        thread = threading.Thread(target=serve)
        thread.start()
        yield path
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as last:
            last.connect(str(path))
            last.sendall(b"over\n")
        thread.join()


def weigh(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(WEIGH), *map(str, arguments)], capture_output=True, text=True, check=False)


def test_weights_are_moved_and_never_both_gone(tmp_path: Path) -> None:
    haproxy = Haproxy()
    with listening(haproxy, tmp_path) as path:
        for share in (5, 25, 100):
            assert weigh("share", "--socket", path, "green", share).returncode == 0
            assert haproxy.weights == {"green1": share, "blue1": 100 - share}
    assert haproxy.least >= 75


def test_all_requests_at_once_leave_nobody_without_an_answer(tmp_path: Path) -> None:
    haproxy = Haproxy()
    with listening(haproxy, tmp_path) as path:
        assert weigh("share", "--socket", path, "green", 100).returncode == 0
    assert haproxy.least == 100


def test_a_refused_raise_leaves_the_other_colour_as_it_is(tmp_path: Path) -> None:
    haproxy = Haproxy(refuses="green1")
    with listening(haproxy, tmp_path) as path:
        done = weigh("share", "--socket", path, "green", 100)
    assert done.returncode == 1
    assert "static LB algorithm" in done.stderr
    assert haproxy.weights == {"blue1": 100, "green1": 0}


def test_without_haproxy_it_says_so(tmp_path: Path) -> None:
    done = weigh("share", "--socket", tmp_path / "none.sock", "green", 100)
    assert done.returncode == 1
    assert done.stderr.startswith("HAProxy at ")


def test_a_colour_that_does_nothing_wrong_passes(tmp_path: Path) -> None:
    with listening(Haproxy(), tmp_path) as path:
        done = weigh("watch", "--socket", path, "--seconds", 0.1, "--error-rate", 0.01, "--sample", 200, "green")
    assert done.returncode == 0
    assert "0 of 0 answers were errors" in done.stdout


def test_haproxy_template_serves_what_was_noted(tmp_path: Path) -> None:
    text = ansible.proxy(on_hosts(tmp_path, "a"))
    assert "weight {{ 100 if colour == colour_serving else 0 }}" in text
    assert "balance roundrobin" in text, "other ways to balance take no weights while they run, or not exactly"
    assert "stats socket {{ pilotis_socket }} mode 660 level admin" in text


def test_site_without_processes_for_a_host_has_one_of_each(tmp_path: Path) -> None:
    on = on_hosts(tmp_path, *(f"h{number}" for number in range(50)))
    site: Site = on.sites["prod"]
    assert hosts.ports(site) == {"blue": [hosts.BLUE_PORT], "green": [hosts.GREEN_PORT]}
