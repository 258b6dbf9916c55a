"""`python -m spikeport` is the `spikeport` command."""

from spikeport.cli import main

if __name__ == "__main__":
    main()
