"""Whom we believe when we call by TLS: the machine's authorities, or the ones that a service is pinned to."""

from __future__ import annotations

import os
import ssl


def trusting(ca_file: str | None) -> ssl.SSLContext:
    """What a connection to an upstream is made with. There is no way to have it verify less.

    `ca_file` takes the place of the machine's authorities. Raises OSError or ValueError when it cannot be read.

    Nothing of the environment is heard: `ssl.create_default_context` would take authorities from SSL_CERT_FILE and
    SSL_CERT_DIR, and write the secrets of all connections to SSLKEYLOGFILE.
    """
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    # A name counts where it stands as one (RFC 9110, section 4.3.4); anybody may be called anything.
    made.hostname_checks_common_name = False
    if ca_file is not None:
        made.load_verify_locations(cafile=ca_file)
        return made
    machine = ssl.get_default_verify_paths()
    file = machine.openssl_cafile if os.path.isfile(machine.openssl_cafile) else None
    folder = machine.openssl_capath if os.path.isdir(machine.openssl_capath) else None
    if file or folder:
        made.load_verify_locations(file, folder)
    return made
