"""The value of `--watch-spot`: whose metadata service is asked, and where it is."""

from __future__ import annotations

CLOUDS = ("aws", "gcp", "azure")


def checked(text: str) -> str:
    """`aws`, `gcp`, `azure`, or `aws=http://host:port` for a service at another address.

    Raises:
        ValueError: anything else.
    """
    cloud, _, address = text.strip().partition("=")
    if cloud.lower() not in CLOUDS or ("=" in text and not _is_address(address)):
        raise ValueError(text)
    return f"{cloud.lower()}={address}" if address else cloud.lower()


def _is_address(address: str) -> bool:
    from urllib.parse import urlsplit  # dear, and wanted here alone

    try:
        parts = urlsplit(address)
        return parts.scheme == "http" and bool(parts.hostname) and (parts.port or 80) > 0
    except ValueError:
        return False
