"""What is Nix in this project, without a nixpkgs tree: it parses, and what plain Nix renders is what Bento reads.

The modules' evaluation by the real module system is `make nixos-tests`.
"""

import json
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from bento.demo.systems import nix_string
from bento.models.agent_settings import parse_agent_settings
from bento.models.declaration import parse_declaration
from bento.models.strict import parse_toml
from bento.models.trust import parse_trust
from rig import make_ssh_key
from rig.nix import nix_env
from rig.nixos import PROJECT, evaluated, parsed
from rig.world import PROGRAMS, World, said

FILES = sorted(
    path.relative_to(PROJECT)
    for folder in ("nix", "tests/nixos", ".")
    for path in (PROJECT.glob("*.nix") if folder == "." else (PROJECT / folder).rglob("*.nix"))
)
TRUST = PROJECT / "tests/nixos/trust.toml"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_each_nix_file_parses(file: Path, tmp_path: Path) -> None:
    done = parsed(PROJECT / file, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "undefined variable" not in done.stderr


def test_a_nix_file_that_does_not_parse_is_seen(tmp_path: Path) -> None:
    (tmp_path / "broken.nix").write_text((PROJECT / "nix/agent.nix").read_text().replace("mkIf", "mkIf (", 1))
    assert parsed(tmp_path / "broken.nix", tmp_path).returncode != 0


SECRETS = """{
  "db/password" = { owner = "app"; group = "app"; mode = "0440"; link = "/etc/x"; restartUnits = [ "app.service" ];
    reloadUnits = [ ]; neededForUsers = false; template = null; };
  hash = { owner = "root"; group = "root"; mode = "0400"; link = null; restartUnits = [ ]; reloadUnits = [ ];
    neededForUsers = true; template = null; };
  "app.env" = { owner = "app"; group = "root"; mode = "0400"; link = null; restartUnits = [ ]; reloadUnits = [ ];
    neededForUsers = false; template = "A={{ secret \\"db/password\\" }}\\n"; };
}"""


def test_a_declaration_that_plain_nix_renders_is_one_that_bento_reads(tmp_path: Path) -> None:
    text = evaluated(f"import {PROJECT}/nix/lib/declaration.nix {SECRETS}", tmp_path)
    found = parse_declaration(text.encode(), "rendered")
    assert [(one.name, one.path, one.restart, one.users) for one in found.secrets] == [
        ("db/password", "/etc/x", ("app.service",), False),
        ("hash", None, (), True),
    ]
    assert [(one.name, one.text) for one in found.templates] == [("app.env", 'A={{ secret "db/password" }}\n')]
    file = tmp_path / "secrets.json"
    file.write_text(text)
    done = subprocess.run([PROGRAMS / "bento-agent", "validate", "--secrets", file], capture_output=True, check=False)
    assert done.returncode == 0, said(done)


def test_bento_refuses_at_build_time_what_no_host_could_install(tmp_path: Path) -> None:
    wrong = SECRETS.replace('owner = "root"; group = "root"; mode = "0400"; link = null', 'owner = "app"; group = "root"; mode = "0400"; link = null', 1)  # fmt: skip # noqa: E501
    text = evaluated(f"import {PROJECT}/nix/lib/declaration.nix {wrong}", tmp_path)
    file = tmp_path / "secrets.json"
    file.write_text(text)
    done = subprocess.run([PROGRAMS / "bento-agent", "validate", "--secrets", file], capture_output=True, check=False)
    assert done.returncode == 2
    assert "the secret hash is needed before there are users" in said(done)


def test_the_trust_file_that_nix_reads_is_the_one_that_bento_reads(tmp_path: Path) -> None:
    as_nix = evaluated(f"builtins.fromTOML (builtins.readFile {TRUST})", tmp_path)
    trust = parse_trust(TRUST.read_text())
    assert as_nix["fleet"] == trust.fleet
    assert [one["address"] for one in as_nix["servers"]] == [one.address for one in trust.servers]
    assert as_nix["signers"] == [f"{one.line} admin" for one in trust.signers]


@pytest.mark.parametrize(
    "value",
    [
        {"a": 'quotes " and \\ and ${x}', "b": ["two\nlines", "tab\t", "über"], "c": True, "d": -1, "e": []},
        {"t": {"x": 1, "u": {"deep key": "y"}}, "list": [{"a": 1}, {"a": 2, "in": {"b": [1, 2]}}], "empty": {}},
    ],
)
def test_toml_that_nix_renders_reads_back_as_the_same(value: dict[str, object], tmp_path: Path) -> None:
    text = evaluated(f"import {PROJECT}/nix/lib/toml.nix (builtins.fromJSON {nix_string(json.dumps(value))})", tmp_path)
    assert parse_toml(text, "rendered") == value


@pytest.mark.parametrize(
    ("path", "found"),
    [("/home/chroot", "/home"), ("/home", "/home"), ("/homes", "/"), ("/srv/a/b/c", "/srv/a/b"), ("/srv/ab", "/srv")],
)
def test_the_file_system_that_holds_a_path_is_found(path: str, found: str, tmp_path: Path) -> None:
    several = "".join(f'"{one}" = {{ mountPoint = "{one}"; }}; ' for one in ("/home", "/", "/srv", "/srv/a/b"))
    one = f'import {PROJECT}/nix/lib/file-system.nix {{ {several} }} "{path}"'
    assert evaluated(f"({one}).mountPoint", tmp_path) == found
    assert evaluated(f'import {PROJECT}/nix/lib/file-system.nix {{ }} "{path}"', tmp_path) is None


def test_settings_that_nix_renders_are_ones_that_the_agent_reads(tmp_path: Path) -> None:
    settings = '{ host = "web"; identities = [ "/etc/k" ]; trust = "/x"; confirm = { timeout = 5; nothing = null; }; }'
    text = evaluated(f"import {PROJECT}/nix/lib/toml.nix {settings}", tmp_path)
    found = parse_agent_settings(text)
    assert (found.host, str(found.identities[0]), found.confirm_timeout) == ("web", "/etc/k", 5)


def test_the_wheel_that_the_package_takes_is_one_of_the_requirements(tmp_path: Path) -> None:
    text = (PROJECT / "nix/package.nix").read_text()
    required = (PROJECT / "requirements/run.txt").read_text()
    hashes = re.findall(r'sha256 = "([0-9a-f]{64})"', text)
    assert len(hashes) == 2
    pinned = re.search(r"^pyrage==(\S+) (.*?)^ +#", required, re.MULTILINE | re.DOTALL)
    assert pinned is not None
    assert f'version = "{pinned[1]}";' in text
    assert all(one in pinned[2] for one in hashes)


def test_the_package_is_made_of_all_that_pyproject_names() -> None:
    said = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    wheel = said["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(wheel) == {"packages"}, "whatever else the wheel is made of must be in the package's files too"
    text = (PROJECT / "nix/package.nix").read_text()
    files = re.findall(r"^\s+\.\./(\S+)$", text, re.MULTILINE)
    assert set(files) == {*wheel["packages"], said["project"]["readme"], "pyproject.toml", "LICENSE"}
    assert set(said["project"]["scripts"]) == set(re.findall(r"rm \$out/bin/(\S+)", text))  # each has the other's
    assert said["build-system"]["requires"] == ["hatchling"]


def test_the_agent_does_its_whole_run_without_what_only_the_admin_needs(world: World, tmp_path: Path) -> None:
    """nix/package.nix leaves that out of the agent's closure."""
    names = evaluated(f"import {PROJECT}/nix/lib/admin-only.nix", tmp_path / "nix-home")
    blocked = [{"pyyaml": "yaml", "inotify-simple": "inotify_simple"}.get(name, name) for name in names]
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.split('.')[0] in {blocked!r} or name in ('bento.admin', 'bento.demo'):\n"
        "            raise ModuleNotFoundError(f'{name} was left out')\n"
        "sys.meta_path.insert(0, Absent())\n"
    )
    env = {"PYTHONPATH": str(folder)}
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"x")
    world.bento("deploy")
    for words in (("run",), ("run",), ("status",), ("install-secrets",), ("retry",), ("--help",)):
        done = web.agent(*words, env=env)
        assert done.returncode == 0, said(done)
    assert web.secret("token") == b"x"
    assert "was left out" in said(world.try_bento("status", env=env))


