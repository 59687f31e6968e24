"""What may leave the fleet folder for a host: its own files and what they link to inside, and never a secret."""

import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from unit.samples import bound_by_modes, key_file

from bento.admin import pack
from bento.admin.pack import Tree, collect
from bento.errors import InputError

AGE_IDENTITY = "AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L" * 2


@pytest.fixture
def web(fleet_root: Path) -> Path:
    return fleet_root / "hosts/web"


def collected(web: Path) -> Tree:
    return collect(web, web.parents[1], "web")


def content(web: Path) -> dict[str, bytes | None]:
    """The tree as a reader of the tar sees it: a folder is None."""
    return {e.name: None if e.is_folder else e.source.read_bytes() for e in collected(web).entries}


def complaint(web: Path) -> InputError:
    with pytest.raises(InputError) as error:
        collected(web)
    return error.value


def test_files_folders_and_execution_are_kept(web: Path) -> None:
    (web / "mod").mkdir()
    (web / "mod/x.nix").write_text("1")
    (web / "run.sh").write_text("2")
    (web / "run.sh").chmod(0o755)
    (web / ".hidden").write_text("3")
    assert content(web) == {
        "configuration.nix": b"{ }\n",
        "mod": None,
        "mod/x.nix": b"1",
        "run.sh": b"2",
        ".hidden": b"3",
    }
    assert [e.name for e in collected(web).entries if e.executable] == ["run.sh"]
    assert collected(web).kind == "channel"


