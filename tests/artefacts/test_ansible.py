"""The playbooks, read by Ansible's own tools, and carried out on this machine in a folder of their own, before a real HAProxy."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLES = {"pilotis": ROOT / "examples/pilotis.toml", "minimal": ROOT / "examples/minimal.toml", "built-in": None}
PLAYBOOKS = ("install", "deploy", "rollback", "retire", "monitoring")
HOSTS = {"prod": ["127.0.0.1"], "staging": ["one.example.com", "two.example.com", "three.example.com"]}
HAPROXY = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")

Render = Callable[[Path | None], Path]
Tool = Callable[[str], str]


@pytest.fixture(scope="session")
def on_machines(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, with machines: one for prod, three for staging. All of them are this one."""
    text = (ROOT / "examples/pilotis.toml").read_text(encoding="utf-8")
    contract = tmp_path_factory.mktemp("contract") / "pilotis.toml"
    for env, hosts in HOSTS.items():
        text = text.replace(f"[envs.{env}]\n", f"[envs.{env}]\nhosts = {json.dumps(hosts)}\n")
    contract.write_text(text, encoding="utf-8")
    return contract


@pytest.mark.parametrize("example", EXAMPLES)
def test_ansible_lint_finds_nothing_in_its_strictest_profile(
    example: str, rendered: Render, tool: Tool, tmp_path: Path
) -> None:
    folder = shutil.copytree(
        rendered(EXAMPLES[example]) / "ansible", tmp_path / "ansible"
    )  # it leaves a folder of its own there
    lint = tool("ansible-lint")
    done = run(
        [lint, "--offline", "--profile", "production", "--nocolor"], folder, PATH=f"{Path(lint).parent}:{os.environ['PATH']}"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failure(s), 0 warning(s)" in done.stdout + done.stderr


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_ansible_reads_each_playbook(playbook: str, on_machines: Path, rendered: Render, tool: Tool) -> None:
    folder = rendered(on_machines) / "ansible"
    done = run([tool("ansible-playbook"), "-i", "inventory/prod", f"{playbook}.yml", "--syntax-check"], folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "WARNING" not in done.stderr


def test_an_env_without_machines_has_an_inventory_that_asks_for_none(rendered: Render, tool: Tool) -> None:
    folder = rendered(EXAMPLES["minimal"]) / "ansible"
    done = run([tool("ansible-inventory"), "-i", "inventory/dev", "--list"], folder)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["_meta"]["hostvars"] == {}


@dataclass(slots=True)
class Stub:
    """A process of the service, as HAProxy sees one."""

    name: str
    port: int = 0
    is_ready: bool = True
    fails: bool = False
    asked: int = 0


@dataclass(slots=True)
class Machine:
    """A host in a folder: two colours that are there already, and HAProxy before them."""

    root: Path
    stubs: dict[str, Stub]
    front: int
    watch: int

    def told(self) -> dict[str, Any]:
        """What differs from a real host: where it is, who owns its files, which ports are free here, and that nobody has much time."""
        own = os.getuid()
        return {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
            "pilotis_services": False,
            "pilotis_root": str(self.root),
            "pilotis_uid": own,
            "pilotis_root_uid": own,
            "pilotis_grafana_uid": own,
            "pilotis_ports": {name: [stub.port] for name, stub in self.stubs.items()},
            "pilotis_bind": f"127.0.0.1:{self.front}",
            "pilotis_watch_port": self.watch,
            "pilotis_watchers": ["localhost"],
            "pilotis_haproxy": HAPROXY,
            "pilotis_haproxy_user": "",
            "pilotis_watch_s": 1,
            "pilotis_ready_tries": 3,
            "pilotis_ready_pause_s": 0.2,
        }

    def ask(self, path: str = "/v1/ask", port: int | None = None) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port or self.front}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    @property
    def serving(self) -> set[str]:
        """Who answers, of forty times."""
        return {self.ask()[1] for _ in range(40)}

    @property
    def colour(self) -> str:
        """What it noted."""
        return (self.root / "var/lib/pilotis-release/colour").read_text().strip()

    @property
    def idle(self) -> Stub:
        return self.stubs["blue" if self.colour == "green" else "green"]

    def unit(self, name: str) -> str:
        return (self.root / "etc/systemd/system" / f"{name}.service").read_text()


@dataclass(slots=True)
class Fleet:
    """The machines of an env, and Ansible, which believes to have installed them all."""

    env: str
    folder: Path
    playbook: str
    machines: dict[str, Machine]

    def play(self, name: str, *, secret: str = "s3cr3t", **more: Any) -> subprocess.CompletedProcess[str]:
        own = self.folder / "machines.yml"
        hosts = {host: machine.told() for host, machine in self.machines.items()}
        own.write_text(json.dumps({"all": {"hosts": hosts}}))
        told = json.dumps({"pilotis_digest": digest("a"), **more})
        command = [
            self.playbook,
            "-i",
            f"inventory/{self.env}",
            "-i",
            str(own),
            f"{name}.yml",
            "--extra-vars",
            told,
            "-v",
            "--diff",
        ]
        names = ("PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL", "PILOTIS_BROKER_URL", "OPENAI_API_KEY", "GRAFANA_PASSWORD")
        return run(command, self.folder, **dict.fromkeys(names, secret))


@contextmanager
def fleet_of(env: str, rendered: Path, playbook: str, folder: Path) -> Iterator[Fleet]:
    if HAPROXY is None:
        pytest.skip("haproxy is not there: apt-get install haproxy")
    deploy = shutil.copytree(rendered, folder / "deploy")
    (deploy / "monitoring" / env).mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        machines: dict[str, Machine] = {}
        for number, host in enumerate(HOSTS[env]):
            stubs = {name: stack.enter_context(serving(Stub(name))) for name in ("blue", "green")}
            machines[host] = Machine(folder / str(number), stubs, free(), free())
            (folder / str(number) / "run/haproxy").mkdir(parents=True)
        made = Fleet(env, deploy / "ansible", playbook, machines)
        installed = made.play("install")
        assert installed.returncode == 0, installed.stdout + installed.stderr
        for machine in machines.values():
            stack.enter_context(proxy(machine.root / "etc/haproxy/haproxy.cfg", machine.front))
        yield made


@pytest.fixture(scope="module")
def fleet(on_machines: Path, rendered: Render, tool: Tool, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """One machine, on which a release is out and watched."""
    with fleet_of("prod", rendered(on_machines), tool("ansible-playbook"), tmp_path_factory.mktemp("prod")) as made:
        for playbook in ("deploy", "monitoring"):
            done = made.play(playbook)
            assert done.returncode == 0, done.stdout + done.stderr
        yield made


@pytest.fixture
def machine(fleet: Fleet) -> Machine:
    only = fleet.machines["127.0.0.1"]
    for stub in only.stubs.values():
        stub.is_ready, stub.fails = True, False
    return only


def test_the_first_release_serves_in_one_colour(machine: Machine) -> None:
    assert machine.colour == "blue"
    assert machine.serving == {"blue"}


def test_a_release_goes_out_in_the_other_colour_and_is_taken_back(fleet: Fleet, machine: Machine) -> None:
    old, new = machine.colour, machine.idle.name
    out = fleet.play("deploy", pilotis_digest=digest("b"))
    assert out.returncode == 0, out.stdout + out.stderr
    assert machine.serving == {machine.colour} == {new}
    config = (machine.root / "etc/haproxy/haproxy.cfg").read_text().splitlines()
    started = next(found for found in config if found.strip().startswith(f"server {new}1"))
    assert started.endswith("weight 100"), "HAProxy would start with the old colour"
    assert digest("b") in machine.unit(f"pilotis-{new}-1")
    assert digest("a") in machine.unit(f"pilotis-{old}-1")
    assert digest("b") in machine.unit("pilotis-worker-embed-1")

    back = fleet.play("rollback")
    assert back.returncode == 0, back.stdout + back.stderr
    assert machine.serving == {machine.colour} == {old}


def test_a_release_that_never_is_ready_serves_nobody(fleet: Fleet, machine: Machine) -> None:
    old, machine.idle.is_ready = machine.colour, False
    done = fleet.play("deploy")
    assert done.returncode != 0
    assert f"serves with {old}" in done.stdout
    assert "Bring workers to the release" not in done.stdout, "the play went on after a host had failed"
    assert machine.serving == {machine.colour} == {old}


def test_a_release_that_answers_with_errors_is_sent_back_at_its_first_share(fleet: Fleet, machine: Machine) -> None:
    old, machine.idle.fails = machine.colour, True
    with questions(machine) as told:
        done = fleet.play("deploy", pilotis_watch_s=20)
    assert done.returncode != 0
    assert "answers were errors" in done.stdout
    assert machine.serving == {machine.colour} == {old}
    errors = sum(status >= 500 for status in told)
    assert 0 < errors < 0.25 * len(told), f"{errors} of {len(told)}: it had more than its first share"


def test_where_the_contract_rolls_nothing_back_errors_stop_nothing(fleet: Fleet, machine: Machine) -> None:
    new, machine.idle.fails = machine.idle.name, True
    with questions(machine):
        done = fleet.play("deploy", pilotis_rolls_back=False, pilotis_shares=[100])
    assert done.returncode == 0, done.stdout
    assert machine.colour == new


def test_the_next_batch_is_not_touched_where_one_fails(on_machines: Path, rendered: Render, tool: Tool, tmp_path: Path) -> None:
    with fleet_of("staging", rendered(on_machines), tool("ansible-playbook"), tmp_path) as fleet:
        one, two, three = fleet.machines.values()
        two.stubs["blue"].is_ready = False
        done = fleet.play("deploy", pilotis_shares=[100])
        assert done.returncode != 0
        assert "Bring workers to the release" not in done.stdout
        assert one.colour == "blue"
        assert one.serving == {"blue"}
        for untouched in (two, three):
            assert not (untouched.root / "var/lib/pilotis-release/colour").exists()
        assert three.stubs["blue"].asked == 0
        assert not (three.root / "etc/systemd/system/pilotis-blue-1.service").exists()


def test_to_install_twice_changes_nothing_and_tells_no_secret(fleet: Fleet, machine: Machine) -> None:
    again = fleet.play("install")
    assert again.returncode == 0, again.stdout
    assert "changed=0" in again.stdout
    rotated = fleet.play("install", secret="0ther-s3cr3t")
    watched = fleet.play("monitoring", secret="0ther-s3cr3t")
    assert rotated.returncode == watched.returncode == 0, rotated.stdout + watched.stdout
    for said in (again, rotated, watched):
        assert "s3cr3t" not in said.stdout + said.stderr
    kept = sorted((machine.root / "etc/pilotis/secrets").iterdir())
    assert [path.name for path in kept] == ["OPENAI_API_KEY", "PILOTIS_BROKER_URL", "PILOTIS_DATABASE_URL", "PILOTIS_REDIS_URL"]
    assert {path.stat().st_mode & 0o777 for path in kept} == {0o400}
    assert {path.read_text() for path in kept} == {"0ther-s3cr3t\n"}
    others = [path for path in machine.root.rglob("*") if path.is_file() and path.parent.name != "secrets"]
    assert [path for path in others if "s3cr3t" in path.read_text(errors="replace")] == []


def test_a_secret_that_is_missing_is_named_and_nothing_is_written(fleet: Fleet, machine: Machine) -> None:
    before = (machine.root / "etc/pilotis/secrets/OPENAI_API_KEY").read_text()
    done = fleet.play("install", secret="")
    assert done.returncode != 0
    assert "Missing: PILOTIS_DATABASE_URL" in done.stdout
    assert (machine.root / "etc/pilotis/secrets/OPENAI_API_KEY").read_text() == before


def test_a_release_without_a_digest_is_refused(fleet: Fleet) -> None:
    done = fleet.play("deploy", pilotis_digest="latest")
    assert done.returncode != 0
    assert "by the digest of its image" in done.stdout


def test_what_processes_count_is_passed_on_beside_the_front_and_not_through_it(machine: Machine) -> None:
    assert machine.ask("/blue1/metrics", machine.watch) == (200, "blue counts")
    assert machine.ask("/green1/metrics", machine.watch) == (200, "green counts")
    assert 'haproxy_server_http_responses_total{proxy="processes",server="blue1"' in machine.ask("/metrics", machine.watch)[1]
    assert machine.ask("/blue1/v1/ask", machine.watch)[0] == 404
    assert machine.ask("/metrics")[0] == 404


def test_who_watches_asks_every_process_of_every_host(machine: Machine, tool: Tool) -> None:
    config = machine.root / "etc/pilotis-monitoring/prometheus.hosts.yml"
    scraped = yaml.safe_load(config.read_text())["scrape_configs"][0]["static_configs"]
    assert {one["labels"]["__metrics_path__"] for one in scraped} == {"/blue1/metrics", "/green1/metrics"}
    assert {target for one in scraped for target in one["targets"]} == {f"127.0.0.1:{machine.watch}"}
    checked = run([tool("promtool"), "check", "config", "--syntax-only", str(config)], machine.root)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_units_are_as_systemd_wants_them(machine: Machine) -> None:
    if (verify := shutil.which("systemd-analyze")) is None:
        pytest.skip("systemd-analyze is not there: apt-get install systemd")
    units = sorted((machine.root / "etc/systemd/system").glob("*.service"))
    wanted = {
        "pilotis-blue-1",
        "pilotis-worker-embed-1",
        "pilotis-upkeep",
        "pilotis-schedule",
        "pilotis-grafana",
    }
    assert {unit.stem for unit in units} >= wanted
    done = run([verify, "verify", "--man=no", *map(str, units)], machine.root)
    told = [said for said in (done.stdout + done.stderr).splitlines() if "pilotis-" in said]
    # There is no docker on a machine that only tries this out.
    assert [said for said in told if "docker" not in said] == []


@contextmanager
def serving(stub: Stub) -> Iterator[Stub]:
    class Answers(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            ready = self.path == "/readyz"
            status = 503 if ready and not stub.is_ready else 500 if stub.fails and not ready else 200
            stub.asked += not ready
            body = f"{stub.name} counts" if self.path == "/metrics" else stub.name
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """HAProxy's probes leave as soon as they know."""

    with Quiet(("127.0.0.1", 0), Answers) as server:
        stub.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield stub
        server.shutdown()
        thread.join()


@contextmanager
def proxy(config: Path, port: int) -> Iterator[None]:
    assert HAPROXY is not None
    with subprocess.Popen([HAPROXY, "-db", "-f", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + 10
            while not listens(port):
                assert process.poll() is None, (process.stderr.read() if process.stderr else b"").decode()
                assert time.monotonic() < until, "HAProxy does not listen"
                time.sleep(0.05)
            yield
        finally:
            process.terminate()


@contextmanager
def questions(machine: Machine) -> Iterator[list[int]]:
    """Asked without a pause by somebody else, as long as the block lasts; the status of each answer."""
    told: list[int] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.is_set():
            told.append(machine.ask()[0])
            time.sleep(0.01)

    thread = threading.Thread(target=go_on)
    thread.start()
    yield told
    over.set()
    thread.join()


def run(command: list[str], folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0", "LC_ALL": "C.UTF-8", **environ}
    return subprocess.run(command, cwd=folder, env=told, capture_output=True, text=True, check=False)


def digest(letter: str) -> str:
    return "sha256:" + 64 * letter


def listens(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
