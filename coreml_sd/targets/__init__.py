"""Exporters of the mobile form, one folder each."""
