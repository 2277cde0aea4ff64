"""Layers written as other layers that take less time."""
