"""The fleet folder as commands see it: found from anywhere inside, overridden locally, each host with its own key."""

import base64
import json
import subprocess
from pathlib import Path

import click
import pytest
from unit.samples import FLEET, public

from bento.admin import inventory
from bento.admin.inventory import find_fleet, load_fleet, load_trust, note_fleet
from bento.admin.workspace import Workspace
from bento.cli.where import fleet_root as root_of_command
from bento.errors import InputError
from bento.models import fleet as models
from bento.models.strict import Source, parse_toml
from bento.names import HostName
from bento_secrets.recipients import Recipient

WEB, DB = HostName("web"), HostName("db")


def append(root: Path, text: str, name: str = "bento.toml") -> None:
    with (root / name).open("a") as file:
        file.write(text)


def test_hosts_come_in_the_file_s_order_with_what_follows_from_their_keys(fleet_root: Path) -> None:
    fleet = load_fleet(fleet_root)
    assert list(fleet.hosts) == [WEB, DB]
    db = fleet.hosts[DB]
    assert [key.blob for key in db.keys] == [public(12).blob, public(13).blob]
    assert db.recipient == Recipient.of_host_key(public(12))
    assert db.source == fleet_root / "hosts/db"
    assert db.attribute == "db"
    assert fleet.members[0].tags == {"front"}
    assert load_trust(fleet_root).fleet == FLEET


def test_the_local_file_wins_by_key(fleet_root: Path) -> None:
    (fleet_root / "bento.local.toml").write_text('[signing]\nkeys = ["own", "~/x"]\n[hosts.web]\nattribute = "w"\n')
    fleet = load_fleet(fleet_root)
    assert fleet.signing_keys == (fleet_root / "own", Path("~/x").expanduser())
    assert fleet.hosts[WEB].attribute == "w"
    assert fleet.hosts[WEB].tags == ("front",)


def test_remote_arguments_reach_hosts_and_local_ones_don_t(fleet_root: Path) -> None:
    append(fleet_root, '[build]\nargs = ["--both"]\nremote_args = ["--there"]\nlocal_args = ["--here"]\n')
    assert load_fleet(fleet_root).hosts[WEB].settings.args == ("--both", "--there")


def test_how_a_host_reboots_is_signed_with_its_release_and_a_wrong_word_for_it_is_named(fleet_root: Path) -> None:
    append(fleet_root, '[defaults]\nreboot = "when-needed"\nreboot_window = "02:00-05:00"\n')
    before = (fleet_root / "bento.toml").read_text()
    (fleet_root / "bento.local.toml").write_text(
        '[hosts.db]\nreboot = "never"\nreboot_notice = 30\nreboot_kexec = true\n'
    )
    settings = {name: host.settings for name, host in load_fleet(fleet_root).hosts.items()}
    assert (settings[WEB].reboot, settings[WEB].reboot_window, settings[WEB].reboot_notice) == (
        "when-needed",
        "02:00-05:00",
        5,
    )
    assert (settings[DB].reboot, settings[DB].reboot_notice) == ("never", 30)
    assert (settings[WEB].reboot_kexec, settings[DB].reboot_kexec) == (False, True)
    for old, new, key in (("when-needed", "always", "reboot"), ("02:00-05:00", "2-5", "reboot_window")):
        (fleet_root / "bento.toml").write_text(before.replace(old, new))
        with pytest.raises(InputError, match=key):
            load_fleet(fleet_root)


@pytest.mark.parametrize("number", [11, 12, 13])
def test_the_same_key_on_two_hosts_is_refused(fleet_root: Path, number: int) -> None:
    other = "web" if number == 11 else "db"
    append(fleet_root, f'[hosts.copy]\nkeys = ["{public(30).line}", "{public(number).line} comment"]\n')
    with pytest.raises(InputError, match=rf"bento\.toml:18: copy and {other} have the same key"):
        load_fleet(fleet_root)


def test_a_host_may_name_its_own_key_twice(fleet_root: Path) -> None:
    append(fleet_root, f'[hosts.twice]\nkeys = ["{public(30).line}", "{public(30).line}"]\n')
    assert len(load_fleet(fleet_root).hosts[HostName("twice")].keys) == 2


