"""What a person on the host asks of the agent."""

from bento.agent.host import Host
from bento.agent.turn import locked
from bento.core import trust_rules


def retry(host: Host) -> str:
    """Let the next run try a release that failed as if it were new. Returns a sentence. Raises AgentBusy, Damaged."""
    with locked(host):
        floor = host.state.floor()
        if floor is None:
            return "no release has come yet"
        if floor.progress != "failed":
            return f"release {floor.serial} hasn't failed: there is nothing to try again"
        host.state.write_floor(trust_rules.retried(floor))
    return f"release {floor.serial} will be tried again by the next run: bento-agent run"
