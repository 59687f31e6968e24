"""What the admin's machine does."""
