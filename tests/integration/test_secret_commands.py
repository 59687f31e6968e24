"""The secret commands end to end: an admin with an identity, hosts on a tag, a new host key, deploy and the agent."""

import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from rig import hits, make_ssh_key
from rig.world import PROGRAMS, Machine, World, said

SECRET = b"plain-7c1f0b9d2e64\n"


@pytest.fixture
def fleet(world: World) -> World:
    """web and db on @dc1; an admin recipient, whose identity bento.local.toml names."""
    for word in ("web", "db"):
        world.add(word, tags=("dc1",))
    identity = world.folder / "admin.txt"
    subprocess.run(["age-keygen", "-o", str(identity)], check=True, capture_output=True)
    recipient = subprocess.run(["age-keygen", "-y", str(identity)], check=True, capture_output=True, text=True).stdout
    main, local = world.fleet / "bento.toml", world.fleet / "bento.local.toml"
    main.write_text(admins(main.read_text(), [recipient.strip()]))
    local.write_text(f'{local.read_text() if local.exists() else ""}\n[secrets]\nidentities = ["{identity}"]\n')
    return world


def admins(toml: str, recipients: list[str]) -> str:
    lines = [line for line in toml.splitlines() if not line.startswith("admins =")]
    place = next((number for number, line in enumerate(lines) if line.strip() == "[secrets]"), None)
    said_ = f"admins = {json.dumps(recipients)}"
    if place is None:
        return "\n".join([*lines, "", "[secrets]", said_, ""])
    return "\n".join([*lines[: place + 1], said_, *lines[place + 1 :], ""])


def editor(world: World, script: str) -> dict[str, str]:
    """An editor that is a shell script; `$1` is the file."""
    path = world.folder / "editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"EDITOR": str(path), "VISUAL": ""}


def kinds(world: World, *arguments: str) -> list[tuple[str, list[str]]]:
    done = world.try_bento("secret", "check", "--json", *arguments)
    found = json.loads(done.stdout)
    assert done.returncode == (1 if found else 0), said(done)
    return [(one["kind"], one["hosts"]) for one in found]


def store_files(world: World) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (world.fleet / "secrets").rglob("*") if path.is_file()}


def machines(world: World) -> tuple[Machine, Machine]:
    return world.machines["web"], world.machines["db"]


def test_show_gives_the_bytes_and_a_terminal_no_binary(fleet: World) -> None:
    web, _ = machines(fleet)
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    fleet.bento("secret", "add", web.name, "-", "--name", "binary", stdin=b"\x1b]0;x\x07\x00")
    assert fleet.bento("secret", "show", "@dc1", "key").encode() == SECRET
    assert fleet.bento("secret", "show", web.name, "key").encode() == SECRET
    assert fleet.try_bento("secret", "show", web.name, "binary").stdout == b"\x1b]0;x\x07\x00"
    assert on_terminal(fleet, "show", web.name, "key").startswith(SECRET.decode().strip())
    refused = on_terminal(fleet, "show", web.name, "binary")
    assert "is binary" in refused
    assert "\x1b" not in refused
    assert "\x1b]0;x" in on_terminal(fleet, "show", web.name, "binary", "--force")
    (fleet.fleet / "bento.local.toml").write_text(
        (fleet.fleet / "bento.local.toml").read_text().replace("identities", "# identities")
    )
    done = fleet.try_bento("secret", "show", "@dc1", "key")
    assert (done.returncode, b"--identity" in done.stderr) == (2, True)
    assert (
        fleet.bento("secret", "show", "@dc1", "key", "--identity", str(fleet.folder / "admin.txt")).encode() == SECRET
    )


def on_terminal(world: World, *arguments: str) -> str:
    ours, theirs = pty.openpty()
    argv = [str(PROGRAMS / "bento"), "--dir", str(world.fleet), "secret", *arguments]
    done = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs)
    os.close(theirs)
    read = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
        if not chunk:
            break
        read += chunk
    done.wait()
    os.close(ours)
    return read.decode()


def test_edit_seals_what_the_editor_left_and_leaves_nothing_in_ram_or_on_disk(fleet: World) -> None:
    fleet.bento("secret", "add", "@dc1", "-", "--name", "tls/site.key", stdin=SECRET)
    seen = fleet.folder / "seen"
    script = (
        f'stat -c "%a %n" "$(dirname "$1")" > {seen}; stat -f -c %T "$1" >> {seen}; cp "$1" "$1.bak"; echo more >> "$1"'
    )
    done = fleet.try_bento("secret", "edit", "@dc1", "tls/site.key", env=editor(fleet, script))
    assert done.returncode == 0, said(done)
    mode, filesystem = seen.read_text().splitlines()
    assert (mode.split()[0], filesystem) == ("700", "tmpfs")
    assert not Path(mode.split()[1]).exists()
    assert fleet.bento("secret", "show", "@dc1", "tls/site.key").encode() == SECRET + b"more\n"
    assert not hits(SECRET.strip(), fleet.fleet, fleet.admin.folder)
    assert kinds(fleet) == []


