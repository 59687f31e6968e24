"""What programs that evaluate may say, and what is made of it. Stand-ins all of them; real Nix is elsewhere."""

from pathlib import Path

import pytest

from bento.adapters.evaluation import Flake, alone, by_eval_jobs, together
from bento.adapters.nix import BuildFailed, BuildInput, Derivation

A, B = Derivation("/nix/store/a.drv", "/nix/store/a"), Derivation("/nix/store/b.drv", "/nix/store/b")


@pytest.fixture
def flake(tmp_path: Path) -> Flake:
    return Flake(tmp_path, ("a", "web.b", "c"), ("--fallback",))


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> None:
    """A program of that name, first on the PATH, that leaves its arguments in `argv`."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{folder}/argv\n{script}\n')
    (folder / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}/bin:/usr/bin:/bin")


def told(name: str, of: Derivation) -> str:
    return f'{{"bento":"{name}","drv":"{of.drv}","out":"{of.out}"}}'


def test_together_gives_what_was_said_before_the_process_was_killed(
    flake: Flake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[tuple[str, str]] = []
    program(
        tmp_path,
        monkeypatch,
        "nix",
        f"""
        echo 'warning: slow' >&2
        echo 'trace: {told("a", A)}' >&2
        echo 'trace: a configuration says this' >&2
        echo 'trace: [1]' >&2
        echo 'trace: {told("elsewhere", B)}' >&2
        kill -9 $$""",
    )
    assert together(flake, lambda name, line: heard.append((name, line))) == {"a": A}
    assert heard == [("a", "warning: slow"), ("web.b", "trace: a configuration says this"), ("web.b", "trace: [1]")]
    argv = (tmp_path / "argv").read_text()
    assert '[ "a" "web.b" "c" ]' in argv
    assert "--no-write-lock-file" in argv
    assert argv.endswith("--fallback\n")


def test_nix_eval_jobs_lines_are_taken_by_their_path_and_others_left_aside(
    flake: Flake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [
        '{"attr":"a","attrPath":["a"],"drvPath":"/nix/store/a.drv","name":"a","outputs":{"out":"/nix/store/a"},"x":1}',
        '{"attr":"\\"web.b\\"","attrPath":["web.b"],"drvPath":"/nix/store/b.drv","outputs":{"out":"/nix/store/b"}}',
        '{"attr":"c","attrPath":["c"],"error":"broken"}',
        '{"attr":"c","attrPath":["c"],"drvPath":"/nix/store/b.drv","outputs":{"out":null}}',
        '{"attrPath":["not asked for"],"drvPath":"/nix/store/b.drv","outputs":{"out":"/nix/store/b"}}',
        "no JSON",
        "[" * 100_000,
        '"text"',
    ]
    (tmp_path / "said").write_text("\n".join(lines))
    program(tmp_path, monkeypatch, "nix-eval-jobs", f"cat {tmp_path}/said; exit 1")
    assert by_eval_jobs(flake, 3, 2**31) == {"a": A, "web.b": B}
    argv = (tmp_path / "argv").read_text().splitlines()
    assert argv[argv.index("--workers") + 1] == "3"
    assert argv[argv.index("--max-memory-size") + 1] == "2048"
    assert argv[-1] == f"path:{tmp_path}#nixosConfigurations"
    by_eval_jobs(flake, 1, None)
    assert "--max-memory-size" not in (tmp_path / "argv").read_text()


@pytest.mark.parametrize("said", ["", "null", '{"drv":"/nix/store/a.drv"}', '""'])
def test_an_evaluation_that_gives_no_system_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    program(tmp_path, monkeypatch, "nix", f"echo '{said}'")
    with pytest.raises(BuildFailed, match="the evaluation gave no system"):
        alone(BuildInput(tmp_path, "flake", "a"))


def test_a_host_alone_is_told_with_the_memory_that_it_took(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "nix", f"""echo '{{"drv":"{A.drv}","out":"{A.out}"}}'""")
    derivation, peak = alone(BuildInput(tmp_path, "flake", "a"))
    assert derivation == A
    assert peak > 2**18
    program(tmp_path, monkeypatch, "nix-instantiate", f"""printf '"{B.drv}""{B.out}"'""")
    assert alone(BuildInput(tmp_path, "channel", None, ("--arg", "x", "1")))[0] == B
    argv = (tmp_path / "argv").read_text().splitlines()
    assert argv[-3:] == ["--arg", "x", "1"]
    assert f"nixos-config={tmp_path}/configuration.nix" in argv
