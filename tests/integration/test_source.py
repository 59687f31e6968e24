"""A flake repository that an admin has already: hosts get it as it is, and nothing of it is changed."""

import subprocess
from pathlib import Path

from bento.demo.systems import System, write_flake
from rig import MakeRoot
from rig.world import World, said


def git(folder: Path, *args: str) -> None:
    who = ("-c", "user.name=a person", "-c", "user.email=person@example.org")
    subprocess.run(["git", "-C", folder, *who, *args], check=True, capture_output=True, timeout=30)


def contents(folder: Path) -> dict[str, tuple[int, int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_hosts_of_one_flake_repository_get_what_git_tracks_and_build_the_same_path(world: World) -> None:
    web, db = world.add("web"), world.add("db")
    repository = world.folder / "my-flake"
    write_flake(repository, {web.name: System("web of the repository"), "Data": System("db of the repository")})
    git(repository, "init", "-q")
    git(repository, "add", ".")
    git(repository, "commit", "-qm", "first")
    (repository / "notes.key").write_text("MARKER-untracked")
    (repository / "new.nix").write_text("{ }")
    settings = world.fleet / "bento.toml"
    text = settings.read_text().replace('\naction = "switch"', '\nsource = "../my-flake"\naction = "switch"', 1)
    settings.write_text(text.replace(f"[hosts.{db.name}]\n", f'[hosts.{db.name}]\nattribute = "Data"\n'))
    before = contents(repository)
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"MARKER-secret")

    done = world.try_bento("deploy")
    assert done.returncode == 0, said(done)
    assert "git doesn't track new.nix" in said(done)
    assert said(done).count("git doesn't track") == 1

    web.run()
    db.run()
    for machine, message in ((web, "web of the repository"), (db, "db of the repository")):
        seen = world.status(machine)
        assert seen["state"] == "up to date"
        assert machine.root.running() == seen["published"]["system"]
        assert machine.root.path(f"{machine.root.running()}/etc/message").read_text().strip() == message
    assert web.secret("token") == b"MARKER-secret"
    assert contents(repository) == before
    published = [path.read_bytes() for path in world.sshd.publish.rglob("*") if path.is_file()]
    assert not any(b"MARKER-untracked" in data for data in published)
    # the same path that the admin's own build in the repository gives
    there = world.admin.text(
        ["nix", "eval", "--raw", f'.#nixosConfigurations."{web.name}".config.system.build.toplevel.outPath'],
        cwd=repository,
    )
    assert there == web.root.running()


def test_the_hint_for_a_missing_lock_works_as_typed_and_keeps_secrets_out_of_the_nix_store(
    world: World, make_root: MakeRoot
) -> None:
    web = world.add("web")
    dependency = world.folder / "dependency"
    dependency.mkdir()
    (dependency / "flake.nix").write_text('{ outputs = _: { word = "from the input"; }; }')
    write_flake(web.source, {web.name: System()})
    flake = (web.source / "flake.nix").read_text()
    flake = flake.replace("outputs = { self }:", "outputs = { self, dependency }:")
    (web.source / "flake.nix").write_text(
        flake.replace("{\n", f'{{\n  inputs.dependency.url = "path:{dependency}";\n', 1)
    )
    git(world.fleet, "init", "-q")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"x")
    git(world.fleet, "add", ".")

    done = world.try_bento("deploy")
    assert done.returncode == 2, said(done)
    (hint,) = (line for line in said(done).splitlines() if line.startswith("hint: lock them: "))
    locked = world.admin.run(["sh", "-c", hint.removeprefix("hint: lock them: ")], cwd=Path("/"))
    assert locked.returncode == 0, said(locked)
    assert (web.source / "flake.lock").is_file()
    world.bento("deploy")
    web.run()
    assert not list(world.admin.path("/nix/store").rglob("*.age"))
