"""Certificates of a small authority, made by openssl(1)."""

import subprocess
from pathlib import Path
from typing import final


def openssl(*words: str) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


@final
class Authority:
    """certificate: its own."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.certificate = folder / f"{name}.pem"
        self.key = folder / f"{name}.key"
        made = ("-keyout", str(self.key), "-out", str(self.certificate))
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", "-x509", *curve, *made, "-days", "2", "-subj", f"/CN={name}")

    def signed(self, name: str) -> tuple[Path, Path]:
        """Certificate and key of this name, for 127.0.0.1."""
        request, certificate, key = (self.folder / f"{name}.{end}" for end in ("csr", "pem", "key"))
        extension = self.folder / f"{name}.ext"
        extension.write_text("subjectAltName = IP:127.0.0.1\n")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
        openssl("req", *curve, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
        by = ("-CA", str(self.certificate), "-CAkey", str(self.key), "-CAcreateserial")
        made = ("-in", str(request), "-out", str(certificate), "-days", "2", "-extfile", str(extension))
        openssl("x509", "-req", *made, *by)
        return certificate, key
