"""Errors of what no band rests on: runs with speculation, and layouts of many devices."""