@pytest.mark.parametrize("script", ["true", 'echo changed > "$1"; exit 1', 'rm "$1"', ': > "$1"', "kill -9 $$"])
def test_an_editor_that_changes_nothing_or_fails_changes_nothing(fleet: World, script: str) -> None:
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    before = store_files(fleet)
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="test-") as ram:
        environment = {**editor(fleet, f'dirname "$1" > {fleet.folder}/seen; {script}'), "XDG_RUNTIME_DIR": ram}
        done = fleet.try_bento("secret", "edit", "@dc1", "key", env=environment)
        assert (fleet.folder / "seen").read_text().startswith(f"{ram}/bento-")
        assert list(Path(ram).iterdir()) == []
    assert done.returncode == (0 if script == "true" else done.returncode or 99), said(done)
    assert store_files(fleet) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_edit_is_ended_tidily_by_a_signal_however_often_it_comes(fleet: World, number: signal.Signals) -> None:
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    before = store_files(fleet)
    child, folder = edit_slowly(fleet)
    for _ in range(3):
        child.send_signal(number)
        child.send_signal(signal.SIGINT)
    assert child.wait(120) == 128 + number
    assert not folder.exists()
    assert store_files(fleet) == before


def edit_slowly(fleet: World) -> tuple[subprocess.Popen[bytes], Path]:
    """An edit under way, and the folder where the text lies."""
    mark = fleet.folder / "began"
    environment = editor(fleet, f'dirname "$1" > {mark}.new; mv {mark}.new {mark}; exec sleep 60')
    child = fleet.admin.popen([PROGRAMS / "bento", "secret", "edit", "@dc1", "key"], cwd=fleet.fleet, env=environment)
    deadline = time.monotonic() + 120
    while not mark.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    folder = Path(mark.read_text().strip())
    assert hits(SECRET.strip(), folder)
    return child, folder


def test_an_interrupt_is_the_editors(fleet: World) -> None:
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    script = 'kill -INT $PPID; kill -INT $PPID; trap "echo more >> $1; exit 0" INT; kill -INT $$; sleep 60'
    done = fleet.try_bento("secret", "edit", "@dc1", "key", env=editor(fleet, script))
    assert done.returncode == 0, said(done)
    assert fleet.bento("secret", "show", "@dc1", "key").encode() == SECRET + b"more\n"


def test_an_editor_that_crashes_leaves_no_image_and_one_that_isnt_known_is_warned_of(fleet: World) -> None:
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    crash = f"import os, sys; held = open(sys.argv[1]).read(); os.kill(os.getpid(), {signal.SIGSEGV})"
    environment = {"EDITOR": f"{sys.executable} -c '{crash}'", "VISUAL": ""}
    armed = ["sh", "-c", 'ulimit -c unlimited && exec "$@"', "sh", str(PROGRAMS / "bento")]
    done = fleet.admin.run([*armed, "secret", "edit", "@dc1", "key"], cwd=fleet.fleet, env=environment)
    assert done.returncode == 1, said(done)
    assert b"was ended by signal 11" in done.stderr
    assert b"may keep the text elsewhere" in done.stderr
    assert not list(fleet.fleet.glob("core*"))
    assert not hits(SECRET.strip(), fleet.fleet, fleet.admin.folder)
    control = fleet.folder / "control"
    control.write_bytes(SECRET)
    alone = [*armed[:-1], sys.executable, "-c", crash, str(control)]
    assert fleet.admin.run(alone, cwd=fleet.fleet).returncode == -signal.SIGSEGV
    assert list(fleet.fleet.glob("core*")), "the same program, started by itself, leaves one"


