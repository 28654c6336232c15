// TLS as the settings ask for it.

import Foundation
import Serving

extension TLSCertificates {
    /// What TLS is to be offered with; nil where no certificate is configured.
    static func configured(_ settings: ResolvedSettings) throws(StartupError) -> TLSCertificates? {
        guard let certificate = settings.text(.sslCertfile) else { return nil }
        do throws(TLSFileError) {
            return try TLSCertificates(
                Files(
                    certificate: certificate, key: settings.text(.sslKeyfile) ?? certificate,
                    clientAuthorities: settings.text(.sslCACerts), clientCertificates: settings.clientCertificates))
        } catch {
            throw .unusableCertificate(error)
        }
    }

    /// The day on which the certificate ends.
    var end: String {
        Date(timeIntervalSince1970: TimeInterval(expiry)).formatted(.iso8601.year().month().day())
    }
}
