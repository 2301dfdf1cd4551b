"""From predictions to answers: metrics, bootstrap, contrasts, verdicts; no torch, no image."""