@pytest.mark.parametrize("program", ["vim", "vi"])
def test_vim_keeps_no_swap_undo_or_history(fleet: World, program: str) -> None:
    home = fleet.folder / "home"
    (home / "undo").mkdir(parents=True)
    (home / ".vimrc").write_text(
        f"set undofile undodir={home}/undo backup backupdir={home}/undo viminfo='100,n{home}/info\n"
    )
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    keys = "normal ggyypkddGomore"  # the text is in a register, and in what could be undone
    command = {"HOME": str(home), "EDITOR": f"{program} -c '{keys}' -c wq", "VISUAL": "", "TERM": "dumb"}
    done = fleet.try_bento("secret", "edit", "@dc1", "key", env=command)
    assert done.returncode == 0, said(done)
    assert fleet.bento("secret", "show", "@dc1", "key").encode() == SECRET + b"more\n"
    assert [path for path in home.rglob("*") if path.is_file()] == [home / ".vimrc"]
    control = fleet.folder / "control"
    control.write_bytes(SECRET)
    alone = [program, "-c", keys, "-c", "wq", "-u", str(home / ".vimrc"), str(control)]
    environment = {**os.environ, **command}
    subprocess.run(alone, env=environment, input=b"", capture_output=True, check=True)
    assert hits(SECRET.strip(), home), "the same vim, started by itself, keeps the text"


def test_rekey_follows_admins_and_tags_and_says_why(fleet: World) -> None:
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    assert fleet.bento("secret", "rekey") == "all copies are sealed to today's recipients\n"
    late = fleet.add("late", tags=("dc1",))
    assert kinds(fleet) == [("missing", [late.name])]
    before = store_files(fleet)
    assert fleet.bento("secret", "rekey", "--dry-run") == f"would seal key for {late.name}: joined @dc1\n"
    assert store_files(fleet) == before
    assert f"sealed key for {late.name}: joined @dc1\n" in fleet.bento("secret", "rekey", "@dc1")
    assert kinds(fleet, "--identity", str(fleet.folder / "admin.txt")) == []

    other = make_ssh_key(fleet.folder / "second-admin")
    main = fleet.fleet / "bento.toml"
    first = main.read_text().split('admins = ["')[1].split('"')[0]
    main.write_text(admins(main.read_text(), [first, other.line]))
    assert [kind for kind, _ in kinds(fleet)] == ["stale"] * 3
    assert fleet.bento("secret", "rekey").count("admin added") == 3
    assert kinds(fleet) == []
    main.write_text(admins(main.read_text(), [other.line]))
    second = ("--identity", str(other.path))
    assert fleet.bento("secret", "rekey", *second).count("admin removed") == 3
    assert [kind for kind, _ in kinds(fleet)] == ["must rotate"]
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", "--replace", stdin=b"new" + SECRET)
    assert kinds(fleet) == []

    main.write_text(admins(main.read_text(), []))
    before = store_files(fleet)
    done = fleet.try_bento("secret", "rekey")
    assert done.returncode == 2
    assert b"hint: bento secret add @dc1 FILE --name key --replace" in done.stderr
    assert store_files(fleet) == before


def test_remove_drops_declaration_and_copies_and_a_tags_secret_takes_over(fleet: World) -> None:
    web, _ = machines(fleet)
    fleet.bento("secret", "add", web.name, "-", "--name", "key", stdin=b"own\n")
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    fleet.bento("deploy")
    web.run()
    assert web.secret("key") == b"own\n"
    assert f"sealed key for {web.name}: gets it from @dc1 now" in fleet.bento("secret", "remove", web.name, "key")
    assert kinds(fleet) == []
    fleet.bento("deploy")
    web.run()
    assert web.secret("key") == SECRET
    fleet.bento("secret", "remove", "@dc1", "key")
    assert list((fleet.fleet / "secrets").rglob("*.age")) == []
    fleet.bento("deploy")
    web.run()
    assert web.secret("key") is None

    (fleet.fleet / "bento.local.toml").write_text(
        (fleet.fleet / "bento.local.toml").read_text().replace("identities", "# identities")
    )
    for target in (web.name, "@dc1"):
        fleet.bento("secret", "add", target, "-", "--name", "key", stdin=SECRET)
    done = fleet.try_bento("secret", "remove", web.name, "key")
    assert done.returncode == 3, said(done)
    assert b"hint: bento secret add @dc1 FILE --name key --replace" in done.stderr
    assert kinds(fleet) == [("missing", [web.name])]


def installed(world: World, name: str) -> dict[str, str]:
    rows = json.loads(world.bento("secret", "list", "--json"))
    return {one["host"]: one["installed"]["state"] for row in rows if row["name"] == name for one in row["hosts"]}


