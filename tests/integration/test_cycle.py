"""The main job, end to end: sshd, Nix, tmpfs and ssh-keygen are real; only systemctl is a recorder."""

from rig.world import World, said


def test_a_secret_and_a_configuration_reach_a_flake_host_and_the_admin_sees_it(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "db/password", stdin=b"hunter2")
    world.bento("deploy")
    assert world.status(web)["state"] == "new machine"

    print(web.run())

    published = world.status(web)
    assert published["state"] == "up to date"
    assert published["secrets"] == {"installed": 1, "expected": 1}
    assert web.secret("db/password") == b"hunter2"
    assert web.root.running() == published["published"]["system"] == web.root.profile() == web.root.boot_default()
