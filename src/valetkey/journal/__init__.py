"""The record of all calls and all management actions: append, chain, recover, prove, read.

The format is specified in docs/formats/journal.md; anyone can check a journal without this code.
"""
