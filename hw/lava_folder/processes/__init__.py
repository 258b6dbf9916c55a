"""Processes of a deployment folder. Lava executes every file of this folder when it compiles."""
