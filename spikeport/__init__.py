"""spikeport: spiking networks from training to neuromorphic chips, without losing a spike.

The source lives in the repository's top-level folders and installs as `spikeport.train`,
`spikeport.export`, `spikeport.hw` and `spikeport.sim`; the four links beside this file make the
uninstalled checkout look the same to Python, type checkers and editors.
"""

__version__ = "0.1.0"
