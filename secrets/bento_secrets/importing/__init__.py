"""What other tools sealed, taken over: agenix's folders and sops-nix's. Their files are read, never written."""
