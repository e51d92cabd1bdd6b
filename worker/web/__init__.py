"""The HTTP API and the live page: a client of the relay like any other, behind tokens and roles.

Needs the extra ``web``; nothing outside this package and ``vmrelay web`` imports it.
"""
