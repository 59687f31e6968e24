"""What the README shows is what happens."""

import re
import shutil
import subprocess
from pathlib import Path

from bento.demo.systems import System, write_configuration
from bento.models.agent_settings import parse_agent_settings
from rig import HostUser, MakeRoot, Sshd, make_ssh_key
from rig.world import PROGRAMS, World, said

README = Path(__file__).parents[2] / "README.md"


def block(name: str) -> str:
    """The fenced block between the README's markers of this name."""
    found = re.search(rf"<!-- {name}: begin.*?```\w+\n(.*?)```\n<!-- {name}: end -->", README.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


def test_the_tour_works_as_typed(make_root: MakeRoot, sshd: Sshd, tmp_path: Path) -> None:
    admin = make_root("admin")
    make_ssh_key(tmp_path / "web", comment="root@web")
    write_configuration(tmp_path / "web-configuration", System())
    tour = block("tour").replace("/home/chroot", str(sshd.publish))
    done = admin.run(
        ["bash", "-euo", "pipefail", "-c", tour],
        cwd=tmp_path,
        env={"PATH": f"{PROGRAMS}:{admin.env['PATH']}"},
        timeout=200,
    )
    assert done.returncode == 0, said(done)
    assert b"new machine" in done.stdout
    assert (sshd.publish / "web/release/manifest").is_file()


def test_a_publisher_without_root_gets_by_hand_what_he_needs(world: World, host_user: HostUser) -> None:
    web, user, key = world.add("web"), host_user("pub"), make_ssh_key(world.folder / "publisher")
    url = world.sshd.add_publisher(user, [key.line])
    (world.sshd.publish / ".publisher").rmdir()
    by_hand = block("publisher").replace("/home/chroot/web", f"{world.sshd.publish}/{web.name}")
    by_hand = by_hand.replace("/home/chroot", str(world.sshd.publish))
    subprocess.run(
        ["bash", "-euc", by_hand.replace("-o bento", f"-o {user}").replace("-g web", f"-g {web.name}")], check=True
    )
    table = block("sftp").replace("sftp://bento@bento.example.org/home/chroot", url)
    settings = world.fleet / "bento.toml"
    text = settings.read_text()
    before, after = text.split("[publish]\n", 1)[0], text[text.index("[secrets]") :]
    settings.write_text(before + table.replace("~/.ssh/id_ed25519", str(key.path)) + after)
    assert "published 1" in said(world.try_bento("deploy"))
    web.run()
    assert world.status(web)["state"] == "up to date"


def test_the_agents_settings_are_valid_as_shown() -> None:
    assert parse_agent_settings(block("agent")).host == "web"


def test_a_release_is_verified_by_hand_as_shown_and_a_changed_one_is_not(world: World, tmp_path: Path) -> None:
    web = world.add("web")
    world.bento("deploy")
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    for source in (world.manifest(web), world.folder / "signing.pub"):
        shutil.copy(source, by_hand)

    def verify() -> int:
        return subprocess.run(["bash", "-c", block("verify")], cwd=by_hand, capture_output=True, check=False).returncode

    assert verify() == 0
    (by_hand / "manifest").write_bytes(world.manifest(web).read_bytes().replace(b"acme", b"acne", 1))
    assert verify() != 0


def test_its_two_commands_are_targets_of_the_makefile() -> None:
    targets = (README.parent / "Makefile").read_text()
    for command in ("demo", "test", "check", "unit", "fresh"):
        assert f"make {command}" in README.read_text()
        assert re.search(rf"^{command}:", targets, re.MULTILINE)


def test_each_link_leads_to_a_file() -> None:
    for page in (README, *README.parent.glob("docs/*.md")):
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
