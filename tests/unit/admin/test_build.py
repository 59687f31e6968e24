"""How many hosts are built at once, what is built anew, and what a switch of this machine asks first."""

import os
import threading
import time
from pathlib import Path

import pytest
from unit.samples import SYSTEM

from bento.adapters import evaluation, nix
from bento.admin import build, local_switch
from bento.admin.build import Built, How
from bento.admin.inventory import Fleet, load_fleet
from bento.admin.local_switch import agreed
from bento.admin.progress import State
from bento.admin.workspace import Workspace
from bento.errors import EnvironmentFailed, InputError
from bento.names import HostName

WEB, DB = HostName("web"), HostName("db")


class Nix:
    """Stands in for Nix: remembers what it was asked for, and how many builds ran at once at most."""

    def __init__(self, wait_for: int) -> None:
        self.asked: list[str] = []
        self.at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        self._all_in = threading.Barrier(wait_for)

    def alone(self, source: nix.BuildInput, _on_line: object) -> tuple[nix.Derivation, int]:
        self.asked.append(source.tree.name)
        return nix.Derivation(f"{SYSTEM}.drv", SYSTEM), 1

    def build(self, _derivation: nix.Derivation, _source: nix.BuildInput, _root: Path, _on_line: object) -> str:
        with self._lock:
            self._now += 1
            self.at_once = max(self.at_once, self._now)
        self._all_in.wait(60)
        time.sleep(0.1)  # one too many would come in now
        with self._lock:
            self._now -= 1
        return SYSTEM


@pytest.fixture
def fleet(fleet_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (fleet_root / "hosts/db/configuration.nix").write_text("{ other = 1; }\n")
    return load_fleet(fleet_root)


def use(monkeypatch: pytest.MonkeyPatch, fake: Nix) -> None:
    monkeypatch.setattr(nix, "version", lambda: "nix 2.8")
    monkeypatch.setattr(nix, "channel_path", lambda: "/nixpkgs")
    monkeypatch.setattr(evaluation, "alone", fake.alone)
    monkeypatch.setattr(nix, "build_derivation", fake.build)


def packed(fleet: Fleet, workspace: Workspace) -> tuple[build.Packed, ...]:
    hosts = list(fleet.hosts.values())
    return build.pack_hosts(hosts, build.collect_trees(hosts, fleet)[0], workspace)


def quietly(host: HostName, what: str, state: State = "done") -> None:
    pass


@pytest.mark.parametrize("jobs", [1, 2])
def test_so_many_hosts_are_built_at_once_as_jobs_says(fleet: Fleet, monkeypatch: pytest.MonkeyPatch, jobs: int) -> None:
    fake = Nix(wait_for=jobs)
    use(monkeypatch, fake)
    workspace = Workspace(fleet.root)
    with workspace.locked():
        built, failed = build.build_hosts(packed(fleet, workspace), fleet, workspace, quietly, How(jobs))
    assert not failed
    assert [one.packed.host.name for one in built] == [WEB, DB]
    assert fake.at_once == jobs


def test_a_dry_build_fleet_evaluates_once_and_again_only_when_told_or_changed(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (fleet.root / "bento.toml").read_text()
    (fleet.root / "bento.toml").write_text(text + '[build]\nmode = "dry-build"\n')
    fleet = load_fleet(fleet.root)
    fake = Nix(wait_for=1)
    use(monkeypatch, fake)
    workspace = Workspace(fleet.root)

    def systems(how: How) -> tuple[Built, ...]:
        with workspace.locked():
            built, failed = build.systems_to_publish(packed(fleet, workspace), fleet, workspace, quietly, how)
        assert not failed
        return built

    assert [(one.system, one.fresh) for one in systems(How())] == [(SYSTEM, False)] * 2
    assert len(fake.asked) == 2
    systems(How())
    assert len(fake.asked) == 2
    (fleet.root / "hosts/db/configuration.nix").write_text("{ other = 2; }\n")
    systems(How())
    assert len(fake.asked) == 3
    systems(How(anew=True))
    assert len(fake.asked) == 5


def nobody(prompt: str) -> str:
    return ""


@pytest.fixture
def as_anyone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.mark.usefixtures("as_anyone")
def test_this_machine_is_switched_only_if_the_host_s_name_is_typed_or_given() -> None:
    asked: list[str] = []

    def person(prompt: str) -> str:
        asked.append(prompt)
        return "web"

    assert agreed("switch", (WEB,), None, person) == WEB
    assert "web" in asked[0]
    assert agreed("test", (WEB,), "web", nobody) == WEB
    for wrong in ("", "y", "yes", "we", "db"):
        with pytest.raises(InputError, match="this machine stays as it is"):
            agreed("switch", (WEB,), wrong, person)
    with pytest.raises(InputError, match="this machine stays as it is"):
        agreed("switch", (WEB,), None, nobody)
    assert len(asked) == 1


@pytest.mark.usefixtures("as_anyone")
@pytest.mark.parametrize("chosen", [(), (WEB, DB)])
def test_a_switch_of_this_machine_needs_exactly_one_host(chosen: tuple[HostName, ...]) -> None:
    with pytest.raises(InputError, match="exactly one host"):
        agreed("switch", chosen, "web", nobody)


def test_only_root_is_asked_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(EnvironmentFailed, match="only root"):
        agreed("switch", (WEB,), "web", nobody)


def test_what_is_no_nixos_system_is_not_switched_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[object] = []
    monkeypatch.setattr(nix, "set_profile", lambda *args: called.append(args))
    with pytest.raises(local_switch.WorkFailed, match="no nixos-version"):
        local_switch.make_current(SYSTEM, "switch", print)
    assert called == []
