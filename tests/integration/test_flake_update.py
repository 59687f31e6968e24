"""`bento flake-update` with real Nix, on flakes whose inputs are folders. `make nixes` does it with newer ones."""

import json
from pathlib import Path
from typing import Any

import pytest

from bento.demo.systems import System, flake
from rig.world import Machine, World, said


class Inputs:
    """The folders that flakes take as inputs, and commands on the fleet."""

    def __init__(self, world: World) -> None:
        self.world = world
        for name in ("a", "b"):
            self.write(name, "1")

    def folder(self, name: str) -> Path:
        return self.world.folder / f"input-{name}"

    def write(self, name: str, version: str) -> None:
        self.folder(name).mkdir(exist_ok=True)
        (self.folder(name) / "flake.nix").write_text(f'{{ outputs = {{ self }}: {{ v = "{version}"; }}; }}\n')

    def use(self, machine: Machine, *names: str) -> Path:
        """Give the machine's flake these inputs, and lock them; where its lock file lies."""
        text = flake({machine.name: System()}).replace("{ self }", f"{{ {', '.join(('self', *names))} }}")
        lines = "".join(f'  inputs.{name}.url = "path:{self.folder(name)}";\n' for name in names)
        (machine.source / "flake.nix").write_text(text.replace("{\n", f"{{\n{lines}", 1))
        self.world.admin.run(["nix", "flake", "lock", f"path:{machine.source}"], check=True)
        return machine.source / "flake.lock"

    def update(self, *words: str, code: int = 0) -> list[dict[str, Any]]:
        done = self.world.try_bento("flake-update", "--json", *words)
        assert done.returncode == code, said(done)
        flakes: list[dict[str, Any]] = json.loads(done.stdout)["flakes"]
        return flakes


@pytest.fixture
def given(world: World) -> Inputs:
    return Inputs(world)


def moved(flakes: list[dict[str, Any]]) -> list[list[str]]:
    return [[one["input"] for one in each["moved"]] for each in flakes]


def test_what_moved_is_shown_and_locked_and_can_be_deployed(given: Inputs) -> None:
    web = given.world.add("web")
    lock = given.use(web, "a", "b")
    before = json.loads(lock.read_text())["nodes"]["a"]["locked"]["narHash"]
    given.write("a", "2")

    (found,) = given.update()

    after = json.loads(lock.read_text())["nodes"]["a"]["locked"]["narHash"]
    assert after != before
    assert found["hosts"] == [web.name]
    assert [one["input"] for one in found["moved"]] == ["a"]
    assert found["moved"][0]["before"].startswith(before[:15])
    assert found["moved"][0]["after"].startswith(after[:15])
    assert moved(given.update()) == [[]]
    assert given.world.try_bento("build").returncode == 0


def test_only_the_named_input_moves(given: Inputs) -> None:
    lock = given.use(given.world.add("web"), "a", "b")
    before = json.loads(lock.read_text())["nodes"]
    given.write("a", "2")
    given.write("b", "2")
    assert moved(given.update("b")) == [["b"]]
    after = json.loads(lock.read_text())["nodes"]
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]


def test_a_dry_run_says_what_would_move_and_moves_nothing(given: Inputs) -> None:
    lock = given.use(given.world.add("web"), "a")
    before = lock.read_bytes()
    given.write("a", "2")
    assert moved(given.update("--dry-run")) == [["a"]]
    assert lock.read_bytes() == before
    assert moved(given.update()) == [["a"]]


def test_a_flake_that_fails_keeps_its_lock_file_and_the_others_go_on(given: Inputs) -> None:
    good, bad = given.world.add("good"), given.world.add("bad")
    given.use(good, "a")
    lock = given.use(bad, "a", "b")
    before = lock.read_bytes()
    given.write("a", "2")
    (given.folder("b") / "flake.nix").unlink()
    assert [one["hosts"] for one in given.update(code=3)] == [[good.name]]
    assert lock.read_bytes() == before


def test_a_nix_that_dies_over_the_lock_file_leaves_the_fleet_s_as_it_was(given: Inputs) -> None:
    lock = given.use(given.world.add("web"), "a")
    before = lock.read_bytes()
    programs = given.world.folder / "programs"
    programs.mkdir()
    # It writes half a lock file where it was told to work, and dies.
    (programs / "nix").write_text(
        """#!/bin/sh
for word; do case $word in path:*) echo '{"nodes"' >"${word#path:}/flake.lock"; kill -9 $$ ;; esac; done
exec "$REAL" "$@"
"""
    )
    (programs / "nix").chmod(0o755)
    real = given.world.admin.text(["which", "nix"])
    done = given.world.try_bento(
        "flake-update", env={"PATH": f"{programs}:{given.world.admin.env['PATH']}", "REAL": real}
    )
    assert done.returncode == 1, said(done)
    assert lock.read_bytes() == before
    assert sorted(path.name for path in lock.parent.iterdir()) == ["flake.lock", "flake.nix"]


def test_hosts_of_one_flake_have_it_updated_once_and_those_not_chosen_not_at_all(given: Inputs) -> None:
    world = given.world
    one, two, other = (world.add(word) for word in ("one", "two", "other"))
    given.use(one, "a")
    lock = given.use(other, "a")
    settings = world.fleet / "bento.toml"
    text = settings.read_text().replace(f"[hosts.{two.name}]\n", f'[hosts.{two.name}]\nsource = "hosts/{one.name}"\n')
    settings.write_text(text)
    before = lock.read_bytes()
    given.write("a", "2")
    (found,) = given.update("--on", f"{one.name},{two.name}")
    assert found["hosts"] == [one.name, two.name]
    assert lock.read_bytes() == before


def test_an_input_that_no_flake_has_is_refused_and_one_that_some_have_moves_there(given: Inputs) -> None:
    one, two = given.world.add("one"), given.world.add("two")
    given.use(one, "a")
    given.use(two, "b")
    done = given.world.try_bento("flake-update", "c")
    assert done.returncode == 2, said(done)
    assert "they have: a, b" in done.stderr.decode()
    given.write("b", "2")
    assert [one["hosts"] for one in given.update("b")] == [[two.name]]
