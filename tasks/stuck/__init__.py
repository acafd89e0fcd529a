"""Timing out validation runs that hang (specification 6)."""
