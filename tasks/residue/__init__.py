"""Residue: what stamped rows still hold, in files and in rows, and bundles without a run row."""
