"""Training on batches of images."""
