"""The main job, end to end: sshd, Nix, tmpfs and ssh-keygen are real; only systemctl is a recorder."""

import json
from pathlib import Path

from bento.demo.systems import SWITCH_HOOK, Behaviour, System, write_flake
from rig.world import PROGRAMS, World, said


def test_a_secret_and_a_configuration_reach_a_flake_host_and_the_admin_sees_it(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "db/password", stdin=b"hunter2")
    world.bento("deploy")
    assert world.status(web)["state"] == "new machine"

    web.run()

    seen = world.status(web)
    assert seen["state"] == "up to date"
    assert seen["secrets"] == {"installed": 1, "expected": 1}
    assert web.secret("db/password") == b"hunter2"
    assert web.root.running() == seen["published"]["system"] == web.root.profile() == web.root.boot_default()
    assert web.root.switches()[-2:] == [("test", web.root.running()), ("boot", web.root.running())]


def test_a_channel_host_builds_with_its_own_nixpkgs_and_is_known_by_its_serial(world: World) -> None:
    old = world.add("old", kind="channel", system=System("from a channel"))
    world.bento("deploy")
    old.run()
    seen = world.status(old)
    assert seen["published"]["system"] is None
    assert seen["state"] == "up to date"
    assert old.root.path(f"{old.root.running()}/etc/message").read_text().strip() == "from a channel"


def test_hosts_of_one_flake_share_its_folder_and_its_object(world: World) -> None:
    one, two = world.add("one"), world.add("two")
    write_flake(world.fleet / "hosts/both", {one.name: System("first"), two.name: System("second")})
    text = (world.fleet / "bento.toml").read_text()
    for machine in (one, two):
        text = text.replace(f"[hosts.{machine.name}]\n", f'[hosts.{machine.name}]\nsource = "hosts/both"\n')
    (world.fleet / "bento.toml").write_text(text)
    world.bento("deploy")
    one.run()
    two.run()
    assert one.root.path(f"{one.root.running()}/etc/message").read_text() == "first\n"
    assert two.root.path(f"{two.root.running()}/etc/message").read_text() == "second\n"
    digest = json.loads(world.manifest(one).read_bytes().split(b"\n")[0])["config"]["digest"]
    objects = [world.manifest(machine).parent / "objects" / digest for machine in (one, two)]
    assert objects[0].stat().st_ino == objects[1].stat().st_ino


def test_a_second_deploy_with_nothing_changed_writes_and_builds_nothing(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"1")
    world.bento("deploy")
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in everything(world.sshd.publish)}
    store = sorted(path.name for path in world.admin.path("/nix/store").iterdir())

    again = json.loads(world.bento("deploy", "--json"))

    assert again["built"] == 0
    assert again["published"][web.name]["changed"] is None
    after = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in everything(world.sshd.publish)}
    assert after == before
    assert sorted(path.name for path in world.admin.path("/nix/store").iterdir()) == store


def everything(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_replaced_secret_is_installed_without_a_rebuild_and_restarts_exactly_its_units(world: World) -> None:
    web = world.add("web")
    for name, unit in (("token", "app.service"), ("other", "other.service")):
        world.bento("secret", "add", web.name, "-", "--name", name, "--restart", unit, stdin=b"old")
    world.bento("deploy")
    web.run()
    assert web.restarts() == []  # a first install restarts nothing
    switches = web.root.switches()

    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"new")
    world.bento("deploy")
    assert world.status(web)["state"] == "sync pending"
    assert "without a rebuild" in web.run()

    assert web.secret("token") == b"new"
    assert web.root.switches() == switches
    assert web.restarts() == ["try-restart -- app.service"]
    assert world.status(web)["state"] == "up to date"


def test_a_changed_configuration_switches_and_a_second_run_has_nothing_to_do(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    first = web.root.running()
    web.write(System("changed"))
    world.bento("deploy")
    assert world.status(web)["state"] == "rebuild pending"
    web.run()
    assert web.root.running() != first
    assert "nothing new" in web.run()
    assert world.status(web)["state"] == "up to date"


def test_a_host_whose_build_fails_is_named_and_not_published_and_the_others_go_on(world: World) -> None:
    good, bad = world.add("good"), world.add("bad", system=System(build_fails=True))
    done = world.try_bento("deploy")
    assert done.returncode == 3, said(done)
    assert f"{bad.name}: the build failed" in said(done)
    assert world.status(good)["state"] == "new machine"
    assert world.status(bad)["state"] == "not published"
    assert not world.manifest(bad).exists()


def test_builds_are_kept_from_garbage_collection_on_both_sides(world: World) -> None:
    web = world.add("web")
    built = world.bento("build").split()[1]
    world.bento("deploy")
    web.run()
    for root in (world.admin, web.root):
        root.run(["nix-collect-garbage"], check=True)
        assert root.path(built).is_dir()


def test_dry_build_tells_the_path_that_a_build_gives_without_building_it(world: World) -> None:
    world.add("web")
    world.add("old", kind="channel")
    expected = world.bento("build", "dry-build")
    for line in expected.splitlines():
        assert not world.admin.path(line.split()[1]).exists()
    assert world.bento("build") == expected


def test_the_agent_says_when_it_is_in_order_again_after_its_tmpfs_was_lost(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"1")
    world.bento("deploy")
    web.run()
    web.root.reboot()
    assert web.secret("token") is None
    web.run()
    assert web.secret("token") == b"1"


def test_secrets_are_installed_offline_for_the_system_that_boots(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"first")
    world.bento("deploy")
    web.run()
    old = web.root.running()
    assert old is not None
    web.write(System("second"))
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"second")
    world.bento("deploy")
    web.run()
    world.sshd.stop()
    web.root.reboot()
    assert web.agent("install-secrets").returncode == 0
    assert web.secret("token") == b"second"
    # a person boots the older entry
    assert web.agent("install-secrets", "--system", old).returncode == 0
    assert web.secret("token") == b"first"
    # an unknown path gets the committed release
    assert web.agent("install-secrets", "--system", "/nix/store/nothing").returncode == 0
    assert web.secret("token") == b"second"


