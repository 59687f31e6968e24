"""Writes the manual pages of bento-agent into a folder: for its package, which comes without `bento man`."""

import sys
from pathlib import Path

from bento.cli.agent import agent
from bento.cli.man import pages

for title, text in pages(agent, "bento-agent"):
    Path(sys.argv[1], f"{title}.1").write_text(text, encoding="utf-8")