def test_a_symlink_out_of_the_fleet_is_refused_by_name(web: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("the admin's")
    for target in (tmp_path / "outside", Path("/etc/passwd"), Path("../../../outside"), Path("/root"), tmp_path):
        (web / "leak").symlink_to(target)
        error = complaint(web)
        assert error.message.startswith("hosts/web/leak is a symlink that leads out of the fleet")
        (web / "leak").unlink()


def test_a_symlink_by_way_of_another_is_refused_too(web: Path, fleet_root: Path) -> None:
    (fleet_root / "utils/hop").symlink_to("/etc")
    (web / "leak").symlink_to("../../utils/hop/passwd")
    assert "leads out of the fleet, to /etc/passwd" in complaint(web).message
    (web / "leak").unlink()
    (web / "utils").symlink_to("../../utils")
    assert complaint(web).message.startswith("utils/hop is a symlink that leads out")


def test_a_fleet_s_sibling_with_the_same_beginning_is_outside(web: Path, fleet_root: Path) -> None:
    sibling = fleet_root.with_name("fleet-secret")
    sibling.mkdir()
    (sibling / "x").write_text("x")
    (web / "leak").symlink_to(sibling / "x")
    assert "leads out" in complaint(web).message


def test_a_symlink_inside_is_followed_as_a_copy(web: Path, fleet_root: Path) -> None:
    (fleet_root / "utils/common.nix").write_text("shared")
    (web / "utils").symlink_to("../../utils")
    (web / "one.nix").symlink_to("../../utils/common.nix")
    tree = content(web)
    assert tree["utils"] is None
    assert tree["utils/common.nix"] == tree["one.nix"] == b"shared"
    assert not any(entry.source.is_symlink() for entry in collected(web).entries)


@pytest.mark.parametrize("target", ["../../secrets", "../../secrets/secrets.toml", "../../secrets/web/db.age"])
def test_a_symlink_into_the_secret_store_is_refused(web: Path, target: str, fleet_root: Path) -> None:
    (fleet_root / "secrets/web").mkdir()
    (fleet_root / "secrets/web/db.age").write_bytes(b"age")
    (web / "leak").symlink_to(target)
    error = complaint(web)
    assert error.message.startswith("hosts/web/leak leads into secrets/")
    assert any("/run/bento/secrets" in hint for hint in error.hints)


@pytest.mark.parametrize("target", [".", "..", "../..", "../web"])
def test_a_symlink_in_a_circle_is_refused(web: Path, target: str) -> None:
    (web / "circle").symlink_to(target)
    assert complaint(web).message.endswith("is a symlink that leads in a circle")


@pytest.mark.parametrize("target", ["gone", "../../utils/gone", "me"])
def test_a_symlink_to_nothing_is_refused(web: Path, target: str) -> None:
    (web / "me").symlink_to(target)
    assert "symlink" in complaint(web).message


def test_tools_own_folders_and_build_results_are_skipped(web: Path) -> None:
    for folder in (".git", ".direnv"):
        (web / folder).mkdir()
        (web / folder / "x").write_text("x")
    (web / "sub").mkdir()
    (web / "sub/.git").write_text("gitdir: elsewhere")
    for link in ("result", "result-man", "sub/result"):
        (web / link).symlink_to("/nix/store/" + "a" * 32 + "-x")
    assert set(content(web)) == {"configuration.nix", "sub"}


def test_a_result_that_leads_elsewhere_or_a_store_link_of_another_name_is_refused(web: Path) -> None:
    (web / "result").symlink_to("/etc")
    assert "leads out" in complaint(web).message
    (web / "result").unlink()
    (web / "other").symlink_to("/nix/store/" + "a" * 32 + "-x")
    assert "leads out" in complaint(web).message


@pytest.mark.parametrize("kind", ["a FIFO", "a link to nothing", "a circle", "a private key"])
def test_a_hint_names_a_file_as_one_word_whatever_its_name_would_do_in_a_shell(web: Path, kind: str) -> None:
    """Hints are there to be typed; whoever can add a file to the repository may choose its name."""
    name = "x; touch owned; $(reboot) `id` 'y"
    path = web / name
    if kind == "a FIFO":
        os.mkfifo(path)
    elif kind == "a link to nothing":
        path.symlink_to("nowhere")
    elif kind == "a circle":
        path.symlink_to(".")
    else:
        path.write_text(AGE_IDENTITY)
    typed = [hint for hint in complaint(web).hints if re.search(r"\b(rm|bento) ", hint)]
    assert typed
    for hint in typed:
        assert shlex.split(hint)[-1] == f"hosts/web/{name}"


def test_a_private_key_is_refused_and_never_quoted(web: Path, tmp_path: Path) -> None:
    pem = tmp_path / "pem"
    subprocess.run(["ssh-keygen", "-q", "-t", "rsa", "-b", "1024", "-m", "PEM", "-N", "", "-f", str(pem)], check=True)
    keys = (key_file(tmp_path / "k", 5).read_text(), pem.read_text(), AGE_IDENTITY, AGE_IDENTITY.lower())
    for key in keys:
        escaped = key.replace("\n", "\\n")
        for text in (key, f'x = "{key}";', f'x = "{escaped}";', key.replace("\n", "\r\n"), "\n" * 70_000 + key):
            (web / "key.nix").write_text(text, newline="")
            error = complaint(web)
            assert error.message.startswith("hosts/web/key.nix holds a private key")
            assert "use bento secret add web hosts/web/key.nix" in error.hints
            assert key.splitlines()[-1][:30] not in error.message + "".join(error.hints)


def test_a_private_key_behind_a_symlink_is_refused(web: Path, fleet_root: Path) -> None:
    (fleet_root / "utils/id").write_text(AGE_IDENTITY)
    (web / "id").symlink_to("../../utils/id")
    assert "private key" in complaint(web).message


@pytest.mark.parametrize(
    "text",
    [
        "# never put AGE-SECRET-KEY-1… here",
        "# AGE-SECRET-KEY-",
        "AGE-SECRET-KEY-" + "X" * 60,
        "# looks like -----BEGIN OPENSSH PRIVATE KEY-----\n# and so on",
        'error = "no -----BEGIN RSA PRIVATE KEY----- found";',
        "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n",
        "-----BEGIN CERTIFICATE-----\nMIIBszCCAVmgAwIBAgIUQ1\n",
    ],
)
def test_a_comment_that_only_mentions_keys_passes(web: Path, text: str) -> None:
    (web / "x.nix").write_text(text)
    assert content(web)["x.nix"] == text.encode()


@pytest.mark.timeout(60)
def test_a_fifo_or_socket_is_refused_without_waiting(web: Path) -> None:
    os.mkfifo(web / "pipe")
    assert complaint(web).message == "hosts/web/pipe is neither a file nor a folder"


@pytest.mark.parametrize("name", [b"a\nb", b"\x1b[2J", b"\xff", b"\x7f"])
def test_a_file_name_that_could_mislead_is_refused_and_shown_harmlessly(web: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(web) + b"/" + name)).write_text("x")
    assert complaint(web).message.isprintable()


def test_what_cannot_be_read_is_named(web: Path) -> None:
    (web / "locked.nix").write_text("x")
    (web / "locked.nix").chmod(0o000)
    with bound_by_modes():
        assert complaint(web).message == "can't read hosts/web/locked.nix: Permission denied"
    (web / "locked.nix").unlink()
    (web / "locked").mkdir(mode=0o000)
    with bound_by_modes():
        assert complaint(web).message == "can't read hosts/web/locked: Permission denied"


def test_there_is_an_end_to_files_and_bytes(web: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pack, "LIMITS", replace(pack.LIMITS, tree_entries=2, tree_bytes=100))
    (web / "a").write_bytes(b"x" * 50)
    collected(web)
    (web / "b").write_bytes(b"")
    assert "2 files at most" in complaint(web).message
    (web / "b").unlink()
    (web / "a").write_bytes(b"x" * 200)
    assert "100 bytes at most" in complaint(web).message


