"""What `python -m maintenance check` looks at here: the database, the storage, the engine."""
