"""Secrets that a NixOS configuration declares: deploy fills the release from it, and the host holds both to it."""

import json
from typing import Any

import pytest

from bento.demo.systems import SWITCH_HOOK, Behaviour, System
from rig.world import PROGRAMS, Machine, World, said


@pytest.fixture
def web(world: World) -> Machine:
    web = world.add("web")
    hook = web.root.path(SWITCH_HOOK)
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(f'exec {PROGRAMS}/bento-agent --config {web.config} install-secrets --system "$1"\n')
    return web


def declare(web: Machine, *secrets: dict[str, Any], templates: tuple[dict[str, Any], ...] = ()) -> None:
    """A system that declares these, as nix/agent.nix renders them."""
    plain = {"owner": "root", "group": "root", "mode": "0400", "path": None, "restart": [], "reload": []}
    whole = {
        "format": 1,
        "secrets": [{**plain, "users": False, **one} for one in secrets],
        "templates": [{**plain, **one} for one in templates],
    }
    web.write(System(json.dumps(whole), Behaviour.HOOK, secrets=json.dumps(whole)))


def add(world: World, web: Machine, name: str, *options: str) -> None:
    world.bento("secret", "add", web.name, "-", "--name", name, *options, stdin=b"content")


def test_owner_mode_link_units_and_templates_come_from_the_configuration(world: World, web: Machine) -> None:
    link = str(web.folder / "etc/token")
    add(world, web, "token")
    declare(
        web,
        {"name": "token", "owner": "nobody", "mode": "0440", "path": link, "restart": ["app.service"]},
        templates=({"name": "app.env", "text": 'T={{ secret "token" }}\n', "owner": "nobody"},),
    )
    world.bento("deploy")
    web.run()
    assert web.root.text(["stat", "-L", "-c", "%U %a", link]) == "nobody 440"
    assert web.secret("app.env") == b"T=content\n"
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"new")
    world.bento("deploy")
    assert "without a rebuild" in web.run()
    assert web.restarts() == ["try-restart -- app.service"]
    assert "unchanged" in said(world.try_bento("deploy"))


def test_deploy_names_what_the_secret_store_lacks_and_publishes_nothing(world: World, web: Machine) -> None:
    add(world, web, "db/password")
    declare(web, {"name": "db/pasword"})
    done = world.try_bento("deploy")
    assert done.returncode == 1, said(done)
    assert f"the configuration of {web.name} declares the secret db/pasword, which the secret store lacks" in said(done)
    assert "did you mean db/password" in said(done)
    assert not world.manifest(web).exists()


def test_deploy_names_both_places_where_they_differ(world: World, web: Machine) -> None:
    add(world, web, "token", "--owner", "daemon")
    declare(web, {"name": "token", "owner": "nobody"})
    done = world.try_bento("deploy")
    assert done.returncode == 1, said(done)
    assert 'secrets/secrets.toml says owner = "daemon"' in said(done)
    assert 'bento.secrets."token".owner = "nobody"' in said(done)
    assert not world.manifest(web).exists()


def test_a_host_refuses_a_system_that_declares_what_its_release_does_not_bring(world: World, web: Machine) -> None:
    add(world, web, "token")
    declare(web, {"name": "token"})
    world.bento("deploy")
    web.run()
    before = web.root.running()
    # Only evaluated here, so that nobody but the host sees what the new system declares.
    toml = world.fleet / "bento.toml"
    toml.write_text(toml.read_text().replace('mode = "build"', 'mode = "dry-build"'))
    declare(web, {"name": "token", "owner": "nobody"})
    world.bento("deploy")
    assert "the system declares another owner for the secret token than the release brings" in web.run(6)
    assert world.report(web)["outcome"] == "refused"
    declare(web, {"name": "token"}, {"name": "more"})
    world.bento("deploy")
    assert "the system declares the secret more, which the release doesn't bring" in web.run(6)
    assert web.root.running() == before
    assert web.secret("token") == b"content"