def test_the_agents_package_gets_its_manual_pages(tmp_path: Path) -> None:
    argv = [PROGRAMS / "python", PROJECT / "nix/lib/agent-pages.py", tmp_path]
    done = subprocess.run(argv, capture_output=True, check=False)
    assert done.returncode == 0, said(done)
    assert {"bento-agent.1", "bento-agent-run.1"} <= {path.name for path in tmp_path.iterdir()}


def test_the_template_becomes_a_fleet_as_its_readme_says(tmp_path: Path) -> None:
    fleet = tmp_path / "acme"
    shutil.copytree(PROJECT / "nix/template", fleet, symlinks=True)
    key = make_ssh_key(tmp_path / "example")
    init, add, bootstrap, deploy = re.findall(r"`(bento [^`]+)`", (fleet / "README.md").read_text())
    here = {"NAME.pub": f"{tmp_path}/example.pub", "NAME": "example", "/home/chroot": f"{tmp_path}/chroot"}

    def follow(command: str) -> subprocess.CompletedProcess[bytes]:
        words = [here.get(word, word) for word in command.replace("SERVER", "server.example").split()]
        more = ["--server-key", key.line] if words[1] == "init" else []
        argv = [PROGRAMS / words[0], *words[1:], *more]
        return subprocess.run(argv, cwd=fleet, env=nix_env(tmp_path / "home"), capture_output=True, check=False)

    for command in (init, add):
        done = follow(command)
        assert done.returncode == 0, said(done)
    toml = fleet / "bento.toml"
    toml.write_text(toml.read_text().replace("[hosts.example]\n", '[hosts.example]\nsource = "hosts"\n'))
    assert "server.example" in said(follow(bootstrap))
    # As far as it goes without a network: the flake is found, with what the host knows of its fleet beside it.
    assert "hosts/flake.nix has inputs but no flake.lock" in said(follow(deploy))
    assert (fleet / "hosts/utils/trust.toml").is_file()
