"""The guarantee: accounting, sampling and noise, clipping, ledger, register.

Knows no cohort and no notebook.
"""
