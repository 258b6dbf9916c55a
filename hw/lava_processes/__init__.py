"""Lava Processes of ours. Lava executes every file of this folder whenever it compiles one."""
