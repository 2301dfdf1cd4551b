"""Profiles, plan, step cache, report: what runs when."""
