"""The recipe for Django, as an application."""
