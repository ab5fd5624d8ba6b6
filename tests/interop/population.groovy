/*
 * The national population database as another stack serves it: Apache CXF (JAX-WS, contract first) with WSS4J. For tests.
 *
 * Arguments: port, pinned WSDL (URL), key store (PKCS 12) with the service's key, PEM file of the authority whose certificates may ask.
 * Each path lets callers in by one profile, and those after `signed` answer in a way that is not to be believed.
 */
import jakarta.xml.ws.Provider
import jakarta.xml.ws.Service
import jakarta.xml.ws.ServiceMode
import jakarta.xml.ws.WebServiceProvider
import java.security.KeyStore
import java.security.cert.CertificateFactory
import javax.security.auth.callback.CallbackHandler
import javax.xml.parsers.DocumentBuilderFactory
import javax.xml.transform.Source
import javax.xml.transform.TransformerFactory
import javax.xml.transform.dom.DOMResult
import javax.xml.transform.dom.DOMSource
import org.apache.cxf.jaxws.EndpointImpl
import org.apache.cxf.ws.addressing.WSAddressingFeature
import org.apache.cxf.ws.security.wss4j.DefaultCryptoCoverageChecker
import org.apache.cxf.ws.security.wss4j.WSS4JInInterceptor
import org.apache.cxf.ws.security.wss4j.WSS4JOutInterceptor
import org.apache.wss4j.common.crypto.Merlin
import org.w3c.dom.Document
import org.w3c.dom.Element

@WebServiceProvider(targetNamespace = 'http://dancuquocgia.bca', serviceName = 'Population', portName = 'PopulationPort')
@ServiceMode(Service.Mode.PAYLOAD)
class Population implements Provider<Source> {
    static final ASKS = 'http://dancuquocgia.bca', SAYS = 'http://www.mic.gov.vn/dancu/1.0'
    static final NUMBER = '079190000001', NAME = 'NGUYỄN THỊ MAI', BORN = '19900504'

    @Override
    Source invoke(Source request) {
        def read = new DOMResult()
        TransformerFactory.newInstance().newTransformer().transform(request, read)
        def asked = ((Document) read.node).documentElement
        def made = DocumentBuilderFactory.newInstance().newDocumentBuilder().newDocument()
        def known = [text(asked, 'SoDinhDanh'), text(asked, 'HoVaTen'), text(asked, 'NgayThangNam')] == [NUMBER, NAME, BORN]
        made.appendChild(asked.localName == 'XacThucThongTinCongDan' ? verified(made, known) : citizens(made, text(asked, 'MaYeuCau'), known))
        new DOMSource(made)
    }

    private static String text(Element asked, String name) {
        asked.getElementsByTagNameNS(ASKS, name).item(0)?.textContent
    }

    private static Element verified(Document made, boolean known) {
        def answer = made.createElementNS(ASKS, 'KetQuaXacThuc')
        add(answer, 'TonTai', known.toString())
        answer
    }

    private static Element citizens(Document made, String request, boolean known) {
        def answer = made.createElementNS(SAYS, 'ns2:CongdanCollection')
        def about = [SoCongDan: known ? '1' : '0', ThoiDiemDuLieu: '2026-10-01T08:00:00+07:00', id: request]
        about.each { name, value -> answer.setAttribute(name, value) }
        if (known) {
            def citizen = add(answer, 'CongDan')
            add(citizen, 'SoDinhDanh', NUMBER)
            add(add(citizen, 'HoVaTen'), 'Ten', NAME)
            add(citizen, 'GioiTinh', '2')
            add(add(citizen, 'NgayThangNamSinh'), 'NgayThangNam', BORN)
            def home = add(citizen, 'ThuongTru')
            [MaTinhThanh: '79', MaPhuongXa: '26740', ChiTiet: '12 Đường Số 1'].each { name, value -> add(home, name, value) }
            def father = add(citizen, 'Cha')
            add(father, 'SoDinhDanh', '079060000002')
            add(add(father, 'HoVaTen'), 'Ten', 'NGUYỄN VĂN AN')
        }
        answer
    }

    private static Element add(Element parent, String name, String text = '') {
        def made = parent.ownerDocument.createElementNS(parent.namespaceURI, (parent.prefix ? parent.prefix + ':' : '') + name)
        made.textContent = text
        parent.appendChild(made)
        made
    }
}

def (port, wsdl, keys, authority) = args
def secret = 'a secret of the test'
CallbackHandler passwords = { callbacks -> callbacks.each { if (it.identifier in ['us', 'service']) it.password = secret } }
def trusted = KeyStore.getInstance('PKCS12').tap { load(null, null) }
new File(authority).withInputStream { trusted.setCertificateEntry('authority', CertificateFactory.getInstance('X.509').generateCertificate(it)) }
def crypto = new Merlin(keyStore: KeyStore.getInstance(new File(keys), secret.toCharArray()), trustStore: trusted)

// WSS4J refuses requests that are signed by other algorithms than these.
def signing = [signaturePropRefId: 'crypto', crypto: crypto,
               signatureAlgorithm: 'http://www.w3.org/2001/04/xmldsig-more#rsa-sha256',
               signatureDigestAlgorithm: 'http://www.w3.org/2001/04/xmlenc#sha256']
def sha1 = [signatureAlgorithm: 'http://www.w3.org/2000/09/xmldsig#rsa-sha1', signatureDigestAlgorithm: 'http://www.w3.org/2000/09/xmldsig#sha1']
def body = '{}{http://schemas.xmlsoap.org/soap/envelope/}Body'
def parts = [body, '{}{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd}Timestamp',
             '{}{http://www.w3.org/2005/08/addressing}RelatesTo'].join(';')

def serve = { String path, List incoming, Map answering = null ->
    def endpoint = new EndpointImpl(new Population())
    endpoint.wsdlLocation = wsdl
    endpoint.properties = ['schema-validation-enabled': 'true']
    endpoint.inInterceptors.addAll(incoming)
    if (answering != null) {
        def how = [action: 'Timestamp Signature', user: 'service', passwordCallbackRef: passwords, signatureKeyIdentifier: 'DirectReference', signatureParts: parts]
        endpoint.outInterceptors.add(new WSS4JOutInterceptor(how + signing + answering))
        endpoint.features.add(new WSAddressingFeature())
    }
    endpoint.publish("http://127.0.0.1:$port/$path")
}
def signed = { [new WSS4JInInterceptor([action: 'Timestamp Signature'] + signing), new DefaultCryptoCoverageChecker(signBody: true, signTimestamp: true)] }

serve('plain', [])
serve('username', [new WSS4JInInterceptor([action: 'UsernameToken', passwordType: 'PasswordDigest', passwordCallbackRef: passwords])])
serve('signed', signed(), [:])
serve('unsigned', signed(), [action: 'Timestamp'])
serve('body-only', signed(), [signatureParts: body])
serve('sha1', signed(), sha1)
println 'ready'
