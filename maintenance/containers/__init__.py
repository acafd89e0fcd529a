"""Validator containers: their labels, the container engine, the orphans."""
