"""The rig tests itself: a test that stands on it can only be as good as it is."""

import base64
import bz2
import gzip
import lzma
import os
import socket
import stat
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from bento.demo.systems import SWITCH_HOOK, Behaviour, System, write_configuration, write_flake
from rig import (
    HostUser,
    MakeRoot,
    PrivateRoot,
    Sshd,
    SshKey,
    argv_hits,
    execve_args,
    hits,
    make_ssh_key,
    system_user,
    traced,
)
from rig.users import user_exists

MARKER = b"bento+marker/7f3a\xfe\xff\xfb=x"
TEXT = "bento-marker-7f3a91"


def build(root: PrivateRoot, system: System, folder: Path, name: str = "web") -> str:
    write_flake(folder, {name: system, "other": System(message="other")})
    flake = f'path:{folder}#nixosConfigurations."{name}".config.system.build.toplevel'
    root.text(["nix", "build", "--no-link", flake])
    return root.text(["nix", "eval", "--raw", flake])


def switch(root: PrivateRoot, system: str, action: str, timeout: float = 20) -> int:
    return root.run([f"{system}/bin/switch-to-configuration", action], timeout=timeout).returncode


def set_profile(root: PrivateRoot, system: str) -> None:
    root.text(["nix-env", "-p", "/nix/var/nix/profiles/system", "--set", system])


class TestSystems:
    def test_a_flake_system_builds_and_has_the_outline_of_nixos(self, root: PrivateRoot, tmp_path: Path) -> None:
        message = 'says "${pkgs.x}" \'\' \\ ${"\n"}ünï'
        top = build(root, System(message=message, extra=TEXT), tmp_path / "flake")
        assert (root.path(top) / "etc/message").read_text() == message + "\n"
        assert (root.path(top) / "extra").read_text() == TEXT
        names = {entry.name for entry in root.path(top).iterdir()}
        assert names == {"bin", "etc", "sw", "extra", "kernel", "initrd", "kernel-modules", "nixos-version"}
        assert os.access(root.path(top) / "bin/switch-to-configuration", os.X_OK)

    def test_hosts_of_one_flake_are_different_systems(self, root: PrivateRoot, tmp_path: Path) -> None:
        assert build(root, System(message="other"), tmp_path) != build(root, System(message="other"), tmp_path, "db")

    def test_a_channel_system_builds_by_its_configuration_file(self, root: PrivateRoot, tmp_path: Path) -> None:
        write_configuration(tmp_path, System(message="from a channel"))
        setting = f"nixos-config={tmp_path}/configuration.nix"
        top = root.text(["nix-build", "--no-out-link", "<nixpkgs/nixos>", "-A", "system", "-I", setting])
        assert (root.path(top) / "etc/message").read_text() == "from a channel\n"
        (tmp_path / "configuration.nix").write_text('{ message = "an attribute set"; }')
        assert root.text(["nix-build", "--no-out-link", "<nixpkgs/nixos>", "-A", "system", "-I", setting]) != top

    def test_a_system_can_fail_to_build(self, root: PrivateRoot, tmp_path: Path) -> None:
        write_flake(tmp_path, {"web": System(build_fails=True)})
        done = root.run(
            ["nix", "build", "--no-link", f"path:{tmp_path}#nixosConfigurations.web.config.system.build.toplevel"]
        )
        assert done.returncode == 1
        assert b"meant not to build" in done.stderr

    def test_two_machines_build_the_same_path(self, make_root: MakeRoot, tmp_path: Path) -> None:
        systems = {build(make_root(name), System(), tmp_path / "flake") for name in ("one", "two")}
        assert len(systems) == 1


