"""Source files as trees, for tests that hold the code to a rule."""

import ast
from pathlib import Path


def parsed(path: Path) -> ast.Module:
    """The file's tree.

    Python 3.11 keeps one depth for all threads, and another that prints a traceback meanwhile has it raise SystemError
    (gh-106905): then once more.
    """
    text = path.read_text("utf-8")
    try:
        return ast.parse(text)
    except SystemError:
        return ast.parse(text)
