"""The containers that Validibot's validators run in: their labels, their engine, the orphans."""
