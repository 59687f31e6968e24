"""flake.nix, default.nix and nix/package.nix, evaluated with nixpkgs' lib and stand-ins for what builds packages."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from rig.nixos import PROJECT, evaluated, machine, tree

# Each of nixpkgs' Python packages is its own name here, and "building" one gives back what it was told.
_PACKAGES = """
  named = names: builtins.listToAttrs (map (name: { inherit name; value = name; }) names);
  python = named [ "click" "cryptography" "hatchling" "inotify-simple" "paramiko" "platformdirs" "pydantic" "pynacl"
    "pyyaml" "rich" "tomlkit" ] // { buildPythonApplication = told: told; buildPythonPackage = told: told;
    python.sitePackages = "lib/python3/site-packages"; };
  stdenv = { hostPlatform = { inherit system; }; cc.cc = "gcc"; };
  callPackage = file: more: import file ({ inherit lib stdenv; autoPatchelfHook = "patchelf"; fetchPypi = told: told;
    installShellFiles = "shells"; openssh = "openssh"; python3Packages = python // extra; } // more);
"""


def package(wanted: str, tmp_path: Path, *, system: str = "x86_64-linux", extra: str = "{ }") -> Any:
    expression = (
        f'let lib = import {tree()}/lib; system = "{system}"; extra = {extra}; {_PACKAGES} '
        f"p = callPackage {PROJECT}/nix/package.nix {{ }}; in {wanted}"
    )
    return evaluated(expression, tmp_path)


def required() -> set[str]:
    """What pyproject.toml says the whole needs, by its nixpkgs names."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    return {re.split(r"[<>=;\s]", one)[0].replace("_", "-") for one in project["dependencies"]}


def test_the_packages_need_what_pyproject_says_and_the_agent_less(tmp_path: Path) -> None:
    names = "map (one: if builtins.isString one then one else one.pname) "
    admin = set(package(f"{names} p.bento.dependencies", tmp_path))
    agent = set(package(f"{names} p.bento-agent.dependencies", tmp_path))
    assert admin == required()
    assert admin - agent == set(package("p.bento-agent.pythonRemoveDeps", tmp_path))
    assert {"rich", "tomlkit"} <= admin - agent


def test_a_nixpkgs_with_pyrage_is_asked_for_it_and_one_without_gets_the_wheel(tmp_path: Path) -> None:
    own = package("p.bento-agent.dependencies", tmp_path, extra='{ pyrage = "pyrage"; }')
    assert "pyrage" in own
    for system, word in (("x86_64-linux", "x86_64"), ("aarch64-linux", "aarch64")):
        wheel = package("(lib.last p.bento-agent.dependencies).src", tmp_path, system=system)
        assert word in wheel["platform"]
        assert wheel["sha256"] in (PROJECT / "requirements/run.txt").read_text()


@pytest.mark.parametrize("name", ["bento", "bento-agent"])
def test_the_wrapper_is_told_words_as_structured_attributes_need_them(name: str, tmp_path: Path) -> None:
    assert package(f"p.{name}.makeWrapperArgs", tmp_path) == ["--suffix", "PATH", ":", "openssh/bin"]


def test_the_version_is_bentos(tmp_path: Path) -> None:
    from bento import __version__

    assert package("p.bento.version", tmp_path) == __version__


def flake(wanted: str, tmp_path: Path) -> Any:
    expression = (
        f'let lib = import {tree()}/lib; system = "x86_64-linux"; extra = {{ }}; {_PACKAGES} '
        "pkgs = { inherit callPackage; mkShell = told: told; python3.withPackages = _: null; age = null; "
        "gnumake = null; openssh = null; strace = null; testers.runNixOSTest = told: told; path = /nonexistent; }; "
        "nixpkgs = { inherit lib; legacyPackages = { x86_64-linux = pkgs; aarch64-linux = pkgs; }; }; "
        f"self = (import {PROJECT}/flake.nix).outputs {{ inherit self nixpkgs; }}; in {wanted}"
    )
    return evaluated(expression, tmp_path)


def test_the_flake_has_what_the_page_says(tmp_path: Path) -> None:
    assert flake("builtins.attrNames self", tmp_path) == [
        "checks",
        "devShells",
        "nixosModules",
        "overlays",
        "packages",
        "templates",
    ]
    assert flake("builtins.attrNames self.nixosModules", tmp_path) == ["agent", "container", "default", "server"]
    assert flake("builtins.attrNames self.packages.x86_64-linux", tmp_path) == ["bento", "bento-agent", "default"]
    assert flake("self.packages.x86_64-linux.default.pname", tmp_path) == "bento"
    assert flake("self.packages.aarch64-linux.bento-agent.pname", tmp_path) == "bento-agent"
    assert "userborn" in flake("builtins.attrNames self.checks.x86_64-linux", tmp_path)
    overlaid = "builtins.attrNames (self.overlays.default { inherit callPackage; } { })"
    assert flake(overlaid, tmp_path) == ["bento-agent", "bento-fleet"]


@pytest.mark.parametrize("module", ["agent", "server", "container"])
def test_each_module_of_the_flake_is_one_that_is_there(module: str, tmp_path: Path) -> None:
    files = flake(f"map toString self.nixosModules.{module}.imports", tmp_path)
    assert files == [str(PROJECT / f"nix/{module}.nix")]


def test_the_templates_flake_lies_under_hosts_and_none_at_its_root(tmp_path: Path) -> None:
    path = Path(flake("toString self.templates.default.path", tmp_path))
    assert path == PROJECT / "nix/template"
    assert not (path / "flake.nix").exists()
    assert (path / "hosts/flake.nix").is_file()
    expression = f"builtins.attrNames ((import {path}/hosts/flake.nix).outputs {{ nixpkgs = {{ lib.nixosSystem = told: told; }}; bento.nixosModules.agent = null; }}).nixosConfigurations"  # fmt: skip # noqa: E501
    assert evaluated(expression, tmp_path) == ["example"]


def test_without_flakes_there_is_the_same(tmp_path: Path) -> None:
    expression = (
        f'let lib = import {tree()}/lib; system = "x86_64-linux"; extra = {{ }}; {_PACKAGES} '
        f"d = import {PROJECT}/default.nix {{ pkgs = {{ inherit callPackage; }}; }}; in "
        "[ (builtins.attrNames d) (map toString (builtins.attrValues d.modules)) ]"
    )
    names, modules = evaluated(expression, tmp_path)
    assert names == ["bento", "bento-agent", "modules", "overlay"]
    assert all(Path(one).is_file() for one in modules)


def named(page: str, head: str) -> list[str]:
    """The options in the first column of the page's table that begins so; `.x` stands beside the one before it."""
    rows = page.split(head, 1)[1].split("\n\n", 1)[0].splitlines()[2:]
    found: list[str] = []
    for row in rows:
        for one in re.findall(r"`([^`]+)`", row.split("|")[1]):
            found.append(f"{found[-1].rpartition('.')[0]}{one}" if one.startswith(".") else one)
    return found


@pytest.mark.parametrize(
    ("head", "module", "options", "some"),
    [
        ("| option of `services.bento` |", "agent.nix", "m.options.services.bento", "trigger.address"),
        (
            "| option of `services.bento-server` |",
            "server.nix",
            "m.options.services.bento-server",
            "quota.size",
        ),
        ("| option | default | |", "agent.nix", "m.options.bento.secrets.type.getSubOptions [ ]", "neededForUsers"),
    ],
)
def test_every_option_of_the_page_is_one_that_there_is(
    head: str, module: str, options: str, some: str, tmp_path: Path
) -> None:
    names = named((PROJECT / "docs/nixos.md").read_text(), head)
    assert some in names
    assert "no.such" not in names
    configuration = '{ fileSystems."/".device = "/dev/sda1"; }'
    asked = "{ " + "".join(f'"{name}" = options ? {name}; ' for name in [*names, "no.such"]) + "}"
    found = evaluated(machine([module], configuration, f"let options = {options}; in {asked}"), tmp_path)
    assert [name for name, there in found.items() if not there] == ["no.such"]
