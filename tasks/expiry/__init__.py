"""Deleting rows by age (SPEC 7)."""
