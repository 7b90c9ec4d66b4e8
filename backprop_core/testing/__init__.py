"""Fakes and contract suites that are shipped, so that plugins can test against them."""
