"""What an impatient person does, or a host to its admin: nothing crashes, nothing is half done."""

import json
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from rig.desk import Desk, line_with, refused, wrong
from rig.world import PROGRAMS, World, said

AGE_IDENTITY = "AGE-SECRET-KEY-1" + "Q" * 58


@pytest.mark.parametrize("name", ["heartbeat", "00000000000000000099.report"])
def test_a_folder_that_a_host_put_where_a_report_belongs_is_a_note_not_a_crash(world: World, name: str) -> None:
    web, other = world.add("web"), world.add("other")
    world.bento("deploy")
    (world.sshd.publish / web.name / "reports" / name).mkdir()
    done = world.try_bento("status")
    assert done.returncode == 0, said(done)
    assert other.name in said(done)


@pytest.mark.parametrize("source", ["secrets", "secrets/web", "hosts/../secrets"])
def test_a_source_in_the_secret_store_is_refused(desk: Desk, source: str) -> None:
    shutil.copy(desk.fleet / "hosts/web/flake.nix", desk.fleet / source)
    wrong(desk.settings, "[hosts.web]\n", f'[hosts.web]\nsource = "{source}"\n')
    desk.refuses("build", "dry-build", "--on", "web", named=("secrets",))


@pytest.mark.parametrize("target", ["../../outside", "../secrets"])
def test_a_hosts_folder_that_is_a_symlink_out_or_into_the_store_is_refused(desk: Desk, target: str) -> None:
    (desk.folder / "outside").mkdir()
    for folder in (desk.folder / "outside", desk.fleet / "secrets"):
        shutil.copy(desk.fleet / "hosts/web/flake.nix", folder)
    shutil.rmtree(desk.fleet / "hosts/web")
    (desk.fleet / "hosts/web").symlink_to(target)
    desk.refuses("build", "dry-build", "--on", "web", named=("hosts/web",))


def test_every_key_of_a_host_is_checked_not_only_the_first(desk: Desk) -> None:
    good = (desk.folder / "keys/spare.pub").read_text()
    weak = desk.folder / "keys/weak"
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", str(weak)], check=True)
    desk.refuses("host", "add", "shop", "--key", good, "--key", weak.with_suffix(".pub").read_text(), named=("ecdsa",))


def escaped_in_nix(desk: Desk) -> bytes:
    key = (desk.folder / "keys/web").read_text().replace("\n", "\\n")
    return f'{{ key = "{key}"; }}'.encode()


def encrypted_pem(desk: Desk) -> bytes:
    argv = ["openssl", "genrsa", "-aes128", "-traditional", "-passout", "pass:x", "2048"]
    return subprocess.run(argv, capture_output=True, check=True).stdout


PRIVATE: dict[str, Callable[[Desk], bytes]] = {
    "as ssh-keygen writes it": lambda desk: (desk.folder / "keys/web").read_bytes(),
    "escaped in a Nix string": escaped_in_nix,
    "encrypted PEM": encrypted_pem,
    "UTF-16": lambda desk: (desk.folder / "keys/web").read_text().encode("utf-16"),
    "age's": lambda _: AGE_IDENTITY.encode(),
    "age's in lower case": lambda _: AGE_IDENTITY.lower().encode(),
}


@pytest.mark.parametrize("form", PRIVATE)
def test_a_private_key_in_a_hosts_folder_is_seen_in_any_form(desk: Desk, form: str) -> None:
    (desk.fleet / "hosts/web/k.nix").write_bytes(PRIVATE[form](desk))
    desk.refuses("build", "dry-build", "--on", "web", named=("hosts/web/k.nix", "bento secret add web"))


def test_secret_list_sees_a_copy_that_is_gone_or_changed(desk: Desk) -> None:
    copy = desk.fleet / "secrets/web/tls/site.key.age"
    assert " ok" in desk.bento("secret", "list").stdout.decode()
    copy.write_bytes(copy.read_bytes() + b"x")
    assert " ok" not in desk.bento("secret", "list").stdout.decode()
    copy.unlink()
    assert " ok" not in desk.bento("secret", "list").stdout.decode()


def test_a_reader_that_has_gone_does_not_stop_a_deploy(world: World) -> None:
    one, two = world.add("one"), world.add("two")
    world.admin.run(["sh", "-c", f"cd {world.fleet}; {PROGRAMS}/bento deploy 2>&1 | head -n1"])
    assert world.manifest(one).exists()
    assert world.manifest(two).exists()


def test_sigterm_ends_the_build_too_and_publishes_nothing(world: World) -> None:
    web = world.add("web")
    flake = web.source / "flake.nix"
    before, seconds = "set -eu\nPATH=/bin:/usr/bin\nif", f"300.{os.getpid()}"
    wrong(flake, before, before.replace("\nif", f"\nsleep {seconds}\nif"))
    deploy = world.admin.popen([PROGRAMS / "bento", "deploy"], cwd=world.fleet)
    needle = f"sleep\0{seconds}\0".encode()

    def builds() -> list[Path]:
        return [one for one in Path("/proc").iterdir() if one.name.isdecimal() and needle in read(one / "cmdline")]

    wait_for(lambda: bool(builds()) or deploy.poll() is not None)
    assert deploy.poll() is None, deploy.communicate()
    time.sleep(0.5)
    deploy.send_signal(signal.SIGTERM)
    _, text = deploy.communicate(timeout=200)
    assert deploy.returncode == 130
    assert text.strip().endswith(b"stopped")
    wait_for(lambda: not builds())
    assert not world.manifest(web).exists()


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    "line", ["host list >&-", "status >&-", "secret add web - --name n <&-", "host list >/dev/full"]
)
def test_a_standard_stream_that_is_closed_or_full_is_no_bug(desk: Desk, line: str) -> None:
    env = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(desk.folder / "home")}
    done = subprocess.run(
        ["sh", "-c", f"bento {line}"], cwd=desk.fleet, env=env, capture_output=True, timeout=200, check=False
    )
    assert b"has a bug" not in done.stderr
    assert b"Exception" not in done.stderr
    assert done.returncode in (0, 1, 2)


