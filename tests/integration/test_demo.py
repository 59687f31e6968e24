"""`bento demo` as a person runs it: what it shows, how it ends, and that it leaves nothing."""

import json
import os
import pwd
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

BENTO = Path(sys.executable).parent / "bento"
FEWEST_CHECKS = 23


@pytest.fixture
def temporary(as_root: None, tmp_path: Path) -> Iterator[Path]:
    """The folder that the demo makes its own in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    before = on_the_real_machine()
    yield folder
    assert on_the_real_machine() == before, "it made something outside its folder"


def on_the_real_machine() -> list[str]:
    """Which of the things that the demo's machines have are on the real one too."""
    accounts = [user.pw_name for user in pwd.getpwall() if user.pw_name in ("alpha", "beta")]
    return accounts + [path for path in ("/nix", "/demo", "/run/bento", "/run/current-system") if os.path.lexists(path)]


def start(temporary: Path, *args: str, **env: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [BENTO, "--debug", "demo", *args],
        env={**os.environ, "TMPDIR": str(temporary), **env},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def users(folder: Path) -> list[str]:
    """Processes that know of the folder, by command line, environment or mounts."""
    needle = os.fsencode(folder)
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdecimal() and int(process.name) != os.getpid():
            for file in ("cmdline", "environ", "mountinfo"):
                with suppress(OSError):
                    if needle in (process / file).read_bytes():
                        found.append(f"{process.name} {file}: {(process / 'cmdline').read_bytes()!r}")
    return found


def assert_nothing_runs(temporary: Path) -> None:
    assert users(temporary) == []
    assert str(temporary) not in Path("/proc/self/mountinfo").read_text()


def listening(pid: int) -> set[str]:
    """The addresses that a process listens on, in the kernel's hex."""
    sockets = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed just now
            sockets.add(str(descriptor.readlink()))
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if f"socket:[{fields[9]}]" in sockets and fields[3] in ("0A", "07"):
                found.add(fields[1].partition(":")[0])
    return found


def read_until(demo: subprocess.Popen[str], text: str) -> str:
    assert demo.stdout is not None
    shown = ""
    for line in demo.stdout:
        shown += line
        if text in line:
            return shown
    raise AssertionError(f"the demo never said {text!r}: {shown}")


def test_the_whole_cycle_works_and_leaves_nothing(temporary: Path) -> None:
    home = temporary.parent / "home"
    home.mkdir()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    demo = start(temporary, HOME=str(home), SSH_AUTH_SOCK="/nowhere/agent", BENTO_DIR="/nowhere", NAME="nobody")
    shown = read_until(demo, "$ bento deploy")
    assert users(temporary), "the search for processes finds none even while there are some"
    addresses = listening(demo.pid)
    shown += demo.communicate(timeout=200)[0]

    assert demo.returncode == 0, shown
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime < 60, "that many seconds of one processor"
    assert addresses == {"0100007F"}, "it listens on 127.0.0.1 and nothing else"
    table = shown.partition("What was checked\n")[2].splitlines()
    checked = [line for line in table if re.match(r"ok  |FAILED", line)]
    assert len(checked) >= FEWEST_CHECKS
    assert all(line.startswith("ok  ") for line in checked)
    assert f"{len(checked)} of {len(checked)} checks ok" in table
    assert "\x1b" not in shown, "plain when piped"
    for line in (
        "admin$ bento init acme --address 127.0.0.1",
        "(writes hosts/alpha/flake.nix)",
        "admin$ bento secret add alpha - --name app/token --restart app.service",
        "admin$ bento deploy",
        "beta$ bento-agent --config agent.toml run",
        ": succeeded: installed without a rebuild",
        "without nixpkgs",
        "(the attacker edits alpha's manifest)",
        "is older than",
        "the release is for the host 'beta', this is 'alpha'",
        "stands in for systemctl",
    ):
        assert line in shown
    assert list(temporary.iterdir()) == []
    assert list(home.rglob("*")) == []
    assert_nothing_runs(temporary)


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, "This plays"),
        (signal.SIGHUP, "This plays"),
        (signal.SIGINT, "alpha$ bento-agent"),
        (signal.SIGTERM, "alpha$ bento-agent"),
    ],
)
def test_a_demo_that_is_stopped_leaves_nothing(temporary: Path, number: signal.Signals, moment: str) -> None:
    demo = start(temporary)
    read_until(demo, moment)
    if number == signal.SIGINT:
        os.killpg(demo.pid, number)  # as Ctrl-C does
    else:
        demo.send_signal(number)
    shown = demo.communicate(timeout=200)[0]
    assert demo.returncode == 130, shown
    assert "error: stopped" in shown
    assert "Traceback" not in shown
    assert list(temporary.iterdir()) == []
    assert_nothing_runs(temporary)


