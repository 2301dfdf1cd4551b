"""From predictions to answers: metrics, bootstrap, contrasts, verdicts. Never torch, never an image."""