class TestSwitching:
    def test_test_moves_the_running_system_and_boot_the_default(self, root: PrivateRoot, tmp_path: Path) -> None:
        top = build(root, System(), tmp_path)
        assert switch(root, top, "test") == 0
        assert root.running() == top
        assert root.boot_default() is None
        assert switch(root, top, "boot") == 1, "there is no profile yet"
        set_profile(root, top)
        assert switch(root, top, "boot") == 0
        assert root.boot_default() == root.profile() == top
        assert root.switches() == [("test", top), ("boot", top), ("boot", top)]

    def test_dry_activate_and_an_unknown_action_change_nothing(self, root: PrivateRoot, tmp_path: Path) -> None:
        top = build(root, System(), tmp_path)
        assert switch(root, top, "dry-activate") == 0
        assert switch(root, top, "dance") == 1
        assert root.running() is None

    @pytest.mark.parametrize(
        ("behaviour", "code", "linked"),
        [
            (Behaviour.OK, 0, True),
            (Behaviour.FAIL_BEFORE, 1, False),
            (Behaviour.FAIL_AFTER, 2, True),
            (Behaviour.UNITS_FAILED, 4, True),
            (Behaviour.REBOOT, 100, False),
            (Behaviour.NO_LINK, 0, False),
            (Behaviour.FAIL_BOOT, 0, True),
        ],
    )
    def test_each_behaviour_of_test(
        self, root: PrivateRoot, tmp_path: Path, *, behaviour: Behaviour, code: int, linked: bool
    ) -> None:
        top = build(root, System(behaviour=behaviour), tmp_path)
        assert switch(root, top, "test") == code
        assert root.running() == (top if linked else None)

    def test_a_boot_loader_that_fails_leaves_the_default(self, root: PrivateRoot, tmp_path: Path) -> None:
        good = build(root, System(), tmp_path / "good")
        set_profile(root, good)
        assert switch(root, good, "switch") == 0
        bad = build(root, System(behaviour=Behaviour.FAIL_BOOT), tmp_path / "bad")
        set_profile(root, bad)
        assert switch(root, bad, "boot") == 1
        assert root.boot_default() == good

    def test_a_hanging_switch_hangs_until_it_is_killed(self, root: PrivateRoot, tmp_path: Path) -> None:
        top = build(root, System(behaviour=Behaviour.HANG), tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            switch(root, top, "test", timeout=0.5)
        assert root.running() is None

    def test_the_hook_runs_before_the_link_moves(self, root: PrivateRoot, tmp_path: Path) -> None:
        declared = '[{"name":"db/password"}]'
        top = build(root, System(behaviour=Behaviour.HOOK, secrets=declared), tmp_path)
        assert (root.path(top) / "bento/secrets.json").read_text() == declared + "\n"
        assert switch(root, top, "test") == 0, "a hook is not a must"
        root.on_disk("/run/current-system").unlink()
        root.on_disk(SWITCH_HOOK).write_text("echo $1 $(ls /run/current-system 2>&1) >/nix/var/boot/seen; exit 3")
        assert switch(root, top, "test") == 2, "a failing activation script still ends with the link, as NixOS has it"
        seen = root.on_disk("/nix/var/boot/seen").read_text()
        assert seen.startswith(top)
        assert "No such file" in seen
        assert root.running() == top


class TestPrivateRoot:
    def test_the_real_machine_is_left_alone(self, root: PrivateRoot) -> None:
        root.text(["touch", "/nix/rig-was-here", "/run/rig-was-here"])
        assert root.on_disk("/nix/rig-was-here").exists()
        assert not Path("/nix/rig-was-here").exists()
        assert not Path("/run/rig-was-here").exists()

    def test_machines_do_not_see_each_other(self, make_root: MakeRoot) -> None:
        one, two = make_root("one"), make_root("two")
        one.text(["touch", "/run/mine"])
        assert two.run(["test", "-e", "/run/mine"]).returncode == 1

    def test_a_tmpfs_stays_for_the_next_command_and_never_reaches_the_disk(self, root: PrivateRoot) -> None:
        root.text(["sh", "-c", "mkdir /run/bento && mount -t tmpfs -o noswap,mode=700 tmpfs /run/bento"])
        root.run(["sh", "-c", "cat >/run/bento/secret"], stdin=TEXT.encode(), check=True)
        assert root.text(["cat", "/run/bento/secret"]) == TEXT
        assert root.path("/run/bento/secret").read_text() == TEXT
        assert " /run/bento " in root.text(["cat", "/proc/self/mountinfo"])
        assert hits(TEXT.encode(), root.folder) == []
        assert hits(TEXT.encode(), root.path("/run")) != [], "the search must be able to find it"

    def test_a_reboot_ends_processes_and_mounts_and_starts_the_default(self, root: PrivateRoot, tmp_path: Path) -> None:
        top = build(root, System(), tmp_path / "default")
        set_profile(root, top)
        switch(root, top, "switch")
        newer = build(root, System(message="newer"), tmp_path / "newer")
        switch(root, newer, "test")
        root.text(["sh", "-c", "mkdir /run/bento && mount -t tmpfs tmpfs /run/bento && touch /run/bento/x"])
        running = root.popen(["sh", "-c", "sleep 600 & sleep 600"])
        assert root.running() == newer
        root.reboot()
        assert running.wait(60) == -9
        assert root.running() == top
        assert root.run(["test", "-e", "/run/bento"]).returncode == 1
        assert root.text(["cat", f"{newer}/etc/message"]) == "newer", "the Nix store outlives a reboot"

    def test_a_command_runs_in_the_folder_it_is_given(self, root: PrivateRoot, tmp_path: Path) -> None:
        assert root.text(["pwd"], cwd=tmp_path) == str(tmp_path)
        assert root.text(["pwd"]) == "/"

    def test_a_signal_reaches_the_command_itself(self, root: PrivateRoot) -> None:
        running = root.popen(["sleep", "600"])
        running.kill()
        assert running.wait(60) == -9

    @pytest.mark.usefixtures("as_root")
    def test_closing_leaves_no_process_and_no_mount(self, tmp_path: Path) -> None:
        with PrivateRoot(tmp_path / "machine") as machine:
            sleeper = machine.popen(["sleep", "600"])
        assert sleeper.wait(60) == -9
        assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
        assert list((tmp_path / "machine" / "root").iterdir()) == []


@pytest.fixture
def sftp(sshd: Sshd, host_user: HostUser, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs OpenSSH's sftp as host "a", with a key that is let in."""
    key = make_ssh_key(tmp_path / "key", comment="host a")
    sshd.add_host(host_user("a"), [key.line])
    return lambda *commands, **options: run_sftp(sshd, host_user("a"), options.get("key", key), commands)


def run_sftp(sshd: Sshd, user: str, key: SshKey, commands: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    known = sshd.folder / "known_hosts"
    if not known.exists():
        known.write_text(f"[{sshd.address}]:{sshd.port} {sshd.host_key_line}\n")
    options = ("StrictHostKeyChecking=yes", f"UserKnownHostsFile={known}", "IdentitiesOnly=yes", "ConnectTimeout=60")
    return subprocess.run(
        ["sftp", "-b", "-", "-F", "none", "-P", str(sshd.port), "-i", str(key.path),
         *(part for option in options for part in ("-o", option)), f"{user}@{sshd.address}"],
        input="".join(f"{command}\n" for command in commands),
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip


class TestSshd:
    def test_a_host_is_let_in_and_sees_its_chroot_only(self, sshd: Sshd, sftp, host_user: HostUser, tmp_path) -> None:
        (sshd.publish / host_user("a") / "release" / "manifest").write_text("for a")
        sshd.add_host(host_user("b"), [])
        done = sftp("ls -1 /", f"get /release/manifest {tmp_path}/got")
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "got").read_text() == "for a"
        assert done.stdout.split("ls -1 /\n")[1].splitlines()[:2] == ["/release", "/reports"]

    def test_it_may_write_to_its_reports_and_nowhere_else(
        self, sshd: Sshd, sftp, host_user: HostUser, tmp_path
    ) -> None:
        (tmp_path / "x").write_text("x")
        for folder in ("/", "/release"):
            assert sftp(f"put {tmp_path}/x {folder}/x").returncode != 0
        assert sftp(f"put {tmp_path}/x /reports/x").returncode == 0
        report = (sshd.publish / host_user("a") / "reports" / "x").stat()
        assert report.st_gid == (sshd.publish / host_user("a") / "reports").stat().st_gid
        assert stat.S_IMODE((sshd.publish / host_user("a") / "reports").stat().st_mode) == 0o2770

    def test_another_key_is_refused(self, sftp, tmp_path: Path) -> None:
        assert "Permission denied" in sftp("ls", key=make_ssh_key(tmp_path / "stranger")).stderr
        assert sftp("ls").returncode == 0

    def test_an_outage_and_the_same_port_again(self, sshd: Sshd, sftp) -> None:
        session = socket.create_connection((sshd.address, sshd.port))
        assert session.recv(4) == b"SSH-"
        port = sshd.port
        sshd.stop()
        session.settimeout(5)
        while session.recv(4096):
            pass
        assert sftp("ls").returncode != 0
        sshd.start()
        assert sshd.port == port
        assert sftp("ls").returncode == 0

    def test_another_host_key_is_noticed(self, sshd: Sshd, sftp) -> None:
        assert sftp("ls").returncode == 0
        before = sshd.host_key_line
        sshd.restart(new_host_key=True)
        assert sshd.host_key_line != before
        assert "HOST IDENTIFICATION HAS CHANGED" in sftp("ls").stderr

    def test_two_servers_side_by_side(self, sshd: Sshd, tmp_path: Path) -> None:
        with Sshd(tmp_path / "second", tmp_path / "publish-second") as second:
            assert second.port != sshd.port

    @pytest.mark.usefixtures("as_root")
    def test_a_user_goes_with_its_test(self, host_user: HostUser) -> None:
        name = f"{host_user('a')}-gone"
        with system_user(name):
            assert user_exists(name)
        assert not user_exists(name)


ENCODED = {
    "raw": MARKER,
    "hex": MARKER.hex().encode(),
    "upper hex": MARKER.hex().upper().encode(),
    "base64": base64.b64encode(MARKER),
    "base64 shifted by one": base64.b64encode(b"1" + MARKER + b"after"),
    "base64 shifted by two": base64.b64encode(b"12" + MARKER + b"after"),
    "base64 for URLs": base64.urlsafe_b64encode(b"1" + MARKER + b"?>?>"),
    "wrapped base64": base64.encodebytes(os.urandom(70) + MARKER + os.urandom(70)),
    "gzip": gzip.compress(b"x" * 9999 + MARKER),
    "gzip in the middle": os.urandom(500) + gzip.compress(MARKER) + os.urandom(500),
    "a cut gzip": gzip.compress(MARKER + os.urandom(9999))[:5000],
    "zlib": b"blob 9\0" + zlib.compress(MARKER),
    "xz": lzma.compress(MARKER),
    "bzip2": bz2.compress(MARKER),
    "base64 in gzip in gzip": gzip.compress(gzip.compress(base64.b64encode(MARKER))),
}


class TestMarkers:
    @pytest.mark.parametrize("how", ENCODED)
    def test_a_marker_is_found(self, tmp_path: Path, how: str) -> None:
        (tmp_path / "deep" / "er").mkdir(parents=True)
        (tmp_path / "deep" / "clean").write_bytes(b"nothing here" + os.urandom(5000))
        (tmp_path / "deep" / "er" / "leak").write_bytes(b"before " + ENCODED[how] + b" after")
        assert hits(MARKER, tmp_path) == [tmp_path / "deep" / "er" / "leak"]

    def test_names_and_link_targets_are_searched(self, tmp_path: Path) -> None:
        (tmp_path / f"dir-{TEXT}").mkdir()
        (tmp_path / "link").symlink_to(f"/somewhere/{TEXT}")
        assert hits(TEXT.encode(), tmp_path) == [tmp_path / f"dir-{TEXT}", tmp_path / "link"]

    def test_what_is_not_there_is_not_found(self, tmp_path: Path) -> None:
        (tmp_path / "other").write_bytes(gzip.compress(b"bento+marker, but another one" * 50))
        os.mkfifo(tmp_path / "fifo")
        assert hits(MARKER, tmp_path) == []

    def test_a_search_of_nothing_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            hits(MARKER, tmp_path / "absent")
        with pytest.raises(ValueError, match="too short"):
            hits(b"abc", tmp_path)


class TestTraces:
    def test_the_arguments_of_children_are_read(self, tmp_path: Path) -> None:
        script = "import subprocess, sys; subprocess.run(['/bin/echo', *sys.stdin.read().split('|')])"
        odd = f'a "quoted" \\ näme\n{TEXT}|[x], ...|'
        subprocess.run(
            traced(tmp_path / "trace", [sys.executable, "-c", script]), input=odd, text=True, check=True, stdout=-3
        )
        started = [[b"/bin/echo", *(part.encode() for part in odd.split("|"))]]
        assert execve_args([tmp_path / "trace"])[1:] == started
        assert argv_hits(TEXT.encode(), [tmp_path / "trace"]) == started
        assert argv_hits(b"not-in-any-argument", [tmp_path / "trace"]) == []

    def test_a_trace_that_hides_something_is_an_error(self, tmp_path: Path) -> None:
        trace = tmp_path / "trace"
        for line in (
            "",
            '1 execve("/bin/a", ["a", "cut"...], 0x1 /* 3 vars */) = 0',
            '1 execve("/a", ["a", ...], 0x1) = 0',
        ):
            trace.write_text(line + "\n")
            with pytest.raises(ValueError, match=r"cut short|no execve"):
                execve_args([trace])

    def test_unfinished_and_failed_calls_count(self, tmp_path: Path) -> None:
        (tmp_path / "trace").write_text(
            '7 execve("/bin/a", ["a", "\\303\\244\\0012\\""], 0x7ffd /* 9 vars */ <unfinished ...>\n'
            "7 <... execve resumed>) = 0\n"
            '8 execveat(3, "", ["b"], 0x7ffd /* 9 vars */, AT_EMPTY_PATH) = -1 ENOENT (No such file or directory)\n'
        )
        assert execve_args([tmp_path / "trace"]) == [[b"a", b'\xc3\xa4\x012"'], [b"b"]]
