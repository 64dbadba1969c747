"""Constructions that replace what a runtime lacks or gets wrong, each exact or within the error it states."""
