"""The chip's language (`FixedNet`), its meaning (`reference`), and what is measured on it."""
