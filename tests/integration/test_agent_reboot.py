"""A host reboots by itself where its admin allows it, in its window, with notice, and once for each thing."""

import time
from pathlib import Path

import pytest

from bento.adapters import systemd
from bento.agent import reboot, take
from bento.agent.host import Host
from bento.agent.install import stored_manifest
from bento.agent.reboot import reason_to_reboot, reboot_if_wanted
from bento.agent.recover import recover
from bento.core import trust_rules
from bento.errors import EnvironmentFailed
from bento.names import Serial
from rig.lone import LoneHost

KERNELS = {"old": b"a kernel", "new": b"another kernel"}


@pytest.fixture
def lone(lone: LoneHost, monkeypatch: pytest.MonkeyPatch) -> LoneHost:
    """Its systems have kernels, and the second release's system is built."""
    monkeypatch.setattr(take, "_system", lambda *_: (lone.system("new"), True))
    for system, kernel in KERNELS.items():
        for part in ("kernel", "initrd"):
            (Path(lone.system(system)) / part).write_bytes(kernel)
    lone.settings = {"reboot": "when-needed"}
    return lone


def booted(lone: LoneHost) -> Host:
    host = lone.fresh()
    (lone.folder / "booted-system").symlink_to(lone.system("old"))
    return host


def take_it(host: Host) -> tuple[str, str]:
    floor = host.state.floor()
    assert floor is not None
    verdict = trust_rules.again(floor)
    assert isinstance(verdict, trust_rules.Take)
    taken = take.take_release(host, stored_manifest(host, Serial(2)), verdict.floor)
    reboot_if_wanted(host)
    return taken.outcome, taken.reason


def shutdowns(lone: LoneHost) -> list[str]:
    return [line for line in lone.asked() if line.startswith("shutdown")]


def test_a_new_kernel_is_booted_once_with_notice(lone: LoneHost) -> None:
    lone.settings["reboot_notice"] = 7
    host = booted(lone)
    outcome, reason = take_it(host)
    assert outcome == "succeeded"
    assert "the kernel and the initrd of the new system wait for a reboot" in reason
    (asked,) = shutdowns(lone)
    assert asked.startswith("shutdown --reboot +7 Bento: the kernel")
    # it came up with the old one again: somebody, or the boot loader, wanted that
    reboot_if_wanted(host)
    assert len(shutdowns(lone)) == 1
    assert "doesn't again" in lone.said[-1]


def test_after_the_reboot_nothing_is_wanted(lone: LoneHost) -> None:
    host = booted(lone)
    take_it(host)
    (lone.folder / "booted-system").unlink()
    (lone.folder / "booted-system").symlink_to(lone.system("new"))
    assert reason_to_reboot(host) is None


def test_a_system_with_the_same_kernel_needs_none(lone: LoneHost) -> None:
    for part in ("kernel", "initrd"):
        path = Path(lone.system("new")) / part
        path.unlink()
        path.symlink_to(Path(lone.system("old")) / part)
    assert take_it(booted(lone)) == ("succeeded", "installed")
    assert shutdowns(lone) == []


def test_a_release_for_the_next_boot_is_booted(lone: LoneHost) -> None:
    host = booted(lone)
    lone.fault("new", "test", "exit 100")
    assert take_it(host)[0] == "reboot-needed"
    assert len(shutdowns(lone)) == 1


def test_another_system_that_a_person_tests_is_left_alone(lone: LoneHost) -> None:
    host = lone.fresh()
    (lone.folder / "current-system").unlink()
    (lone.folder / "current-system").symlink_to(lone.system("new"))
    assert reason_to_reboot(host) is None


@pytest.mark.parametrize("settings", [{}, {"reboot": "never"}])
def test_without_the_admins_word_no_host_reboots(lone: LoneHost, settings: dict[str, object]) -> None:
    lone.settings = settings
    host = booted(lone)
    take_it(host)
    assert shutdowns(lone) == []
    assert "doesn't reboot by itself" in lone.said[-1]
    # nor where nothing else leads back
    host = booted(lone)
    lone.fault("new", "test", "exit 2", when="after")
    lone.refuse("old", "test")
    assert take_it(host)[0] == "failed"
    assert shutdowns(lone) == []


def test_outside_of_its_window_a_host_waits(lone: LoneHost, monkeypatch: pytest.MonkeyPatch) -> None:
    lone.settings["reboot_window"] = "00:00-00:00"
    monkeypatch.setattr(reboot.Window, "holds", lambda *_: False)
    host = booted(lone)
    take_it(host)
    assert shutdowns(lone) == []
    monkeypatch.undo()
    monkeypatch.setenv("PATH", f"{lone.folder}/bin:/usr/bin:/bin")
    reboot_if_wanted(host)
    assert len(shutdowns(lone)) == 1


