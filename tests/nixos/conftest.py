"""These tests take a nixpkgs tree, whole or only its lib: `make nixos-tests BENTO_TEST_NIXPKGS=/path`."""

import os

from rig.nixos import TREE

collect_ignore_glob = [] if TREE in os.environ else ["test_*.py"]
