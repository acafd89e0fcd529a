"""Work in batches: slices, cursors, scans, claims and bisection."""
