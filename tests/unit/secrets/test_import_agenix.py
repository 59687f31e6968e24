"""agenix's rules as Nix prints them, and age files as others seal them."""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from bento_secrets.admin_identities import load_admin_identities
from bento_secrets.errors import InputError, OpenFailed
from bento_secrets.importing import agenix, limits
from bento_secrets.importing.found import Runner, read_regular
from bento_secrets.importing.opening import open_file


def prints(rules: Any) -> Runner:
    def run(argv: Sequence[str], *, env: Mapping[str, str], timeout: float, pass_fds: tuple[int, ...] = ()) -> bytes:
        assert argv[0] == "nix-instantiate"
        assert env == {"NIX_PATH": ""}
        assert timeout == limits.IMPORT_LIMITS.EVALUATION
        return rules if isinstance(rules, bytes) else json.dumps(rules).encode()

    return run


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "rules"
    (made / "sub").mkdir(parents=True)
    (made / "secrets.nix").write_text("{ }")
    (made / "a.age").write_bytes(b"x")
    (made / "sub/b.age").write_bytes(b"x")
    return made


def found(folder: Path, rules: Any) -> list[tuple[str, str, str | None]]:
    return [(one.source, one.name, one.problem) for one in agenix.find(folder, prints(rules))]


def test_rules_and_files_are_matched(folder: Path) -> None:
    rules = {"sub/b.age": ["k"], "./a.age": [], "gone.age": ["k"], "plain": ["k"]}
    (folder / "plain").write_bytes(b"x")
    (folder / "stray.age").write_bytes(b"x")
    assert found(folder, rules) == [
        ("./a.age", "a", None),
        ("gone.age", "gone", "there is no such file"),
        ("plain", "plain", None),
        ("sub/b.age", "sub/b", None),
        ("stray.age", "stray", "secrets.nix doesn't name it"),
    ]


def test_no_file_outside_the_folder_is_taken(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "out.age").write_bytes(b"x")
    (folder / "link.age").symlink_to("../out.age")
    (folder / "loop.age").symlink_to("loop.age")
    (folder / "dir.age").mkdir()
    os.mkfifo(folder / "fifo.age")
    absolute = "/etc/passwd"
    files = ["../out.age", absolute, "link.age", "loop.age", "dir.age", "fifo.age", "a\0b.age"]
    problems = {source: problem for source, _, problem in found(folder, {file: ["k"] for file in files})}
    outside = "it lies outside the folder"
    assert problems["../out.age"] == problems[absolute] == problems["link.age"] == outside
    assert all(problems[name] for name in ("loop.age", "dir.age", "fifo.age", "a\\x00b.age"))


def test_a_file_that_is_too_large_is_left_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bento_secrets.importing.agenix.IMPORT_LIMITS", limits.ImportLimits(MAX_FILE=0))
    assert found(folder, {"a.age": ["k"]})[0][2] == "it is too large"


@pytest.mark.parametrize(
    "rules",
    [
        b"",
        b"[" * 100_000,
        [],
        "x",
        {"a.age": "k"},
        {"a.age": [1]},
        {"a.age": ["k"] * 2000},
        {str(n): [] for n in range(6000)},
        b" " * (16 * 2**20 + 1),
    ],
)
def test_rules_of_another_shape_are_refused(folder: Path, rules: Any) -> None:
    with pytest.raises(InputError, match=r"secrets\.nix"):
        found(folder, rules)


def test_a_folder_without_rules_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no secrets\.nix"):
        agenix.find(tmp_path, prints({}))


def sealed(path: Path, *arguments: str, content: bytes = b"hunter2") -> Path:
    subprocess.run(["age", "-e", *arguments, "-o", str(path)], input=content, check=True)
    return path


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
@pytest.mark.parametrize("armour", [(), ("-a",)])
def test_ages_own_ssh_stanzas_open(key_folder: Path, tmp_path: Path, kind: str, armour: tuple[str, ...]) -> None:
    file = sealed(tmp_path / "x.age", *armour, "-R", str(key_folder / f"{kind}.pub"))
    loaded = load_admin_identities([key_folder / kind], lambda _: "")
    assert open_file(file, loaded).data == b"hunter2"


def test_a_file_for_more_recipients_than_a_host_accepts_opens(key_folder: Path, tmp_path: Path) -> None:
    lines = [(key_folder / "ed25519.pub").read_text()] * 99 + [(key_folder / "ed25519b.pub").read_text()]
    (tmp_path / "recipients").write_text("".join(lines))
    file = sealed(tmp_path / "x.age", "-R", str(tmp_path / "recipients"))
    loaded = load_admin_identities([key_folder / "ed25519b"], lambda _: "")
    assert open_file(file, loaded).data == b"hunter2"


def test_the_wrong_identity_is_told_and_names_file_and_next_step(key_folder: Path, tmp_path: Path) -> None:
    file = sealed(tmp_path / "x.age", "-R", str(key_folder / "ed25519.pub"))
    loaded = load_admin_identities([key_folder / "ed25519b", key_folder / "rsa"], lambda _: "")
    with pytest.raises(OpenFailed, match=r"x\.age could not be opened") as caught:
        open_file(file, loaded)
    assert "SSH private key" in caught.value.hints[0]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no age file"),
        (b"age-encryption.org/v2\n", "no age file"),
        (b"age-encryption.org/v1\n-> X25519 " + b"A" * 600_000, "no header that ends"),
        (b"age-encryption.org/v1\n-> scrypt AAAA 18\nAAAA\n--- AAAA\n", "passphrase"),
        (b"age-encryption.org/v1" + b"\n-> X25519 A\nA" * 2000 + b"\n--- A\n", "more than 1024 recipients"),
        (b"-----BEGIN AGE ENCRYPTED FILE-----\n!\n", "damaged"),
        (b"age-encryption.org/v1\n-> X25519 A\nA\n--- A\n", "could not be opened"),
    ],
)
def test_damaged_or_hostile_files_are_refused(key_folder: Path, tmp_path: Path, content: bytes, why: str) -> None:
    (tmp_path / "x.age").write_bytes(content)
    loaded = load_admin_identities([key_folder / "ed25519"], lambda _: "")
    with pytest.raises(OpenFailed, match=why):
        open_file(tmp_path / "x.age", loaded)


def test_only_regular_files_of_the_allowed_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    os.mkfifo(tmp_path / "fifo")
    assert read_regular(tmp_path / "file", 5) == b"12345"
    for name, limit in (("file", 4), ("link", 5), ("fifo", 5), ("none", 5)):
        with pytest.raises(InputError):
            read_regular(tmp_path / name, limit)
    with pytest.raises(InputError, match="regular"):
        read_regular(tmp_path, 5)
