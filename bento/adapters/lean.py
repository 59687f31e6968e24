"""paramiko without `invoke`, whose import (with yaml, asyncio and unittest) takes as long as all that a poll needs.

paramiko can do without: it wants it for `Match exec` in ssh_config files alone, which Bento doesn't read, and takes its
absence for an answer. None in sys.modules is Python's own way to say that a module isn't there (importlib's reference).
"""

import sys

if "invoke" in sys.modules:
    import paramiko
else:
    sys.modules["invoke"] = None  # type: ignore[assignment]
    try:
        import paramiko
    finally:
        del sys.modules["invoke"]

__all__ = ["paramiko"]