@pytest.mark.parametrize(
    "text",
    [
        '{ inputs.nixpkgs.url = "x"; outputs = _: { }; }',
        '{\n  inputs = {\n    nixpkgs.url = "x";\n  };\n}',
        '{ inputs={nixpkgs.url="x";}; }',
        '{ # inputs\n  inputs.a.follows = "b"; }',
        '{ description = "a # b"; inputs.a.url = "x"; outputs = _: { }; }',
        "{ description = ''/* ''; inputs.a.url = \"x\"; outputs = _: { }; }",
        "{ outputs = { self, nixpkgs }: { }; }",  # an input that only its use declares
        "{ outputs = inputs@{ nixpkgs ? null, ... }: { }; }",
        '{ "inputs" = { "nixpkgs" = { url = "x"; }; }; outputs = _: { }; }',
    ],
)
def test_a_flake_with_inputs_needs_a_lock(web: Path, text: str) -> None:
    (web / "flake.nix").write_text(text)
    error = complaint(web)
    assert error.message == "hosts/web/flake.nix has inputs but no flake.lock"
    assert any("flake lock" in hint for hint in error.hints)
    (web / "flake.lock").write_text("{}")
    assert collected(web).kind == "flake"


@pytest.mark.parametrize(
    "text",
    [
        "{ outputs = _: { }; }",
        "{ inputs = { }; outputs = inputs: { }; }",
        "{ # inputs.nixpkgs.url = x\n outputs = _: { }; }",
        "{ /* inputs = {\n a = 1; }; */ outputs = _: { }; }",
        "{ outputs = { self, ... }@inputs: { x = inputs.self; }; }",
        "{ inputs.self.submodules = true; outputs = { self }: { }; }",
        '{ description = "inputs.nixpkgs"; outputs = _: { inputs.a = 1; }; }',
    ],
)
def test_a_flake_without_inputs_needs_none(web: Path, text: str) -> None:
    (web / "flake.nix").write_text(text)
    assert collected(web).kind == "flake"


def test_what_is_wrong_in_a_flake_is_left_for_its_build_to_say(web: Path) -> None:
    (web / "flake.nix").write_text("{ outputs = ; }")
    assert collected(web).kind == "flake"


def test_the_lock_check_reads_and_fetches_nothing_else(web: Path, tmp_path: Path) -> None:
    (web / "flake.nix").write_text(
        f'{{ inputs.a.url = "git+file://{tmp_path}/gone"; outputs = {{ self, a }}: throw "evaluated"; }}'
    )
    assert complaint(web).message == "hosts/web/flake.nix has inputs but no flake.lock"


def test_a_marker_of_the_bash_bento_is_named_and_does_nothing(web: Path) -> None:
    assert collected(web).warnings == ()
    for marker in ("REBOOT", "SELF_UPDATE"):
        (web / marker).write_text("")
    reboot, update = collected(web).warnings
    assert reboot.startswith("hosts/web/REBOOT does nothing here")
    assert "hosts/web/SELF_UPDATE does nothing here" in update


def test_a_folder_that_is_missing_or_holds_no_configuration_is_named(web: Path, fleet_root: Path) -> None:
    (web / "configuration.nix").unlink()
    assert complaint(web).message == "hosts/web has neither a flake.nix nor a configuration.nix"
    web.rmdir()
    error = complaint(web)
    assert error.message == "the folder hosts/web isn't there"
    assert any("mkdir" in hint for hint in error.hints)


@pytest.mark.parametrize("target", ["/etc", "../..", "../secrets", "../secrets/web"])
def test_a_source_that_is_itself_a_link_outside_or_into_the_secret_store_is_refused(
    web: Path, fleet_root: Path, target: str
) -> None:
    (web / "configuration.nix").unlink()
    web.rmdir()
    (fleet_root / "secrets/web").mkdir()
    web.symlink_to(target)
    assert complaint(web).message.startswith("hosts/web ")


def test_the_secret_store_named_as_a_source_is_refused(fleet_root: Path) -> None:
    (fleet_root / "secrets/web").mkdir()
    (fleet_root / "secrets/web/configuration.nix").write_text("{ }")
    for source in ("secrets", "secrets/web"):
        with pytest.raises(InputError, match="leads into secrets/"):
            collect(fleet_root / source, fleet_root, "web")


def test_a_source_that_is_a_link_inside_the_fleet_is_packed(web: Path, fleet_root: Path) -> None:
    (web / "configuration.nix").unlink()
    web.rmdir()
    web.symlink_to("db")
    (fleet_root / "hosts/db/again.nix").symlink_to("configuration.nix")
    assert content(web) == {"configuration.nix": b"{ }\n", "again.nix": b"{ }\n"}


def test_a_long_run_of_header_lines_is_searched_quickly() -> None:
    """Exponential backtracking would hang here; a process of its own, so that it can be stopped."""
    lines = "b'-----BEGIN PRIVATE KEY-----\\n' + b'A: ' * 5000 + b'!' + b'\\nA: b' * 5000 + b' ' * 5000 + b'!'"
    code = f"from bento.admin.pack import _PRIVATE\nassert not _PRIVATE.search({lines})"
    subprocess.run([sys.executable, "-c", code], timeout=200, check=True)
