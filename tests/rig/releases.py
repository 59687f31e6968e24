"""What tests of a host's secrets do with a World all the time: declare, deploy, look at what the host made of it."""

from bento.demo.systems import SWITCH_HOOK
from rig.world import PROGRAMS, Machine, World


def add(world: World, machine: Machine, name: str, content: bytes, *options: str) -> None:
    world.bento("secret", "add", machine.name, "-", "--name", name, *options, stdin=content)


def declare(world: World, text: str) -> None:
    toml = world.fleet / "secrets/secrets.toml"
    toml.write_text(f"{toml.read_text()}\n{text}\n")


def edit(world: World, old: str, new: str) -> None:
    toml = world.fleet / "secrets/secrets.toml"
    text = toml.read_text()
    assert old in text
    toml.write_text(text.replace(old, new))


def template(machine: Machine, name: str, text: str, *lines: str) -> str:
    attributes = "\n".join(lines)
    return f"[[template]]\ntarget = \"{machine.name}\"\nname = \"{name}\"\n{attributes}\ntext = '''\n{text}'''\n"


def take(world: World, machine: Machine, code: int = 0) -> str:
    world.bento("deploy")
    return machine.run(code)


def shown(machine: Machine, path: str) -> str:
    return machine.root.text(["stat", "-L", "-c", "%U:%G %a", path])


def exists(machine: Machine, path: str) -> bool:
    return machine.root.run(["test", "-e", path]).returncode == 0


def hook(machine: Machine, *lines: str) -> None:
    """What the system's activation does; `install` in it is this machine's `bento-agent install-secrets`."""
    script = machine.root.path(SWITCH_HOOK)
    script.parent.mkdir(parents=True, exist_ok=True)
    command = f"{PROGRAMS}/bento-agent --config {machine.config} install-secrets --system"
    script.write_text("\n".join(lines).replace("install", f'{command} "$1"') + "\n")


def for_users(world: World, machine: Machine, name: str, content: bytes) -> None:
    add(world, machine, name, content)
    edit(world, f'name = "{name}"\n', f'name = "{name}"\nusers = true\n')
