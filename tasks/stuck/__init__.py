"""The watchdog over runs that hang (specification 6)."""
