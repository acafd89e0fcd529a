"""Reproducible measurements beside the plain-SQL limit and the row-by-row way."""
