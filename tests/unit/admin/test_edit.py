"""`bento host add` changes bento.toml by its own lines only, or not at all."""

from pathlib import Path

import pytest
from unit.samples import public

from bento.admin.edit import add_host, add_key, remove_host, remove_key
from bento.admin.inventory import load_fleet
from bento.errors import InputError
from bento.names import HostName, TagName
from bento_secrets.ssh_keys import SshPublicKey

NEW = HostName("router")
KEY = SshPublicKey.parse(f"{public(20).line} root@router")


def test_a_new_host_is_added_and_everything_else_stays_to_the_byte(fleet_root: Path) -> None:
    before = (fleet_root / "bento.toml").read_text()
    add_host(fleet_root, NEW, (KEY, public(21)), (TagName("dc1"), TagName("edge")))
    after = (fleet_root / "bento.toml").read_text()
    assert after.startswith(before)
    added = load_fleet(fleet_root).hosts[NEW]
    assert [key.blob for key in added.keys] == [KEY.blob, public(21).blob]
    assert added.tags == ("dc1", "edge")
    assert "root@router" in after[len(before) :]


def test_tables_in_any_order_keep_it(fleet_root: Path) -> None:
    path = fleet_root / "bento.toml"
    text = (
        f'# one\n[hosts.web]\nkeys = ["{public(11).line}"] # w\n\n# two\n[build]\njobs = 3\n\n'
        f'# three\n[hosts.db]\nkeys = ["{public(12).line}"]\n\n# four\n[defaults]\naction = "boot"\n'
    )
    path.write_text(text)
    add_host(fleet_root, NEW, (KEY,), ())
    lines = path.read_text().splitlines()
    new = [line for line in lines if line not in text.splitlines()]
    assert new == ["[hosts.router]", f'keys = ["{KEY.line} root@router"]']
    assert [line for line in lines if line and line not in new] == [line for line in text.splitlines() if line]
    assert set(load_fleet(fleet_root).hosts) == {"web", "db", "router"}


def test_the_first_host_of_a_fleet_is_added(fleet_root: Path) -> None:
    (fleet_root / "bento.toml").write_text("# only a comment\n[build]\njobs = 1\n")
    add_host(fleet_root, NEW, (KEY,), ())
    assert (fleet_root / "bento.toml").read_text().startswith("# only a comment\n[build]\njobs = 1\n")
    assert list(load_fleet(fleet_root).hosts) == [NEW]


def unchanged_by(root: Path, name: HostName, *keys: SshPublicKey) -> InputError:
    """The complaint, after which the file is the same file."""
    path = root / "bento.toml"
    before, status = path.read_bytes(), path.stat()
    with pytest.raises(InputError) as error:
        add_host(root, name, keys, ())
    assert path.read_bytes() == before
    assert (path.stat().st_ino, path.stat().st_mtime_ns) == (status.st_ino, status.st_mtime_ns)
    return error.value


def test_a_host_that_is_there_already_is_refused(fleet_root: Path) -> None:
    error = unchanged_by(fleet_root, HostName("web"), KEY)
    assert error.message == "the host web is in bento.toml already"
    assert "see it: bento host show web" in error.hints


@pytest.mark.parametrize("number", [11, 12, 13])
def test_another_host_s_key_is_refused_even_its_second(fleet_root: Path, number: int) -> None:
    owner = "web" if number == 11 else "db"
    other = SshPublicKey.parse(f"{public(number).line} another comment")
    assert unchanged_by(fleet_root, NEW, KEY, other).message == f"this key is the key of {owner}"


def test_a_key_that_nothing_can_be_sealed_to_is_refused(fleet_root: Path) -> None:
    weak = SshPublicKey("ssh-ed25519", b"\0\0\0\x0bssh-ed25519\0\0\0\x20" + b"\x01" + b"\0" * 31, "")
    unchanged_by(fleet_root, NEW, weak)


def test_a_result_that_would_be_no_fleet_is_not_written(fleet_root: Path) -> None:
    assert "hosts.BAD NAME" in unchanged_by(fleet_root, HostName("BAD NAME"), KEY).message


def test_a_fleet_that_is_broken_already_is_not_touched(fleet_root: Path) -> None:
    with (fleet_root / "bento.toml").open("a") as file:
        file.write("[build\n")
    assert "not valid TOML" in unchanged_by(fleet_root, NEW, KEY).message


