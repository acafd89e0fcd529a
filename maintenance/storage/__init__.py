"""Validibot's files: where they are, and how they are deleted so that they are surely gone."""
