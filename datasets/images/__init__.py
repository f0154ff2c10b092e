"""Images: found, checked and read."""
