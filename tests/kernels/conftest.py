"""Puts this folder's helper modules within reach of the tests in the folders below."""