def test_a_tags_secret_reaches_each_of_its_hosts_and_no_other(world: World) -> None:
    one, two, three = world.add("one", tags=("dc",)), world.add("two", tags=("dc",)), world.add("three")
    world.bento("secret", "add", "@dc", "-", "--name", "shared", stdin=b"for the dc")
    world.bento("deploy")
    for machine in (one, two, three):
        machine.run()
    assert [machine.secret("shared") for machine in (one, two, three)] == [b"for the dc", b"for the dc", None]


def test_owner_group_mode_and_link_are_as_declared(world: World) -> None:
    web = world.add("web")
    link = web.folder / "link"
    world.bento(
        *("secret", "add", web.name, "-", "--name", "tls/site.key", "--owner", web.name, "--group", web.name),
        *("--mode", "0440", "--path", str(link)),
        stdin=b"key",
    )
    world.bento("deploy")
    web.run()
    secret = "/run/bento/secrets/tls/site.key"
    shown = web.root.text(["stat", "-L", "-c", "%U:%G %a", secret])
    assert shown == f"{web.name}:{web.name} 440"
    assert str(link.readlink()) == secret
    reader = web.root.run(["setpriv", f"--reuid={web.name}", f"--regid={web.name}", "--clear-groups", "cat", secret])
    assert reader.stdout == b"key", reader.stderr


def test_a_release_for_the_next_boot_changes_nothing_that_runs(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"old")
    world.bento("deploy")
    web.run()
    running = web.root.running()
    web.write(System("needs a reboot", Behaviour.REBOOT))
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"new")
    world.bento("deploy")
    web.run()
    assert world.status(web)["state"] == "reboot needed"
    assert (web.root.running(), web.secret("token")) == (running, b"old")
    assert web.root.boot_default() == world.status(web)["published"]["system"]
    assert "nothing new" in web.run()
    assert web.secret("token") == b"old"
    web.root.reboot()
    assert web.agent("install-secrets").returncode == 0
    assert web.secret("token") == b"new"
    assert web.root.running() == world.status(web)["published"]["system"]
    assert "nothing new" in web.run()  # its heartbeat tells what runs now
    assert world.status(web)["state"] == "up to date"


def test_a_unit_that_failed_in_the_switch_is_degraded_not_a_failure(world: World) -> None:
    web = world.add("web", system=System(behaviour=Behaviour.UNITS_FAILED))
    world.bento("deploy")
    web.run(code=4)
    assert world.status(web)["state"] == "degraded"


def test_units_that_could_not_be_restarted_are_named_and_the_outcome_is_degraded(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", "--restart", "app.service", stdin=b"old")
    world.bento("deploy")
    web.run()
    (web.folder / "systemctl").unlink()
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"new")
    world.bento("deploy")
    assert "not restarted: app.service" in web.run(code=4)
    assert web.secret("token") == b"new"


def test_an_older_system_booted_or_switched_by_hand_is_seen_as_drift(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    web.run()
    old = web.root.running()
    web.write(System("new"))
    world.bento("deploy")
    web.run()
    web.root.run([f"{old}/bin/switch-to-configuration", "test"], check=True)
    web.run()
    assert world.status(web)["state"] == "drifted"


def test_a_system_with_its_own_hook_flips_the_secrets_itself(world: World) -> None:
    web = world.add("web", system=System(behaviour=Behaviour.HOOK))
    hook = web.root.path(SWITCH_HOOK)
    hook.parent.mkdir(parents=True, exist_ok=True)
    hook.write_text(f'exec {PROGRAMS}/bento-agent --config {web.config} install-secrets --system "$1"\n')
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"by the hook")
    world.bento("deploy")
    web.run()
    assert web.secret("token") == b"by the hook"
    hook.write_text("exit 0\n")
    web.write(System("a hook that forgets", Behaviour.HOOK))
    world.bento("secret", "add", web.name, "-", "--name", "token", "--replace", stdin=b"new")
    world.bento("deploy")
    assert "didn't make the release's secrets live" in web.run(code=5)
