"""Which hosts may update inputs by themselves: what is said where one never could."""

import json
from pathlib import Path

import pytest
from unit.samples import public

from bento.admin.build import collect_trees
from bento.admin.check_fleet import check_sources
from bento.admin.check_found import Finding
from bento.admin.inventory import load_fleet
from bento.errors import BentoError, InputError
from bento.names import HostName

WEB, DB = HostName("web"), HostName("db")


def flake(folder: Path, *inputs: str) -> None:
    (folder / "configuration.nix").unlink(missing_ok=True)
    (folder / "flake.nix").write_text("{ outputs = { self }: { }; }\n")
    nodes = {"root": {"inputs": {name: name for name in inputs}}, **{name: {"locked": {}} for name in inputs}}
    (folder / "flake.lock").write_text(json.dumps({"nodes": nodes, "root": "root", "version": 7}))


def set_up(root: Path, *lines: str, host: str = "web") -> None:
    toml = root / "bento.toml"
    head = f"[hosts.{host}]\n"
    assert head in toml.read_text()
    toml.write_text(toml.read_text().replace(head, head + "".join(f"{line}\n" for line in lines)))


def wrong(root: Path) -> dict[HostName, BentoError]:
    fleet = load_fleet(root)
    return dict(collect_trees(fleet.hosts.values(), fleet)[1])


def test_the_inputs_of_a_host_or_of_all_are_signed_with_its_release(fleet_root: Path) -> None:
    assert load_fleet(fleet_root).hosts[WEB].settings.self_update == ()
    set_up(fleet_root, 'self_update = ["nixpkgs", "home-manager"]')
    settings = load_fleet(fleet_root).hosts[WEB].settings
    assert settings.self_update == ("nixpkgs", "home-manager")
    assert load_fleet(fleet_root).hosts[DB].settings.self_update == ()


@pytest.mark.parametrize("name", ["--impure", "", "a b", "a/b", "-", "nix\\npkgs"])
def test_what_nix_could_take_for_something_else_is_no_input(fleet_root: Path, name: str) -> None:
    set_up(fleet_root, f'self_update = ["{name}"]')
    with pytest.raises(InputError, match=r"bento.toml:[0-9]+: 'hosts.web.self_update.0' is wrong"):
        load_fleet(fleet_root)


def test_a_host_that_evaluates_nothing_can_t_update_inputs(fleet_root: Path) -> None:
    set_up(fleet_root, 'self_update = ["nixpkgs"]', 'evaluate = "server"')
    with pytest.raises(InputError, match=r"bento.toml:[0-9]+: web can't update inputs by itself") as refused:
        load_fleet(fleet_root)
    assert "self_update = []" in refused.value.hints[0]


def test_a_host_that_has_no_flake_or_not_such_an_input_fails_alone(fleet_root: Path) -> None:
    flake(fleet_root / "hosts/web", "nixpkgs")
    set_up(fleet_root, 'self_update = ["nixpkgs"]')
    assert wrong(fleet_root) == {}

    set_up(fleet_root, 'self_update = ["nixpkgs"]', host="db")
    found = wrong(fleet_root)
    assert list(found) == [DB]
    assert found[DB].message == "db can't update inputs by itself: its configuration is no flake"

    flake(fleet_root / "hosts/db", "nixpkg", "home")
    found = wrong(fleet_root)
    assert list(found) == [DB]
    assert found[DB].message == "db is to update 'nixpkgs' by itself, but its flake has no such input"
    assert found[DB].hints == ("did you mean nixpkg?",)
    (fleet_root / "hosts/db/flake.lock").unlink()
    assert wrong(fleet_root)[DB].hints == ("it has: none",)


def test_of_two_hosts_of_one_flake_only_the_one_that_is_wrong_fails_and_check_names_it(fleet_root: Path) -> None:
    flake(fleet_root / "hosts/web", "nixpkgs")
    toml = fleet_root / "bento.toml"
    keys = f'keys = ["{public(30).line}"]'
    toml.write_text(f'{toml.read_text()}[hosts.also]\n{keys}\nsource = "hosts/web"\nself_update = ["gone"]\n')
    fleet = load_fleet(fleet_root)
    trees, failed = collect_trees(fleet.hosts.values(), fleet)
    assert (list(failed), fleet.hosts[WEB].source in trees) == (["also"], True)
    found = [one for one in check_sources(fleet, fleet.hosts.values()) if isinstance(one, Finding)]
    assert [(one.severity, one.hosts) for one in found] == [("error", ("also",))]
