"""Integrations with other libraries; each needs an extra of the package."""
