"""Promises that several implementations keep, each tested on all of them."""
