"""The work pool and its job templates."""
