"""The TLS context of the metrics server."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ssl import SSLContext


def context(certificate: str, key: str, client_ca: str) -> "SSLContext":
    """From PEM files. client_ca: clients need a certificate signed by it; empty: no client certificate.

    Raises OSError for a file that cannot be read, and its subclass SSLError for one whose content is wrong.
    """
    import ssl  # commands start without it

    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    made.load_cert_chain(certificate, key, password=b"")  # an encrypted key is an error, not a question
    if client_ca:
        made.load_verify_locations(client_ca)
        made.verify_mode = ssl.CERT_REQUIRED
    return made
