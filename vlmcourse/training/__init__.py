"""Training: one visible loop, checkpoints that survive a power cut, and the choice of number format."""
