"""Advances a population by segments on the devices of one process."""
