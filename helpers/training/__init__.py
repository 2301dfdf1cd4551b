"""Networks, starts, ordinary and private step, loop, checkpoints, recipe, prediction, self-test."""
