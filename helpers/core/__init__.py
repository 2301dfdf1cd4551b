"""Errors, parameters, whole files, fingerprints, run records, random streams."""
