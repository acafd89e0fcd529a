"""Storage of Validibot's files: where they are, deleting them verifiably, saving evidence."""
