"""What trainings on batches share, whatever a sample is: the loop, its options, checkpoints, and the result."""
