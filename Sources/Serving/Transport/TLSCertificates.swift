// The certificate and key that TLS connections begin with, and their replacement while the server runs: a connection
// takes what is current when it is accepted, so a new certificate disturbs nobody, and a bad one changes nothing.
//
// Files are compared by what is in them: mounted secrets are replaced behind links whose own dates stay.

import FoundationEssentials
import NIOSSL
import Synchronization

/// Why TLS cannot be offered with what the files hold.
package enum TLSFileError: Error, Equatable, CustomStringConvertible {
    case unreadable(path: String)
    /// There is no certificate in the file, or one that is damaged.
    case noCertificate(path: String)
    /// There is no private key in the file, or one behind a passphrase.
    case noKey(path: String)
    /// The key is not the one that the certificate is for, or TLS refuses them.
    case mismatch(certificate: String, key: String)

    package var description: String {
        switch self {
        case .unreadable(let path):
            "\(path) cannot be read, or is larger than 1 MiB"
        case .noCertificate(let path):
            "\(path) holds no PEM certificate (-----BEGIN CERTIFICATE-----), or a damaged one"
        case .noKey(let path):
            "\(path) holds no PEM private key (-----BEGIN PRIVATE KEY-----), or one behind a passphrase"
        case .mismatch(let certificate, let key):
            "the key of \(key) does not belong to the first certificate of \(certificate)"
        }
    }
}

/// What TLS is offered with.
package final class TLSCertificates: Sendable {
    /// PEM files.
    package struct Files: Sendable, Equatable {
        /// The server's certificate, then those that lead to its authority.
        package var certificate: String
        /// Its private key; may be the same file.
        package var key: String
        /// Authorities of clients' certificates; nil asks for none.
        package var clientAuthorities: String?
        /// Whether clients must have one of theirs.
        package var clientCertificates: ClientCertificates

        package init(
            certificate: String, key: String, clientAuthorities: String? = nil,
            clientCertificates: ClientCertificates = .required
        ) {
            self.certificate = certificate
            self.key = key
            self.clientAuthorities = clientAuthorities
            self.clientCertificates = clientCertificates
        }
    }

    /// What is asked of clients.
    package enum ClientCertificates: Sendable, Equatable {
        /// Nothing.
        case none
        /// One that is shown must be good.
        case optional
        /// A good one.
        case required
    }

    private struct State {
        var context: NIOSSLContext
        /// Of the files last read, whether or not they were any good.
        var digest: [UInt8]
        var expiry: Int
    }

    private static let maximumFileBytes = 1 << 20
    private let files: Files
    private let state: Mutex<State>

    /// Reads and checks the files.
    package init(_ files: Files) throws(TLSFileError) {
        let contents = try Self.read(files)
        let (context, expiry) = try Self.context(contents, files)
        self.files = files
        state = Mutex(State(context: context, digest: Self.digest(contents), expiry: expiry))
    }

    /// When the certificate ends, in seconds since 1970.
    package var expiry: Int { state.withLock { $0.expiry } }

    /// What the next connection begins with.
    var context: NIOSSLContext { state.withLock { $0.context } }

    /// Takes what the files hold now, if that has changed; on an error, what was current stays.
    /// - Returns: whether there is a new certificate.
    package func refresh() throws(TLSFileError) -> Bool {
        let contents = try Self.read(files)
        let digest = Self.digest(contents)
        let isNew = state.withLock { state in
            defer { state.digest = digest }
            return state.digest != digest
        }
        guard isNew else { return false }
        let (context, expiry) = try Self.context(contents, files)
        state.withLock { state in
            state.context = context
            state.expiry = expiry
        }
        return true
    }

    // MARK: Files

    /// The bytes of the certificate, the key and the authorities.
    private static func read(_ files: Files) throws(TLSFileError) -> [[UInt8]] {
        var contents: [[UInt8]] = []
        for path in [files.certificate, files.key, files.clientAuthorities] {
            guard let path else { continue }
            guard let data = FileManager.default.contents(atPath: path), data.count <= maximumFileBytes else {
                throw .unreadable(path: path)
            }
            contents.append([UInt8](data))
        }
        return contents
    }

    private static func digest(_ contents: [[UInt8]]) -> [UInt8] {
        var hash = SHA256()
        for bytes in contents {
            hash.update(bytes.span)
            hash.update([0].span)
        }
        return hash.bytes()
    }

    private static func context(
        _ contents: [[UInt8]], _ files: Files
    ) throws(TLSFileError) -> (context: NIOSSLContext, expiry: Int) {
        let chain = try certificates(contents[0], files.certificate)
        let key: NIOSSLPrivateKey
        do {
            key = try NIOSSLPrivateKey(bytes: contents[1], format: .pem)
        } catch {
            throw .noKey(path: files.key)
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: chain.map { .certificate($0) }, privateKey: .privateKey(key))
        configuration.minimumTLSVersion = .tlsv12
        configuration.applicationProtocols = ["http/1.1"]
        if let path = files.clientAuthorities {
            configuration.trustRoots = .certificates(try certificates(contents[2], path))
            switch files.clientCertificates {
            case .none: configuration.certificateVerification = .none
            case .optional: configuration.certificateVerification = .optionalVerification
            // A client has no name to compare; its certificate is checked all the same.
            case .required: configuration.certificateVerification = .noHostnameVerification
            }
        }
        do {
            return (try NIOSSLContext(configuration: configuration), chain.map(\.notValidAfter).min() ?? 0)
        } catch {
            throw .mismatch(certificate: files.certificate, key: files.key)
        }
    }

    private static func certificates(_ bytes: [UInt8], _ path: String) throws(TLSFileError) -> [NIOSSLCertificate] {
        do {
            return try NIOSSLCertificate.fromPEMBytes(bytes)
        } catch {
            throw .noCertificate(path: path)
        }
    }
}
