"""What is written or sent: frozen, strict, parsed at the edge."""