def test_a_hosts_new_key_and_what_deploy_makes_of_it(fleet: World) -> None:
    web, db = machines(fleet)
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    fleet.bento("secret", "add", web.name, "-", "--name", "token", stdin=SECRET)
    fleet.bento("deploy")
    web.run()
    assert installed(fleet, "key") == {web.name: "installed", db.name: "unknown"}
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", "--replace", stdin=SECRET)
    assert installed(fleet, "key") == {web.name: "pending", db.name: "unknown"}

    main = fleet.fleet / "bento.toml"
    main.write_text("# kept\n" + main.read_text())
    key = make_ssh_key(fleet.folder / "new", comment="root@web")
    identity = (fleet.fleet / "bento.local.toml").read_text()
    (fleet.fleet / "bento.local.toml").write_text(identity.replace("identities", "# identities"))
    done = fleet.try_bento("host", "rekey", web.name, "--key-file", f"{key.path}.pub")
    assert done.returncode == 3, said(done)
    assert b"hint: bento secret add @dc1 FILE --name key --replace" in done.stderr
    assert b"hint: bento secret add " + web.name.encode() + b" FILE --name token --replace" in done.stderr
    assert main.read_text().startswith("# kept\n")
    assert main.read_text().count(key.line) == 1
    assert ("stale", [web.name]) in kinds(fleet)

    published = fleet.manifest(web).read_bytes()
    done = fleet.try_bento("deploy")
    assert done.returncode == 3, said(done)
    assert web.name.encode() in done.stderr
    assert b"host key replaced" in done.stderr
    assert fleet.manifest(web).read_bytes() == published

    # The rerun, with an identity, brings it in order.
    (fleet.fleet / "bento.local.toml").write_text(identity)
    printed = fleet.bento("host", "rekey", web.name, "--key-file", f"{key.path}.pub")
    assert printed.count("host key replaced") == 2
    assert sorted({kind for kind, _ in kinds(fleet)}) == ["must rotate"]
    done = fleet.try_bento("deploy")
    assert done.returncode == 0, said(done)
    assert b"must be changed" in done.stderr
    assert (
        installed(fleet, "key")[web.name] == "unknown"
    )  # its old reports are signed by a key that is no longer its own
    fleet.sshd.add_host(web.name, [key.line], folders=False)
    for name in ("key", "key.pub"):
        (web.folder / name).write_bytes((fleet.folder / name.replace("key", "new")).read_bytes())
    web.run()
    assert (web.secret("key"), web.secret("token")) == (SECRET, SECRET)


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_deploy_skips_by_name_a_host_whose_copy_is_not_in_order(fleet: World, damage: str) -> None:
    web, db = machines(fleet)
    fleet.bento("secret", "add", "@dc1", "-", "--name", "key", stdin=SECRET)
    file = fleet.fleet / "secrets" / web.name / "key.age"
    file.unlink() if damage == "missing" else file.write_bytes(file.read_bytes() + b"x")
    assert kinds(fleet) == [(damage, [web.name])]
    done = fleet.try_bento("deploy")
    assert done.returncode == 3, said(done)
    assert f"error: {web.name}: the copy of key for {web.name}".encode() in done.stderr
    assert not fleet.manifest(web).exists()
    assert fleet.manifest(db).exists()
    fleet.bento("secret", "rekey")
    assert kinds(fleet, "--identity", str(fleet.folder / "admin.txt")) == []
    fleet.bento("deploy")
    web.run()
    assert web.secret("key") == SECRET


def test_add_takes_several_files_or_a_folder_all_or_none(fleet: World) -> None:
    web, _ = machines(fleet)
    folder = fleet.folder / "mine"
    (folder / "tls").mkdir(parents=True)
    (folder / "token").write_bytes(SECRET)
    (folder / "tls" / "site.key").write_bytes(SECRET)
    fleet.bento("secret", "add", web.name, str(folder), "--max-age", "90d")
    assert fleet.bento("secret", "show", web.name, "tls/site.key").encode() == SECRET
    fleet.bento("secret", "add", "@dc1", str(folder / "token"), str(folder / "tls" / "site.key"))
    before = store_files(fleet)
    (folder / "tls" / "more").write_bytes(SECRET)
    (folder / "shadow").symlink_to("/etc/shadow")
    for arguments, words in {
        (str(folder),): b"is a symlink",
        (str(folder / "token"), str(folder / "tls"), "--name", "x"): b"one name doesn't fit",
        (str(folder / "tls" / "more"), str(folder / "token")): b"exists already",
        (str(folder / "tls" / "more"), "--mode", "0444"): b"--force",
        (str(folder / "tls" / "more"), "--max-age", "90"): b"is no age",
    }.items():
        done = fleet.try_bento("secret", "add", web.name, *arguments)
        assert done.returncode == 2
        assert words in done.stderr
        assert store_files(fleet) == before
    (folder / "shadow").unlink()
    os.mkfifo(folder / "pipe")
    assert b"no regular file" in fleet.try_bento("secret", "add", web.name, str(folder)).stderr
    assert not hits(SECRET.strip(), fleet.fleet, fleet.admin.folder)
    fleet.bento("secret", "add", web.name, str(folder / "tls" / "more"), "--mode", "0444", "--force")
