"""What the scripts do, a module for each, as functions of a configuration.

torch takes most of a second to import: what needs it is imported where it is used, so that mistakes are told and
corpora prepared without it.
"""
