"""The drawn cohorts: chest and abdomen phantoms with planted effects."""
