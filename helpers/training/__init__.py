"""Networks, starts, the ordinary and the private step, loop and checkpoints, recipe, prediction, self-test."""
