"""What others wrote can't steer a person's terminal: it is shown with its control and invisible characters escaped."""

from pathlib import Path

import pytest
from unit.samples import public

from bento.cli.agent_host import say
from rig.desk import Desk
from rig.world import said

ESC = "\x1b]0;owned\x07\x1b[2J\u202e\u200b"
ESCAPED = r"\x1b]0;owned\x07\x1b[2J\u202e\u200b"


def bearable(text: str) -> None:
    assert ESCAPED in text
    assert all(char.isprintable() or char == "\n" for char in text), repr(text)


def test_names_in_a_folder_of_agenix_that_is_imported(desk: Desk) -> None:
    theirs = desk.folder / "theirs"
    theirs.mkdir()
    (theirs / "secrets.nix").write_text(f'{{ "evil{ESC}.age".publicKeys = [ "{public(3).line} who{ESC}" ]; }}\n')
    (theirs / f"evil{ESC}.age").write_text("sealed")
    done = desk.bento("secret", "import", "agenix", str(theirs), "--dry-run")
    bearable(said(done))


def test_names_in_a_folder_of_sops_that_is_imported(desk: Desk) -> None:
    theirs = desk.folder / "theirs"
    theirs.mkdir()
    keys = f"sops:\n  age:\n    - recipient: {public(3).line}\n      enc: x\n  mac: x\n  version: 3.8.0\n"
    (theirs / f"evil{ESC}.yaml").write_text(f'"a\\e[2J": ENC[AES256_GCM,data:x,iv:x,tag:x,type:str]\n{keys}')
    done = desk.bento("secret", "import", "sops", str(theirs), "--dry-run")
    text = said(done)
    assert r"evil\x1b]0;owned\x07" in text
    assert all(char.isprintable() or char == "\n" for char in text), repr(text)


@pytest.mark.programs("nix")
def test_names_in_a_flake_that_hosts_are_found_in(desk: Desk) -> None:
    flake = desk.folder / "flake"
    flake.mkdir()
    (flake / "flake.nix").write_text(f'{{ outputs = _: {{ nixosConfigurations."evil{ESC}" = {{ }}; }}; }}\n')
    done = desk.bento("init", "../new", "--source", "../flake", "--address", "127.0.0.1", "--publish-to", "../publish")
    bearable(said(done))


def test_a_name_of_a_file_in_a_host_s_tree(desk: Desk) -> None:
    (desk.fleet / f"hosts/web/evil{ESC}").write_text("")
    bearable(said(desk.bento("build", "--on", "web")))


def test_what_the_agent_tells_of_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"the server says: {ESC}")
    bearable(capsys.readouterr().err)


def test_a_folder_that_is_no_fleet(desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / f"evil{ESC}"
    folder.mkdir()
    bearable(said(desk.bento("--dir", str(folder), "status")))
