"""Deleting rows by age (specification 7)."""
