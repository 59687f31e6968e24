"""What a host makes of its secrets: owners, changes, links, templates, phases, and that it is all or nothing."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from bento.demo.systems import Behaviour, System
from rig import make_ssh_key
from rig.releases import add, declare, edit, exists, for_users, hook, shown, take, template
from rig.users import user_exists
from rig.world import Machine, World, said


@pytest.fixture
def web(world: World) -> Machine:
    return world.add("web")


# Changes


def test_exactly_the_units_of_what_changed_restart_or_reload(world: World, web: Machine) -> None:
    for name, option, unit in (
        ("content", "--restart", "a.service"),
        ("mode", "--reload", "b.service"),
        ("owner", "--restart", "c.service"),
        ("none", "--restart", "d.service"),
        ("sealed-anew", "--restart", "e.service"),
    ):
        add(world, web, name, b"old", option, unit)
    take(world, web)
    assert web.restarts() == []

    add(world, web, "content", b"new", "--replace")
    add(world, web, "mode", b"old", "--replace", "--mode", "0440")
    add(world, web, "owner", b"old", "--replace", "--owner", "nobody")
    add(world, web, "sealed-anew", b"old", "--replace")  # other ciphertext, the same content
    add(world, web, "added", b"new", "--restart", "f.service")
    take(world, web)

    assert web.restarts() == ["try-restart -- f.service a.service c.service", "try-reload-or-restart -- b.service"]
    assert shown(web, "/run/bento/secrets/mode") == "root:root 440"
    assert shown(web, "/run/bento/secrets/owner") == "nobody:root 400"


def test_owner_and_group_by_number_and_a_removed_secret_vanishes(world: World, web: Machine) -> None:
    add(world, web, "tls/a/site.key", b"key", "--owner", "65534", "--group", "4321", "--mode", "0440")
    add(world, web, "gone", b"x", "--restart", "a.service")
    take(world, web)
    assert web.root.text(["stat", "-L", "-c", "%u:%g %a", "/run/bento/secrets/tls/a/site.key"]) == "65534:4321 440"
    toml = world.fleet / "secrets/secrets.toml"
    tables = toml.read_text().split("[[secret]]\n")
    toml.write_text("[[secret]]\n".join(table for table in tables if 'name = "gone"' not in table))
    take(world, web)
    assert web.secret("gone") is None
    assert web.secret("tls/a/site.key") == b"key"
    assert web.restarts() == []
    found = web.root.run(["grep", "-rl", "x", "/run/bento"]).stdout
    assert found == b""


# All or nothing


def test_a_full_tmpfs_installs_none_keeps_the_old_and_the_report_names_which(world: World, web: Machine) -> None:
    web.root.run(["mkdir", "/run/bento"], check=True)
    options = "size=128k,mode=751,nosuid,nodev,noexec,noswap"
    web.root.run(["mount", "-t", "tmpfs", "-o", options, "bento", "/run/bento"], check=True)
    add(world, web, "a", b"old")
    take(world, web)
    add(world, web, "a", b"new", "--replace")
    add(world, web, "large", bytes(200 * 1024))
    take(world, web, 1)
    assert web.secret("a") == b"old"
    assert web.secret("large") is None
    report = world.report(web)
    assert report["outcome"] == "failed"
    assert "can't write the secret large of release" in report["reason"]
    assert "/run/bento is full" in report["reason"]
    assert [(one["name"], one["state"]) for one in report["secrets"]] == [("a", "kept"), ("large", "failed")]
    assert web.root.run(["ls", "/run/bento/generations"]).stdout.count(b"\n") == 1


def test_one_secret_that_does_not_open_installs_none_and_the_report_names_who_tried(world: World, web: Machine) -> None:
    add(world, web, "a", b"old")
    take(world, web)
    other = make_ssh_key(web.folder / "other")
    wanted = world.bento("host", "show", web.name)
    add(world, web, "a", b"new", "--replace")
    text = web.config.read_text()
    web.config.write_text(text.replace(f'["{web.folder}/key"]', f'["{web.folder}/other", "{web.folder}/lost"]'))
    world.sshd.add_host(web.name, [other.line], folders=False)
    said = take(world, web, 1)
    recipient = next(word for word in wanted.split() if word.startswith("age1"))
    assert "can't open the secret a of release" in said
    assert f"it is sealed to {recipient}, tried were age1" in said
    assert f"({web.folder}/other)" in said
    assert f"{web.folder}/lost can't be read" in said
    assert "AGE-SECRET-KEY" not in said
    assert (web.folder / "other").read_text().split("\n")[1] not in said
    assert web.secret("a") == b"old"
    # with the right one beside it, it opens: so a host key can rotate
    web.config.write_text(web.config.read_text().replace(f"{web.folder}/lost", f"{web.folder}/key"))
    web.run()
    assert web.secret("a") == b"new"


# Users that come with the system


@pytest.fixture
def newcomer(web: Machine) -> Iterator[str]:
    """A user that no system has yet."""
    name = f"{web.name}n"[-31:]
    yield name
    if user_exists(name):
        subprocess.run(["userdel", name], check=True)


def test_a_secret_is_roots_until_its_user_is_there(world: World, web: Machine, newcomer: str) -> None:
    look = f"stat -L -c '%U %a' /run/bento/secrets/token >>{web.folder}/seen"
    web.write(System(behaviour=Behaviour.HOOK))
    hook(web, "set -e", f"install || [ $? = 4 ]; {look}", f"/usr/sbin/useradd -M {newcomer}", f"install; {look}")
    add(world, web, "token", b"x", "--owner", newcomer, "--mode", "0600")
    take(world, web)
    assert (web.folder / "seen").read_text() == f"root 400\n{newcomer} 600\n"


def test_a_user_who_never_comes_fails_the_run_which_names_him_and_his_secret(world: World, web: Machine) -> None:
    add(world, web, "token", b"old")
    take(world, web)
    before = web.root.running(), web.root.boot_default()
    web.write(System("new"))
    add(world, web, "db/password", b"x", "--owner", "app", "--group", "nosuch")
    add(world, web, "token", b"new", "--replace")
    said = take(world, web, 5)
    assert "this host lacks the user app and the group nosuch of the secret db/password" in said
    assert world.report(web)["outcome"] == "rolled-back"
    assert (web.root.running(), web.root.boot_default()) == before
    assert web.secret("token") == b"old"
    assert web.secret("db/password") is None


# Links


def test_links_come_and_go_with_releases_and_with_reboots(world: World, web: Machine) -> None:
    place = web.folder / "etc"
    add(world, web, "token", b"x", "--path", str(place / "b"))
    take(world, web)
    assert str((place / "b").readlink()) == "/run/bento/secrets/token"
    edit(world, f'path = "{place}/b"', f'path = "{place}/b/c"')
    take(world, web)
    assert str((place / "b/c").readlink()) == "/run/bento/secrets/token"
    # the next release takes effect at a boot, when no tmpfs remembers the links of the one before
    web.write(System("needs a reboot", Behaviour.REBOOT))
    edit(world, f'path = "{place}/b/c"', f'path = "{place}/other"')
    take(world, web)
    assert (place / "b/c").is_symlink()
    web.root.reboot()
    assert web.agent("install-secrets").returncode == 0
    assert not (place / "b/c").is_symlink()
    assert str((place / "other").readlink()) == "/run/bento/secrets/token"


def test_somebodys_file_in_a_links_place_fails_the_run_and_stays(world: World, web: Machine) -> None:
    add(world, web, "token", b"old")
    take(world, web)
    theirs = web.folder / "theirs"
    theirs.write_text("mine")
    add(world, web, "token", b"new", "--replace", "--path", str(theirs))
    assert f"{theirs} is there already" in take(world, web, 1)
    assert theirs.read_text() == "mine"
    assert web.secret("token") == b"old"


# Templates


def test_a_template_is_rendered_with_owner_and_mode_and_follows_its_secrets(world: World, web: Machine) -> None:
    add(world, web, "db/password", b"hunter2\n", "--restart", "db.service")
    lines = ('owner = "nobody"', 'mode = "0440"', 'restart = ["app.service"]', f'path = "{web.folder}/app.env"')
    declare(world, template(web, "app.env", 'DB=postgres://app:{{ secret "db/password" }}@db/\n', *lines))
    take(world, web)
    assert web.secret("app.env") == b"DB=postgres://app:hunter2@db/\n"
    assert shown(web, "/run/bento/secrets/app.env") == "nobody:root 440"
    assert str((web.folder / "app.env").readlink()) == "/run/bento/secrets/app.env"
    assert web.restarts() == []

    add(world, web, "db/password", b"hunter3\n", "--replace")
    assert "without a rebuild" in take(world, web)
    assert web.secret("app.env") == b"DB=postgres://app:hunter3@db/\n"
    assert web.restarts() == ["try-restart -- db.service app.service"]

    edit(world, "@db/", "@other/")
    assert "without a rebuild" in take(world, web)
    assert web.secret("app.env") == b"DB=postgres://app:hunter3@other/\n"
    assert web.restarts()[1:] == ["try-restart -- app.service"]
    assert "unchanged" in said(world.try_bento("deploy"))
    # nothing of it in a Nix store or in what is published: only the text
    for folder in (world.admin.on_disk("/nix"), web.root.on_disk("/nix"), world.sshd.publish, web.state):
        assert subprocess.run(["grep", "-rqs", "hunter3", str(folder)], check=False).returncode == 1


def test_a_templates_text_may_be_a_file_of_the_fleet_but_no_link_out_of_it(world: World, web: Machine) -> None:
    add(world, web, "a", b"1")
    (world.fleet / "templates").mkdir()
    file = world.fleet / "templates/app.conf"
    file.write_text('a = {{ secret "a" }}\n')
    declare(world, f'[[template]]\ntarget = "{web.name}"\nname = "app.conf"\nfile = "templates/app.conf"\n')
    take(world, web)
    assert web.secret("app.conf") == b"a = 1\n"
    file.write_text('a\n{{ secret "a" | upper }}\n')
    assert "templates/app.conf, line 2: " in said(world.try_bento("deploy"))
    file.unlink()
    file.symlink_to("/etc/hostname")
    assert "not a symlink" in said(world.try_bento("deploy"))
    file.unlink()
    assert "has no file templates/app.conf" in said(world.try_bento("deploy"))


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("app.env", '{{ secret "b" }}', "names the secret b, which the host doesn't have"),
        ("app.env", "x\n{{ if }}", "the template app.env, line 2"),
        ("a", "", "can't share the name a"),
        ("A", "", "can't share the name a"),
        ("a/b", "", "can't share the name a/b"),
    ],
)
def test_a_template_that_is_wrong_fails_its_host_at_deploy(
    world: World, web: Machine, name: str, text: str, why: str
) -> None:
    other = world.add("other")
    add(world, web, "a", b"1")
    declare(world, template(web, name, text))
    done = world.try_bento("deploy")
    assert done.returncode == 3, said(done)
    assert why in said(done)
    assert world.status(web)["state"] == "not published"
    assert world.status(other)["state"] == "new machine"


# Secrets that must be there before users are


def test_a_secret_for_users_is_roots_apart_from_the_others_and_activates_anew(world: World, web: Machine) -> None:
    for_users(world, web, "root-hash", b"$y$old")
    add(world, web, "token", b"x")
    take(world, web)
    place = "/run/bento/secrets-for-users/root-hash"
    assert shown(web, place) == "root:root 400"
    assert web.secret("root-hash") is None
    assert web.secret("token") == b"x"
    switches = web.root.switches()

    # only activation gives a user his password: the same system is activated once more
    add(world, web, "root-hash", b"$y$new", "--replace")
    take(world, web)
    assert web.root.run(["cat", place]).stdout == b"$y$new"
    assert web.root.switches() == [*switches, ("test", web.root.running())]
    # another secret is no reason to
    add(world, web, "token", b"y", "--replace")
    take(world, web)
    assert len(web.root.switches()) == len(switches) + 1

    edit(world, "users = true\n", "")
    take(world, web)
    assert web.secret("root-hash") == b"$y$new"
    assert not exists(web, "/run/bento/secrets-for-users")


def test_secrets_for_users_come_back_with_a_rollback(world: World, web: Machine) -> None:
    for_users(world, web, "root-hash", b"$y$old")
    take(world, web)
    add(world, web, "root-hash", b"$y$new", "--replace")
    add(world, web, "token", b"x", "--owner", "nosuch")
    take(world, web, 5)
    assert web.root.run(["cat", "/run/bento/secrets-for-users/root-hash"]).stdout == b"$y$old"
    assert [action for action, _ in web.root.switches()[-2:]] == ["test", "test"]  # there, and back


def test_at_boot_the_first_phase_opens_only_what_users_need(world: World, web: Machine) -> None:
    for_users(world, web, "root-hash", b"$y$hash")
    add(world, web, "token", b"x")
    take(world, web)
    old = web.root.running()
    web.write(System("second"))
    add(world, web, "root-hash", b"$y$second", "--replace")
    take(world, web)
    world.sshd.stop()
    web.root.reboot()
    place = "/run/bento/secrets-for-users/root-hash"
    assert web.agent("install-secrets", "--for-users").returncode == 0
    assert web.root.run(["cat", place]).stdout == b"$y$second"
    assert not exists(web, "/run/bento/secrets")
    # one that is damaged elsewhere locks nobody out
    manifest = max((web.state / "manifests").iterdir())
    digest = manifest.read_text().split('"name":"token"')[0].rsplit('"digest":"', 1)[1][:64]
    (web.state / "objects" / digest).write_bytes(b"damaged")
    web.root.reboot()
    assert web.agent("install-secrets").returncode == 1
    assert web.agent("install-secrets", "--for-users").returncode == 0
    assert web.root.run(["cat", place]).stdout == b"$y$second"
    # and an older entry brings its own
    assert old is not None
    assert web.agent("install-secrets", "--for-users", "--system", old).returncode == 0
    assert web.root.run(["cat", place]).stdout == b"$y$hash"


def test_a_hook_installs_in_two_phases(world: World, web: Machine, newcomer: str) -> None:
    web.write(System(behaviour=Behaviour.HOOK))
    hook(
        web,
        "set -e",
        "install --for-users",
        f'/usr/sbin/useradd -M -p "$(cat /run/bento/secrets-for-users/hash)" {newcomer}',
        "install",
    )
    for_users(world, web, "hash", b"$y$the-hash")
    add(world, web, "token", b"x", "--owner", newcomer)
    take(world, web)
    assert shown(web, "/run/bento/secrets/token") == f"{newcomer}:root 400"
    assert subprocess.run(["getent", "shadow", newcomer], capture_output=True, check=True).stdout.split(b":")[1] == (
        b"$y$the-hash"
    )


@pytest.mark.parametrize("line", ['owner = "nobody"', 'mode = "0440"', 'path = "/etc/x/hash"'])
def test_a_secret_for_users_that_is_not_roots_alone_fails_its_host_at_deploy(
    world: World, web: Machine, line: str
) -> None:
    for_users(world, web, "hash", b"x")
    edit(world, "users = true\n", f"users = true\n{line}\n")
    done = world.try_bento("deploy")
    assert done.returncode == 1, said(done)
    assert "the secret hash is needed before there are users" in said(done)
    assert not Path(world.manifest(web)).exists()
