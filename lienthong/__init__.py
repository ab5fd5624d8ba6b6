"""Liên Thông: keeps dossiers and citizen records the same in every system of a city, and proves it."""

__version__ = "0.1.0"
