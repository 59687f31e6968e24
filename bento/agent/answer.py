"""The trigger socket's program: somebody has connected, so the agent polls, and he is told how that ended.

He may be anybody. Nothing that he sends is read. What he is told is an exit code with a word for it
(models/trigger.py), never what a build, a service or a report says. Whoever connects next waits out the rest of `GAP`.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from bento.adapters.systemd import Systemd
from bento.models.trigger import GREETING, RUNNING, WORDS

UNIT = "bento-agent.service"
GAP = 10.0  # seconds between two polls that are asked for so
BEAT = 15.0  # seconds between two signs of life
LONGEST = 3600.0  # seconds that one waits for a run's end


def answer(systemd: Systemd, tell: Callable[[str], None]) -> None:
    """Have the agent's unit run once, from now; `tell` gets a line for each step. Raises EnvironmentFailed."""
    tell(GREETING)
    tell("polling")
    with ThreadPoolExecutor(1) as pool:
        ran: Future[int | None] = pool.submit(systemd.run_once, UNIT, LONGEST)
        while True:
            try:
                code = ran.result(BEAT)
                break
            except TimeoutError:
                tell(RUNNING)
    tell("not started" if code is None else f"ended {code}: {WORDS.get(code, WORDS[1])}")
