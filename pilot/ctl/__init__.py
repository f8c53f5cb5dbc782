"""C{pilotctl}: a command table, one module for each family of commands, and what they share.

A run reads the table, parses the arguments, and imports only the module of the one command it
carries out.  This file imports nothing: every run pays for it.
"""
