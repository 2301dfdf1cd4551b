"""One tidy table in, one Axes out. Imports nothing of ours."""
