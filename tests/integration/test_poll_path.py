"""The poll that finds nothing new, which every host makes every few minutes, loads none of the slow libraries."""

import json
import sys

from rig.world import Machine, World, said

# What such a poll has no use for. paramiko (with nacl) and click it needs; `invoke` brings yaml, asyncio and unittest.
SLOW = {
    "pydantic",
    "pydantic_core",
    "pyrage",
    "rich",
    "tomlkit",
    "platformdirs",
    "invoke",
    "yaml",
    "asyncio",
    "unittest",
    "importlib.metadata",
    "email",
}

_RUN = """
import json, sys
sys.argv = ["bento-agent", "--config", sys.argv[1], "run"]
from bento.cli.agent import main
try:
    main()
except SystemExit as ended:
    print(json.dumps([ended.code, sorted(sys.modules)]))
"""


def polled(machine: Machine) -> tuple[int, str, set[str]]:
    """`bento-agent run` on the host: exit code, what it said, and every module that it had loaded by its end."""
    done = machine.root.run([sys.executable, "-c", _RUN, machine.config], timeout=200)
    *lines, last = done.stdout.decode().splitlines()
    assert last.startswith("["), said(done)
    code, modules = json.loads(last)
    return code, "\n".join(lines), set(modules)


def test_a_poll_with_nothing_new_loads_no_slow_library(world: World) -> None:
    web = world.add("web")
    world.bento("secret", "add", web.name, "-", "--name", "token", stdin=b"x")
    world.bento("deploy")
    code, _, modules = polled(web)
    assert code == 0
    assert {"pydantic", "pyrage"} <= modules  # the control: with something new they are needed, and this sees them

    code, told, modules = polled(web)
    assert (code, "nothing new" in told) == (0, True), told
    assert "paramiko" in modules  # the control: it did poll
    assert modules & SLOW == set()
    assert not [name for name in modules if name.startswith(("bento.admin", "bento.demo"))]
