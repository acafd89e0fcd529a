"""The preflight of `python -m maintenance check`: database, storage, container engine."""