def test_a_key_that_is_none_or_can_t_be_sealed_to_is_named_by_line_and_host(fleet_root: Path) -> None:
    append(fleet_root, '[hosts.bad]\nkeys = ["ssh-ed25519 nonsense"]\n')
    with pytest.raises(InputError, match=r"bento\.toml:18: the key of bad is wrong"):
        load_fleet(fleet_root)


@pytest.mark.parametrize("first", [True, False])
def test_every_key_of_a_host_has_to_be_sound_whether_anything_is_sealed_to_it_or_not(
    fleet_root: Path, *, first: bool
) -> None:
    blob = b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"\1" + bytes(31)  # a point of order 1
    keys = [f"ssh-ed25519 {base64.b64encode(blob).decode()}", public(14).line]
    append(fleet_root, f"[hosts.bad]\nkeys = {json.dumps(keys if first else keys[::-1])}\n")
    with pytest.raises(InputError, match=r"bento\.toml:18: the key of bad is wrong: .* no sound point"):
        load_fleet(fleet_root)


def test_the_same_keys_are_checked_once_and_one_more_has_all_of_them_checked(
    fleet_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(fleet_root.parent / "state"))
    checked: list[bytes] = []
    monkeypatch.setattr(inventory, "check_host_key", lambda key: checked.append(key.blob))
    workspace = Workspace(fleet_root)
    workspace.prepare()
    load_fleet(fleet_root)
    fleet = load_fleet(fleet_root)
    assert len(checked) == 6
    assert {path.name for path in workspace.root.iterdir()} == {"trees", "roots"}  # who only reads keeps nothing
    note_fleet(fleet, workspace)  # as a deploy does
    load_fleet(fleet_root)
    assert len(checked) == 6
    append(fleet_root, f'[hosts.more]\nkeys = ["{public(14).line}"]\n')
    load_fleet(fleet_root)
    assert checked[6:] == [public(number).blob for number in (11, 12, 13, 14)]


@pytest.fixture
def toml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The files that were read as TOML."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    read: list[str] = []
    monkeypatch.setattr(models, "parse_toml", lambda text, name: read.append(name) or parse_toml(text, name))
    return read


def test_after_a_deploy_the_same_settings_are_not_read_from_toml_again(fleet_root: Path, toml: list[str]) -> None:
    append(fleet_root, 'source = "hosts/größer"\n')
    append(fleet_root, "[build]\njobs = 3\n", "bento.local.toml")
    workspace = Workspace(fleet_root)
    workspace.prepare()
    fleet = load_fleet(fleet_root)
    note_fleet(fleet, workspace)
    toml.clear()
    assert load_fleet(fleet_root) == fleet
    assert fleet.file.build.jobs == 3
    assert toml == []
    append(fleet_root, "[defaults]\nreboot_notice = 9\n")
    assert load_fleet(fleet_root).hosts[WEB].settings.reboot_notice == 9
    (fleet_root / "bento.local.toml").write_text("[build]\njobs = 4\n")
    assert load_fleet(fleet_root).file.build.jobs == 4
    (fleet_root / "bento.local.toml").unlink()
    assert load_fleet(fleet_root).file.build.jobs is None
    assert len(toml) == 5


def test_settings_that_are_remembered_wrongly_are_read_again(fleet_root: Path, toml: list[str]) -> None:
    workspace = Workspace(fleet_root)
    workspace.prepare()
    fleet = load_fleet(fleet_root)
    note_fleet(fleet, workspace)
    kept = workspace.root / "settings"
    assert kept.stat().st_mode & 0o777 == 0o600  # bento.toml may be nobody else's to read
    whole = kept.read_bytes()
    for data in (b"", b"\xff", whole[:-1], whole.replace(b'"web"', b'"wep"'), whole.replace(b"0.1.0", b"0.0.9")):
        kept.write_bytes(data)
        toml.clear()
        assert load_fleet(fleet_root) == fleet
        assert toml == ["bento.toml"]
    workspace.note("settings", inventory._texts(Source("", (fleet_root / "bento.toml").read_text()), None), '{"x": 1}')
    assert load_fleet(fleet_root) == fleet  # another Bento's, of the same version


