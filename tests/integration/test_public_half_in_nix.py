"""A host's configuration reads the public half of a secret that Bento generated, with real Nix on both sides."""

from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from bento.demo.systems import System, flake
from rig.world import World


def test_a_configuration_reads_another_hosts_public_half_and_both_sides_build_the_same(world: World) -> None:
    web, peer = world.add("web"), world.add("peer")
    world.bento("secret", "generate", peer.name, "login", "--kind", "ssh-ed25519")
    read = f"${{builtins.readFile ./utils/public/{peer.name}/login.pub}}"
    (web.source / "utils").symlink_to("../../utils")
    (web.source / "flake.nix").write_text(flake({web.name: System("KEY")}).replace('"KEY"', f'"{read}"'))
    world.bento("deploy")

    assert "builds another system" not in web.run()
    peer.run()

    assert web.root.running() == world.status(web)["published"]["system"]
    there = web.root.path(f"{web.root.running()}/etc/message").read_bytes()
    private = peer.secret("login")
    assert private is not None
    pair = load_ssh_private_key(private, password=None).public_key()
    assert load_ssh_public_key(there.strip()) == pair

    # a new pair is a new system, on both sides
    before = web.root.running()
    world.bento("secret", "generate", peer.name, "login", "--kind", "ssh-ed25519", "--replace")
    world.bento("deploy")
    web.run()
    assert web.root.running() == world.status(web)["published"]["system"] != before
