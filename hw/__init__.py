"""Chips, mapping, Lava and boards."""