@pytest.mark.parametrize("word", ["", ",", " "])
def test_an_empty_on_means_nobody_not_everybody(desk: Desk, word: str) -> None:
    desk.refuses("deploy", "--on", word, named=("--on",))


def test_a_deploy_of_one_host_after_one_of_all_builds_nothing(world: World) -> None:
    one, _ = world.add("one"), world.add("two", kind="channel")
    world.bento("deploy")
    assert json.loads(world.bento("deploy", "--json", "--on", one.name))["built"] == 0


def test_an_empty_secret_is_refused(desk: Desk) -> None:
    desk.refuses("secret", "add", "web", "-", "--name", "n", named=("empty",))


def test_a_fleet_name_that_changed_by_accident_publishes_nothing(world: World) -> None:
    web = world.add("web")
    world.bento("deploy")
    before = world.manifest(web).read_bytes()
    wrong(world.fleet / "utils/trust.toml", 'fleet = "acme"', 'fleet = "acne"')
    done = world.try_bento("deploy")
    assert done.returncode == 1
    assert b"'acme'" in done.stderr
    assert world.manifest(web).read_bytes() == before


def test_host_add_says_that_it_cannot_edit_an_inline_table(desk: Desk) -> None:
    key = (desk.folder / "keys/web.pub").read_text().strip()
    desk.settings.write_text(f'hosts = {{ web = {{ keys = ["{key}"] }} }}\n')
    desk.refuses("host", "add", "shop", "--key-file", "../keys/spare.pub", named=("bento.toml",))


def test_host_add_keeps_mode_line_ends_and_a_symlink(desk: Desk) -> None:
    real = desk.folder / "real.toml"
    desk.settings.chmod(0o600)
    desk.settings.write_bytes(desk.settings.read_bytes().replace(b"\n", b"\r\n"))
    desk.settings.rename(real)
    desk.settings.symlink_to(real)
    assert desk.bento("host", "add", "shop", "--key-file", "../keys/spare.pub").returncode == 0
    assert b"# A host, as `bento host add` writes it:\r\n" in real.read_bytes()
    assert b"[hosts.shop]" in real.read_bytes()
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert desk.settings.is_symlink()


def test_a_home_of_nobody_is_said(desk: Desk) -> None:
    wrong(desk.settings, f'to = "{desk.publish}"', 'to = "~nobodyx/publish"')
    desk.refuses("deploy", named=("publish.to", "~nobodyx"))


def test_a_publish_target_that_is_a_file_gets_a_hint_that_works(desk: Desk) -> None:
    shutil.rmtree(desk.publish)
    desk.publish.write_text("x")
    assert "mkdir" not in desk.refuses("deploy", named=(str(desk.publish),), code=1)


@pytest.mark.parametrize(
    ("old", "new", "key", "meant"),
    [("\nkeys = ", "\nkyes = ", "hosts.web.kyes", "keys"), ("[hosts.web]", "[hostes.web]", "hostes", "hosts")],
)
def test_a_typo_in_a_key_that_must_be_there_is_named(desk: Desk, old: str, new: str, key: str, meant: str) -> None:
    wrong(desk.settings, old, new)
    at = line_with(desk.settings, new.strip())
    desk.refuses("host", "list", named=(f"bento.toml:{at}: unknown key '{key}'", f"did you mean {meant}?"))


@pytest.mark.parametrize(
    ("old", "new", "meant"),
    [
        ("signers = ", "signerz = ", "signers"),
        ("host_keys = ", "hostkeys = ", "host_keys"),
        ("fleet = ", "flet = ", "fleet"),
    ],
)
def test_a_typo_in_a_needed_key_of_the_trust_file_is_named(desk: Desk, old: str, new: str, meant: str) -> None:
    trust = desk.fleet / "utils/trust.toml"
    wrong(trust, old, new)
    desk.refuses("deploy", named=(f"utils/trust.toml:{line_with(trust, new)}", f"did you mean {meant}?"))


def test_a_value_of_the_wrong_type_has_a_hint(desk: Desk) -> None:
    wrong(desk.settings, "jobs = 2", 'jobs = "2"')
    desk.refuses("host", "list", named=("build.jobs",))


UNPACKABLE: dict[str, Callable[[Path], None]] = {
    "a link to nothing": lambda host: (host / "x").symlink_to("nowhere"),
    "a circle": lambda host: (host / "x").symlink_to("."),
    "a FIFO": lambda host: os.mkfifo(host / "x"),
    "a newline in a name": lambda host: (host / "a\nb").touch(),
    "no configuration": lambda host: (host / "flake.nix").unlink(),
}


@pytest.mark.parametrize("what", UNPACKABLE)
def test_everything_that_cannot_be_packed_has_a_hint_and_its_folder(desk: Desk, what: str) -> None:
    UNPACKABLE[what](desk.fleet / "hosts/web")
    desk.refuses("build", "--on", "web", named=("hosts/web",))


def test_a_working_folder_that_is_gone_is_said(desk: Desk) -> None:
    gone = desk.folder / "gone"
    gone.mkdir()
    env = {"PATH": f"{PROGRAMS}:{os.environ['PATH']}", "HOME": str(desk.folder / "home")}
    done = subprocess.run(
        ["sh", "-c", f"cd {gone} && rmdir {gone} && bento host list"], env=env, capture_output=True, check=False
    )
    refused(done, "working folder")