def test_an_admin_s_recipient_is_checked(fleet_root: Path) -> None:
    append(fleet_root, '[secrets]\nadmins = ["age1nonsense"]\n')
    with pytest.raises(InputError, match=r"bento\.toml:18: secrets\.admins number 1 is wrong"):
        load_fleet(fleet_root)


@pytest.mark.parametrize("source", ["..", ".", "hosts/../..", "/"])
def test_a_source_that_is_the_whole_fleet_or_above_it_is_refused(fleet_root: Path, source: str) -> None:
    append(fleet_root, f'[hosts.x]\nkeys = ["{public(30).line}"]\nsource = "{source}"\n')
    with pytest.raises(InputError, match=r"bento\.toml:19: the source of x"):
        load_fleet(fleet_root)


def test_hosts_of_one_flake_share_a_source(fleet_root: Path) -> None:
    append(fleet_root, f'[hosts.x]\nkeys = ["{public(30).line}"]\nsource = "hosts/web/"\nattribute = "y"\n')
    one = load_fleet(fleet_root).hosts[HostName("x")]
    assert (one.source, one.attribute) == (fleet_root / "hosts/web", "y")


def test_files_that_can_t_be_read_are_named(fleet_root: Path) -> None:
    (fleet_root / "utils/trust.toml").unlink()
    with pytest.raises(InputError, match=r"trust\.toml: No such file"):
        load_trust(fleet_root)
    (fleet_root / "bento.toml").write_bytes(b"\xff")
    with pytest.raises(InputError, match="not UTF-8"):
        load_fleet(fleet_root)


def test_a_fleet_is_found_from_any_folder_inside(fleet_root: Path) -> None:
    for start in (fleet_root, fleet_root / "hosts", fleet_root / "hosts/web"):
        assert find_fleet(start, None) == fleet_root.resolve()


def test_outside_of_one_the_hint_is_how_to_make_or_name_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not in a fleet") as error:
        find_fleet(tmp_path, None)
    assert any("bento init" in hint for hint in error.value.hints)
    assert any("--dir" in hint for hint in error.value.hints)


def test_a_named_folder_is_taken_as_it_is_never_searched_upwards(fleet_root: Path, tmp_path: Path) -> None:
    assert find_fleet(tmp_path, fleet_root) == fleet_root.resolve()
    with pytest.raises(InputError, match="is no fleet"):
        find_fleet(fleet_root, fleet_root / "hosts")


def test_bento_dir_names_the_fleet_and_the_option_beats_it(
    fleet_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option = click.Option(["--dir", "directory"])

    def asked(*args: str) -> Path:
        return root_of_command(click.Command("bento", params=[option]).make_context("bento", list(args)))

    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError):
        asked()
    monkeypatch.setenv("BENTO_DIR", "fleet")
    assert asked() == fleet_root.resolve()
    monkeypatch.setenv("BENTO_DIR", "/nonexistent")
    assert asked("--dir", str(fleet_root)) == fleet_root.resolve()
    monkeypatch.setenv("BENTO_DIR", "")
    monkeypatch.chdir(fleet_root / "hosts")
    assert asked() == fleet_root.resolve()


def test_outside_of_git_a_missing_trust_file_is_to_come_from_a_host_and_no_git_is_named(fleet_root: Path) -> None:
    (fleet_root / "utils/trust.toml").unlink()
    with pytest.raises(InputError) as error:
        load_trust(fleet_root)
    assert not any("checkout" in hint for hint in error.value.hints)
    assert f"scp root@HOST:/etc/bento/trust.toml {fleet_root}/utils/trust.toml" in error.value.hints[1]


def test_the_hint_for_a_missing_file_brings_it_back_from_any_folder(fleet_root: Path, tmp_path: Path) -> None:
    def sh(command: str) -> None:
        subprocess.run(["sh", "-euc", command], cwd=tmp_path, check=True, capture_output=True)

    sh(f"git init -q {fleet_root} && cd {fleet_root} && git add . && git -c user.name=a -c user.email=a commit -qm a")
    (fleet_root / "utils/trust.toml").unlink()
    with pytest.raises(InputError) as error:
        load_trust(fleet_root)
    sh(error.value.hints[0].removeprefix("take it from git: "))
    load_trust(fleet_root)