def test_a_reboot_is_announced_so_that_it_comes_within_the_window(
    lone: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lone.settings |= {"reboot_window": "02:00-02:05", "reboot_notice": 10}
    for clock, wanted in (("01:45", 0), ("01:51", 1), ("01:56", 0), ("02:01", 0)):
        now = time.mktime(time.strptime(f"2026-03-10 {clock}", "%Y-%m-%d %H:%M"))
        with monkeypatch.context() as patch:
            patch.setattr(reboot.time, "time", lambda now=now: now)
            take_it(booted(lone))
        assert len(shutdowns(lone)) == wanted, clock


def test_a_reboot_that_this_host_could_not_remember_is_called_off(lone: LoneHost) -> None:
    host = booted(lone)
    (host.state.root / "rebooted.json").mkdir()
    (lone.folder / "systems/new/kernel").write_bytes(b"another")
    take_it(host)
    assert "can't reboot" in lone.said[-1]
    assert shutdowns(lone) == []
    (host.state.root / "rebooted.json").rmdir()

    with pytest.MonkeyPatch.context() as patch:

        def full(*_: object) -> None:
            raise EnvironmentFailed("the disk is full")

        patch.setattr(type(host.state), "write_rebooted_for", full)
        for _ in range(2):
            reboot_if_wanted(host)
    assert [line.split()[1] for line in shutdowns(lone)] == ["--reboot", "-c"] * 2
    assert host.state.rebooted_for() is None


def test_where_going_back_fails_the_old_system_is_booted_and_then_all_is_as_before(lone: LoneHost) -> None:
    host = booted(lone)
    lone.fault("new", "test", "exit 2", when="after")
    lone.refuse("old", "test")
    outcome, reason = take_it(host)
    assert (outcome, len(shutdowns(lone))) == ("failed", 1)
    assert "rebooting into the old system" in reason
    assert lone.default() == lone.system("old")
    # what a boot does; systemctl and the rest are as they were
    (lone.folder / "current-system").unlink()
    (lone.folder / "current-system").symlink_to(lone.default())
    assert recover(host, host.state.journal()).outcome == "rolled-back"
    assert (host.running(), host.profile(), lone.content()) == (lone.system("old"), lone.system("old"), b"content 1")
    assert len(shutdowns(lone)) == 1


def test_a_reboot_that_cannot_be_made_is_said_and_tried_again(lone: LoneHost) -> None:
    (lone.folder / "bin/shutdown").write_text("#!/bin/sh\nexit 1\n")
    host = booted(lone)
    take_it(host)
    assert "can't reboot" in lone.said[-1]
    assert host.state.rebooted_for() is None


# By kexec, where the admin asks for it. No kernel is started here: what is told to kexec(8) and systemctl is looked at.

_KEXEC = """\
#!/bin/sh
printf '%s|' "$@" >>{folder}/kexec-asked
echo >>{folder}/kexec-asked
[ ! -e {folder}/kexec-fails ]
"""


@pytest.fixture
def with_kexec(lone: LoneHost) -> LoneHost:
    """Its systems have kexec, and what it needs to know of the new one."""
    lone.settings["reboot_kexec"] = True
    for system in KERNELS:
        program = Path(lone.system(system)) / "sw/bin/kexec"
        program.parent.mkdir(parents=True)
        program.write_text(_KEXEC.format(folder=lone.folder))
        program.chmod(0o755)
    (Path(lone.system("new")) / "kernel-params").write_text("loglevel=4 root=fstab\n")
    return lone


def kexecs(lone: LoneHost) -> list[str]:
    asked = lone.folder / "kexec-asked"
    return asked.read_text().splitlines() if asked.exists() else []


def test_where_the_admin_asks_for_it_the_new_kernel_is_started_by_kexec_with_notice(with_kexec: LoneHost) -> None:
    host = booted(with_kexec)
    take_it(host)
    new = with_kexec.system("new")
    assert kexecs(with_kexec) == [
        f"--load|{new}/kernel|--initrd={new}/initrd|--append=loglevel=4 root=fstab init={new}/init|"
    ]
    (asked,) = [line for line in with_kexec.asked() if line.startswith("kexec")]
    assert asked.startswith("kexec --when=+5min --message=Bento: the kernel")
    assert shutdowns(with_kexec) == []
    reboot_if_wanted(host)  # once is enough, this way too
    assert len(kexecs(with_kexec)) == 1


@pytest.mark.parametrize("lacking", ["program", "parameters", "a kernel that loads", "a systemd that can"])
def test_a_host_that_cannot_start_it_so_reboots_the_usual_way_with_nothing_loaded(
    with_kexec: LoneHost, lacking: str
) -> None:
    folder, new = with_kexec.folder, Path(with_kexec.system("new"))
    if lacking == "program":
        (new / "sw/bin/kexec").unlink()
    elif lacking == "parameters":
        (new / "kernel-params").unlink()
    elif lacking == "a kernel that loads":
        (folder / "kexec-fails").touch()
    else:
        systemctl = folder / "bin/systemctl"
        systemctl.write_text(systemctl.read_text() + "[ $1 != kexec ]\n")
    take_it(booted(with_kexec))
    (asked,) = shutdowns(with_kexec)
    assert asked.startswith("shutdown --reboot +5 Bento: the kernel")
    assert "so it reboots by its firmware" in with_kexec.said[-1]
    did = {"a kernel that loads": ["--load"], "a systemd that can": ["--load", "--unload"]}
    assert [line.split("|")[0] for line in kexecs(with_kexec)] == did.get(lacking, [])


def test_going_back_is_by_the_firmware(with_kexec: LoneHost) -> None:
    host = booted(with_kexec)
    with_kexec.fault("new", "test", "exit 2", when="after")
    with_kexec.refuse("old", "test")
    assert take_it(host)[0] == "failed"
    assert len(shutdowns(with_kexec)) == 1
    assert kexecs(with_kexec) == []


def test_a_kernel_that_waits_is_forgotten_when_another_release_comes(
    with_kexec: LoneHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    scheduled, loaded = with_kexec.folder / "scheduled", with_kexec.folder / "loaded"
    monkeypatch.setattr(systemd, "_SCHEDULED", scheduled)
    monkeypatch.setattr(systemd, "_LOADED", loaded)
    for there in (False, True):
        scheduled.touch()
        loaded.write_text("1\n" if there else "0\n")
        take_it(booted(with_kexec))
        assert kexecs(with_kexec) == (["--unload|"] if there else [])
