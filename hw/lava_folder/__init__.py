"""What a deployment folder runs. `hw.deploy` copies these files beside a network; there they know
nothing of spikeport and need lava-nc, lava-dl and numpy only."""