LAYOUTS = {
    "between others": (
        "# one\n[hosts.web]\nkeys = [{0}]  # w\ntags = []\n\n# two\n\n# db's\n[hosts.db]\nkeys = [{1}]\n",
        "# one\n\n# two\n\n# db's\n[hosts.db]\nkeys = [{1}]\n",
    ),
    "last": (
        "[hosts.db]\nkeys = [{1}]\n\n# web's\n[hosts.web]\nkeys = [\n  {0},  # k\n]\n# inside\ntags = []\n# end\n",
        "[hosts.db]\nkeys = [{1}]\n\n# web's\n# end\n",
    ),
    "quoted, with a comment": (
        '[hosts."web"] # the front\nkeys = [{0}]\n[hosts.db]\nkeys = [{1}]\n',
        "[hosts.db]\nkeys = [{1}]\n",
    ),
    "beside another of a longer name": (
        "[hosts.web2]\nkeys = [{1}]\n[hosts.web]\nkeys = [{0}]\n",
        "[hosts.web2]\nkeys = [{1}]\n",
    ),
    "Windows line ends": (
        "[hosts.web]\r\nkeys = [{0}]\r\n\r\n# two\r\n[hosts.db]\r\nkeys = [{1}]\r\n",
        "\r\n# two\r\n[hosts.db]\r\nkeys = [{1}]\r\n",
    ),
    "the only one": ("# a\n[hosts.web]\nkeys = [{0}]\n# b\n[build]\njobs = 3\n", "# a\n# b\n[build]\njobs = 3\n"),
    "under a header": ("[hosts]\n# c\n[hosts.web]\nkeys = [{0}]\n", "[hosts]\n# c\n"),
}


def filled(text: str) -> bytes:
    return text.replace("{0}", f'"{public(11).line}"').replace("{1}", f'"{public(12).line}"').encode()


@pytest.mark.parametrize(("before", "after"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_host_goes_and_everything_outside_of_its_table_stays_to_the_byte(
    fleet_root: Path, before: str, after: str
) -> None:
    path = fleet_root / "bento.toml"
    path.write_bytes(filled(before))
    remove_host(fleet_root, HostName("web"))
    assert path.read_bytes() == filled(after)
    assert "web" not in load_fleet(fleet_root).hosts


@pytest.mark.parametrize(
    "text",
    [
        "hosts.web.keys = [{0}]\n",
        "[hosts]\nweb = { keys = [{0}] }\n",
        "[hosts.web]\nkeys = [{0}]\n[build]\nargs = ['''\n[hosts.web]\n''']\n",  # looks like its table, and isn't
    ],
)
def test_a_host_that_is_written_otherwise_is_left_to_a_person(fleet_root: Path, text: str) -> None:
    path = fleet_root / "bento.toml"
    path.write_bytes(filled(text))
    with pytest.raises(InputError) as error:
        remove_host(fleet_root, HostName("web"))
    assert error.value.hints == ("take it out there by hand",)
    assert path.read_bytes() == filled(text)


def test_a_host_with_settings_of_this_admin_s_own_is_not_half_removed(fleet_root: Path) -> None:
    (fleet_root / "bento.local.toml").write_text('[hosts.web]\naction = "boot"\n')
    before = (fleet_root / "bento.toml").read_bytes()
    with pytest.raises(InputError, match=r"bento\.local\.toml has settings for web"):
        remove_host(fleet_root, HostName("web"))
    assert (fleet_root / "bento.toml").read_bytes() == before


def test_a_key_comes_after_the_others_and_goes_again_and_comments_stay(fleet_root: Path) -> None:
    path, db = fleet_root / "bento.toml", HostName("db")
    blobs = [public(12).blob, public(13).blob]
    assert [key.blob for key in add_key(fleet_root, db, KEY).hosts[db].keys] == [*blobs, KEY.blob]
    assert "# today's" in path.read_text()
    assert "# tomorrow's" in path.read_text()
    remove_key(fleet_root, db, KEY.fingerprint)
    assert [key.blob for key in load_fleet(fleet_root).hosts[db].keys] == blobs
    remove_key(fleet_root, db, f"{public(13).line} whoever")
    assert [key.blob for key in load_fleet(fleet_root).hosts[db].keys] == blobs[:1]
    assert "# today's" in path.read_text()


@pytest.mark.parametrize("wanted", ["SHA256:x", "", "ssh-ed25519", public(11).line])
def test_a_key_that_the_host_does_not_have_takes_nothing_away(fleet_root: Path, wanted: str) -> None:
    before = (fleet_root / "bento.toml").read_bytes()
    with pytest.raises(InputError, match="db has no such key"):
        remove_key(fleet_root, HostName("db"), wanted)
    assert (fleet_root / "bento.toml").read_bytes() == before


def test_the_key_that_secrets_are_sealed_to_stays(fleet_root: Path) -> None:
    with pytest.raises(InputError, match="to which its secrets are sealed") as error:
        remove_key(fleet_root, HostName("db"), public(12).fingerprint)
    assert error.value.hints == (f"put another first: bento host rekey db --key '{public(13).line}' --keep",)
