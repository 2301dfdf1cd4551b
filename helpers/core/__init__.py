"""Errors, parameters, whole files, fingerprints, run records, random streams. Imports nothing of ours."""
