"""paramiko, loaded in two thirds of its time: without invoke and the YAML parser that comes with it.

paramiko uses invoke for `Match exec` in ssh_config alone, a file that Bento never reads, and does without
where there is none. Import paramiko from here, and from nowhere else.
"""

import sys

_here = "invoke" in sys.modules
if not _here:
    sys.modules["invoke"] = None  # type: ignore[assignment]  # importlib's own way to say: there is none
try:
    import paramiko
finally:
    if not _here:
        del sys.modules["invoke"]

__all__ = ["paramiko"]