def test_even_a_killed_demo_leaves_no_process_and_no_mount(temporary: Path) -> None:
    demo = start(temporary)
    read_until(demo, "alpha$ bento-agent")
    demo.kill()
    demo.communicate(timeout=200)
    deadline = time.monotonic() + 120
    while users(temporary) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert_nothing_runs(temporary)


def test_a_command_that_fails_ends_it_and_leaves_nothing(temporary: Path, tmp_path: Path) -> None:
    """A nix that can't build stands first on the PATH."""
    broken = tmp_path / "bin"
    broken.mkdir()
    (broken / "nix-build").write_text("#!/bin/sh\necho 'error: no space left' >&2\nexit 1\n")
    (broken / "nix-build").chmod(0o755)
    demo = start(temporary, PATH=f"{broken}:{os.environ['PATH']}")
    shown = demo.communicate(timeout=200)[0]
    assert demo.returncode == 1, shown
    assert "error: beta: the build failed" in shown
    assert "error: the demo stopped" in shown
    assert list(temporary.iterdir()) == []
    assert_nothing_runs(temporary)


def test_a_restart_that_does_not_happen_fails_a_check_and_keep_leaves_the_folder_and_says_where(
    temporary: Path,
) -> None:
    """In the middle of the play the recorder is swapped for one that does nothing."""
    demo = start(temporary, "--keep")
    shown = read_until(demo, "A secret is replaced")
    for folder in temporary.iterdir():
        (folder / "alpha/demo/systemctl").write_text("#!/bin/sh\ntrue\n")
    shown += demo.communicate(timeout=200)[0]
    assert demo.returncode == 1, shown
    assert "FAILED  alpha: systemctl was asked for just: try-restart -- app.service" in shown
    (kept,) = temporary.iterdir()
    assert f"left there to look at: {kept}" in shown
    assert kept.stat().st_mode & 0o777 == 0o700
    assert (kept / "admin/demo/acme/bento.toml").is_file()
    assert (kept / "admin/demo/chroot/alpha/release/manifest").is_file()
    assert not list((kept / "alpha/run/bento").iterdir()), "plaintext was on its tmpfs only, and is gone with it"
    assert_nothing_runs(temporary)


def test_an_attack_that_succeeds_fails_the_demo(temporary: Path) -> None:
    """As the attacks begin, alpha's floor is lowered, as a person there could, so it takes the older one."""
    demo = start(temporary)
    shown = read_until(demo, "Somebody takes over the server")
    for folder in temporary.iterdir():
        floor = folder / "alpha/demo/state/floor.json"
        lowered = {"line": None, "over": 2**53 - 1, "progress": "accepted", "serial": 1, "tries": 0}
        floor.write_text(json.dumps(lowered))
    shown += demo.communicate(timeout=200)[0]
    assert demo.returncode == 1, shown
    assert "puts an older release of alpha's back" in shown
    assert "on alpha, ended with exit 0" in shown
    assert list(temporary.iterdir()) == []
