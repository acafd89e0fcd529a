"""Work in batches: slices, keyset cursors, scans of a table, bisection of a refused batch."""
