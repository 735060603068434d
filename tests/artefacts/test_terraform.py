"""The infrastructure through Terraform itself: its layout, its validation against what modules and provider accept, and checkov."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from pilotis.contract import load
from pilotis.derive.plan import derive
from pilotis.render.files import scene
from pilotis.render.terraform import folder as terraform
from pilotis.render.terraform.hcl import Block, Call, For, Ref, Text, document

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
DATA = HERE / "data" / "terraform.json"
FACTS = json.loads(DATA.read_text())
PROVIDER = "registry.terraform.io/hashicorp/aws"
RESERVED = {"source", "version", "providers", "count", "for_each", "lifecycle", "depends_on", "locals"}
"""Variables that no module may declare; those that did had them before the language did."""
EVERYTHING = """
name = "knowledge"
[infra]
vector = "opensearch"
blobs = "s3"
region = "us-west-1"
[sources.docs]
kind = "s3"
bucket = "corp-docs"
[envs.prod]
llm = "gpt-5"
rps = 500
secrets = { provider = "aws" }
snapshot = { place = "s3://backups/pilotis", hour = 22, keep_days = 30, keep_months = 6 }
[envs.qa-with-a-long-name-1]
llm = "extractive"
secrets = { provider = "vault" }
snapshot = { place = "/mnt/backup", keep_months = 0 }
"""


def run(*command: str | Path, at: Path, environ: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    # Whoever runs this may have a configuration of Terraform; none of it belongs here.
    bare = {name: value for name, value in os.environ.items() if not name.startswith("TF_")}
    own = {"CHECKPOINT_DISABLE": "1", **(environ or {})}
    return subprocess.run(
        [*map(str, command)], cwd=at, env=bare | own, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module", params=["pilotis.toml", "minimal.toml", "built-in", "everything"])
def folder(
    request: pytest.FixtureRequest, rendered: Callable[[Path | None], Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """`terraform/` of a rendered contract."""
    if request.param == "built-in":
        return rendered(None) / "terraform"
    if request.param != "everything":
        return rendered(ROOT / "examples" / request.param) / "terraform"
    whole = tmp_path_factory.mktemp("everything")
    for file in terraform.files(scene(derive(load.parse(EVERYTHING, Path("pilotis.toml"))))):
        path = whole / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.data)
    return whole / "terraform"


@pytest.fixture(scope="module")
def reattach(tool: Callable[[str], str]) -> Iterator[dict[str, str]]:
    """The environment in which Terraform finds a provider that knows the schemas alone."""
    python = Path(tool("checkov")).parent / "python"
    if subprocess.run([python, "-c", "import grpc"], capture_output=True, check=False).returncode:
        pytest.skip(f"grpcio is not there for {python}: resources cannot be validated")
    command = [str(python), str(HERE / "terraform_provider.py"), str(DATA), PROVIDER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        yield {"TF_REATTACH_PROVIDERS": server.stdout.readline()}
        server.stdin.close()
        server.wait(30)


def envs(folder: Path) -> list[Path]:
    found = sorted(path for path in folder.iterdir() if path.is_dir())
    assert found
    return found


def copied(env: Path, to: Path) -> Path:
    """The root, with what `terraform init` would have put beside it: of every module its variables and outputs."""
    to.mkdir(parents=True)
    modules = to / ".terraform" / "modules"
    modules.mkdir(parents=True)
    entries = [{"Key": "", "Source": "", "Dir": "."}]
    for path in env.glob("*.tf"):
        text = path.read_text()
        (to / path.name).write_text(text)
        for name, source, version in re.findall(
            r'module "(\w+)" {.*?source\s+= "(.*?)"\s+version\s+= "(.*?)"', text, re.DOTALL
        ):
            facts = FACTS["modules"][source]
            assert version == facts["version"]
            (modules / name).mkdir()
            (modules / name / "stub.tf").write_text(stub(facts))
            place = {"Source": f"registry.terraform.io/{source}", "Version": version, "Dir": f".terraform/modules/{name}"}
            entries.append({"Key": name, **place})
    (modules / "modules.json").write_text(json.dumps({"Modules": entries}))
    return to


def stub(facts: Mapping[str, Any]) -> str:
    lines = []
    for name, kind in facts["arguments"].items():
        if name not in RESERVED:
            rest = ([] if "!" in kind[-2:] else ["default = null"]) + (["ephemeral = true"] if "~" in kind[-2:] else [])
            lines += [f'variable "{name}" {{', f"type = {kind.rstrip('!~')}", *rest, "}"]
    lines += [f'output "{name}" {{\nvalue = null\n}}' for name in facts["outputs"]]
    return "\n".join(lines)


def test_terraform_would_lay_it_out_the_same(folder: Path, tool: Callable[[str], str]) -> None:
    done = run(tool("terraform"), "fmt", "-check", "-diff", "-recursive", ".", at=folder)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_root_is_valid(folder: Path, tool: Callable[[str], str], reattach: dict[str, str], tmp_path: Path) -> None:
    for env in envs(folder):
        root = copied(env, tmp_path / env.name)
        done = run(tool("terraform"), "validate", "-json", at=root, environ=reattach)
        found = json.loads(done.stdout)
        assert found["valid"], json.dumps(found["diagnostics"], indent=1)
        assert found["warning_count"] == 0, found["diagnostics"]


@pytest.mark.parametrize(
    ("mistake", "told"),
    [
        (("cluster.tf", "kubernetes_version", "cluster_version"), "Unsupported argument"),
        (("database.tf", "  identifier ", "  #identifier "), "Missing required argument"),
        (("caches.tf", "cluster_size                  = 2", 'cluster_size = "two"'), "Invalid value for input variable"),
        (("outputs.tf", "module.cache.endpoint", "module.cache.endpoints"), "Unsupported attribute"),
        (
            (
                "outputs.tf",
                "module.cache.endpoint",
                'ephemeral.aws_secretsmanager_secret_version.password["cache"].secret_string',
            ),
            "Ephemeral",
        ),
        (("secrets.tf", "secret_string_wo ", "secret_string "), "Invalid use of ephemeral value"),
        (("secrets.tf", "recovery_window_in_days", "recovery_days"), "Unsupported argument"),
        (("caches.tf", "  user_id ", "  #user_id "), "Missing required argument"),
        (("identity.tf", "aws_iam_role.service.arn", "aws_iam_role.services.arn"), "Reference to undeclared resource"),
        (("variables.tf", 'variable "deployers"', 'variable "deployer"'), "Reference to undeclared input variable"),
    ],
)
def test_validation_would_find_a_mistake(  # noqa: PLR0917 (pytest's own)
    rendered: Callable[[Path | None], Path],
    tool: Callable[[str], str],
    reattach: dict[str, str],
    tmp_path: Path,
    mistake: tuple[str, str, str],
    told: str,
) -> None:
    """A check of checks: what they are given here is wrong, one thing at a time."""
    file, old, new = mistake
    root = copied(rendered(None) / "terraform" / "prod", tmp_path / "prod")
    text = (root / file).read_text()
    assert old in text
    (root / file).write_text(text.replace(old, new, 1))
    found = json.loads(run(tool("terraform"), "validate", "-json", at=root, environ=reattach).stdout)
    assert not found["valid"]
    assert any(told in one["summary"] + one["detail"] for one in found["diagnostics"]), found["diagnostics"]


def test_the_facts_are_those_of_the_modules(shared: Path) -> None:
    """Our own short copy of them, against the whole."""
    whole = json.loads((shared / "facts" / "tf_modules.json").read_text())
    for source, facts in FACTS["modules"].items():
        assert facts["version"] == whole[source]["version"]
        assert facts["outputs"] == whole[source]["outputs"]
        assert set(facts["arguments"]) == set(whole[source]["variables"])
        for name, kind in facts["arguments"].items():
            assert ("!" in kind[-2:]) == whole[source]["variables"][name]["required"]
            assert kind.rstrip("!~") in {whole[source]["variables"][name]["type"], "any"}


def test_every_root_is_valid_with_the_shared_stubs(
    folder: Path, tool: Callable[[str], str], reattach: dict[str, str], shared: Path, tmp_path: Path
) -> None:
    for env in envs(folder):
        root = tmp_path / env.name
        root.mkdir()
        for path in env.glob("*.tf"):
            (root / path.name).write_text(path.read_text())
        made = run(sys.executable, shared / "tools" / "terraform_stubs.py", root, at=root)
        assert made.returncode == 0, made.stdout + made.stderr
        done = run(tool("terraform"), "validate", "-no-color", at=root, environ=reattach)
        assert done.returncode == 0, done.stdout + done.stderr


def test_another_reader_of_hcl_reads_it(folder: Path, tool: Callable[[str], str]) -> None:
    python = Path(tool("checkov")).parent / "python"
    code = "import sys, hcl2\nfor path in sys.argv[1:]:\n    with open(path) as file:\n        assert hcl2.load(file), path"
    done = run(python, "-c", code, *sorted(folder.rglob("*.tf")), at=folder)
    assert done.returncode == 0, done.stderr


def test_checkov_finds_nothing_that_is_not_left_out_with_a_reason(folder: Path, tool: Callable[[str], str]) -> None:
    done = run(tool("checkov"), "-d", ".", "--framework", "terraform", "--quiet", "--compact", "--skip-download", at=folder)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Failed checks: 0" in done.stdout
    skips = [line.strip() for path in folder.rglob("*.tf") for line in path.read_text().splitlines() if "checkov:skip" in line]
    assert skips
    assert all(re.fullmatch(r"#checkov:skip=CKV\w+:.{20,}", line) for line in skips)


NASTY = [
    "${var.secret} %{ if true }x%{ endif }",
    "$${a} $$${b} %%{c}",
    'quotes " and \\ and \\" and \\n',
    "\x00\x01\x7f\u2028\u200b\U000e0001",
    "tab\there\r\nline\n",
    'one ${a}\n  two "%{b}" \\n\n    three\n',
    "  all\n  indented\n",
    "a\n\nb\n",
    "a\nEOT\nb\n",
    "été 日本 🙂",
    "",
    "\n",
    "\n\n",
    "$",
    "${",
    "a$\nb%\n{\n",
]


def test_terraform_reads_back_what_was_written(tool: Callable[[str], str], tmp_path: Path) -> None:
    """Every text as it was: in an argument, in a list, in an object as value and as key, and beside an interpolation."""
    told = {f"n{number}": text for number, text in enumerate(NASTY)}
    keyed = {text: number for number, text in enumerate(NASTY) if text}
    values: dict[str, tuple[Any, Any]] = {
        **{name: (text, text) for name, text in told.items()},
        "list": (NASTY, NASTY),
        "object": ({**told, "deeper": {"again": told}}, {**told, "deeper": {"again": told}}),
        "keyed": (keyed, keyed),
        "encoded": (Call("jsonencode", {"all": NASTY}), None),
        "beside": (Text("${a}", Ref("1 + 1"), '"%{'), '${a}2"%{'),
        "made": (For('x in ["a", "b"]', Ref("x"), {"n": NASTY[5], "x": Ref("x")}), {x: {"n": NASTY[5], "x": x} for x in "ab"}),
        "mixed": ([True, None, 3, ["a"], {"b": {}}], [True, None, 3, ["a"], {"b": {}}]),
    }
    blocks = [Block("output", (name,), {"value": value}) for name, (value, _) in values.items()]
    (tmp_path / "main.tf").write_text(document(blocks, banner=""))
    assert run(tool("terraform"), "fmt", "-check", "-diff", at=tmp_path).stdout == ""
    done = run(tool("terraform"), "apply", "-auto-approve", "-no-color", at=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(run(tool("terraform"), "output", "-json", at=tmp_path).stdout)
    for name, (_, wanted) in values.items():
        if name == "encoded":
            assert json.loads(found[name]["value"]) == {"all": NASTY}
        else:
            assert found[name]["value"] == wanted, name
