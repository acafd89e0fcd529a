"""The demo, and what the tests and benchmarks share with it: servers, processes, sample data."""
